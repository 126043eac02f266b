package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/managedkeys/managedkeys/managedkey"
)

var someDenial = managedkey.Denial{
	Time: time.Unix(1, 0), Actor: managedkey.Actor{Address: "192.0.2.1", RequestID: "r-7"}, Namespace: "team-a", Path: "pki/\"x\"\n",
	MountID: "id", MountPath: "pki", Operation: "update", Class: "ErrDenied", Reason: "the credentials were refused",
	Credential: managedkey.NewContent([]byte("mk.a token")),
}

// TestDenied: a refused request is one line, also of a log that fails closed, in which the token is a keyed hash.
func TestDenied(t *testing.T) {
	path := fileIn(t)
	var text bytes.Buffer
	l := open(t, &Options{FailClosed: AllSinks}, File{Path: path}, Slog{slog.New(slog.NewTextHandler(&text, nil))})
	l.Denied(t.Context(), &someDenial)
	l.Denied(t.Context(), &managedkey.Denial{Omitted: 12})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := lines(t, path)
	if r := whole(t, path); r.Lines != 5 || len(r.Open) != 0 {
		t.Fatalf("found %+v: %q", r, all)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(all[2]), &got); err != nil {
		t.Fatal(err)
	}
	input, err := InputHMAC(testKey, []byte("mk.a token"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"type": "denied", "time": "1970-01-01T00:00:01.000000000Z", "address": "192.0.2.1", "request": "r-7", "actor": nil, "namespace": "team-a",
		"path": "pki/\"x\"\n", "mount": "pki", "mount_id": "id", "operation": "update", "error": "ErrDenied", "options": "the credentials were refused",
		"input": input, "omitted": nil, "duration_ns": nil,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if !strings.Contains(all[3], `"type":"denied"`) || !strings.Contains(all[3], `"omitted":12`) {
		t.Errorf("the sum is %s", all[3])
	}
	if s := text.String(); !strings.Contains(s, "audit.omitted=12") || !strings.Contains(s, "audit.path=") || strings.Contains(s+strings.Join(all, ""), "a token") {
		t.Errorf("logged %s", s)
	}
}

// TestDeniedNeverWaits: while a sink hangs, refused requests neither wait, even if the log fails closed, nor take the room of operations;
// and what was lost is counted.
func TestDeniedNeverWaits(t *testing.T) {
	release := make(chan struct{})
	var sink failing
	sink.set(func() error { <-release; return errors.New("too late") })
	l := open(t, &Options{FailClosed: AllSinks, Queue: 16, Timeout: time.Hour}, sink.sink("s"))
	for range 100 {
		l.Denied(t.Context(), &someDenial)
	}
	stats := l.Stats()[0]
	if stats.Waiting != 5 || stats.Lost != 95 {
		t.Errorf("it has %+v", stats)
	}
	sink.set(nil)
	close(release)
	if err := sign(signer(t, l), t.Context()); err != nil { // waits for what is before it
		t.Error(err)
	}
}
