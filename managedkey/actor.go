package managedkey

import "context"

// Actor is on whose behalf something is done, as far as the program knows: it is recorded, and decides nothing here.
type Actor struct {
	ID        string // stable, such as the accessor of a token or the subject of a certificate; never a secret
	Name      string // for people
	Address   string // where the request came from
	RequestID string // of the request
}

type actorKey struct{}

// WithActor returns a context that says on whose behalf what is done with it is done.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns what [WithActor] put into ctx; the zero value if nobody did.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}
