package managedkey

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// TestUpdateWaitsForRotate: an update that has to wait for a rotation, which was under way when it began, doesn't put the old
// key into the place of the new version.
func TestUpdateWaitsForRotate(t *testing.T) {
	r, c, one := rotating(t, "ca")
	c.set("copy", fakeKey{"ca#1"})
	entered, release := make(chan struct{}), make(chan struct{})
	c.before = func(_ context.Context, op, _ string) error {
		if op == "generate" {
			close(entered)
			<-release
		}
		return nil
	}
	rotated := make(chan error, 1)
	go func() {
		_, err := r.Rotate(bg, ref("team-a/ca"), nil)
		rotated <- err
	}()
	<-entered
	in, err := r.Entry(ref("team-a/ca"))
	require.NoError(t, err)
	in.Params = params{Label: "copy"}
	waits := &watchedClient{Context: bg, asked: make(chan struct{}, 8)}
	updated := make(chan error, 1)
	go func() { updated <- r.Update(waits, in) }()
	<-waits.asked // it waits for the rotation
	close(release)
	require.NoError(t, <-rotated)
	check(t, <-updated, store.ErrConflict, "rotated")
	two := mustKey(t, r, "team-a/ca")
	assert.Equal(t, 2, two.Version())
	signsAs(t, two, "ca-v2#2")
	signsAs(t, one, "ca#1")
}

// watchedClient is a context that tells when somebody waits for its end.
type watchedClient struct {
	context.Context
	asked chan struct{}
}

func (w *watchedClient) Done() <-chan struct{} {
	select {
	case w.asked <- struct{}{}:
	default:
	}
	return w.Context.Done()
}
