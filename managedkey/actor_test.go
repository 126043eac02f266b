package managedkey

import (
	"context"
	"testing"
)

func TestActor(t *testing.T) {
	ctx := context.Background()
	if got := ActorOf(ctx); got != (Actor{}) {
		t.Errorf("nobody is %+v", got)
	}
	want := Actor{ID: "accessor", Name: "alice", Address: "192.0.2.1:443", RequestID: "1"}
	if got := ActorOf(WithActor(WithActor(ctx, Actor{ID: "other"}), want)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
