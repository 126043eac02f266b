package managedkey

import (
	"context"
	"time"

	"github.com/managedkeys/managedkeys/namespace"
)

// Denial is a request that a front end, such as package httpapi, refused because of who made it. No key was reached, so that no
// [Operation] tells of it. Everything but Credential may be recorded as it is.
type Denial struct {
	Time      time.Time
	Actor     Actor          // as far as it is known; of somebody unknown only the address and the request
	Namespace namespace.Path // in which something was asked for
	Path      string         // what it was asked for, within the namespace; it is the caller's text
	MountID   string         // of the mount that the path leads to; or empty
	MountPath string         // of that mount
	Operation string         // what was asked for: capabilities by name, such as "update" or "sudo,update"; of somebody unknown, by the method alone
	Class     string         // why: the name of a sentinel, such as "ErrNotPermitted"
	Reason    string         // why, for people; one of a few texts, none of which is the caller's

	// Credential is what somebody unknown showed, such as a token; no content if nothing was shown, or if the actor is known.
	Credential Content

	// Omitted is how many other denials were not told of, because there were too many. A Denial that has it says nothing else but when.
	Omitted uint64
}

// DenialObserver is an [Observer] that is told of refused requests as well. [Observers] hands them on to those of its list that are.
type DenialObserver interface {
	Observer

	// Denied is called once for each refused request that is told of, on the goroutine that answers it. It must not wait for anything:
	// whoever makes it wait need not be known. The Denial must not be changed, nor its Credential be used later.
	Denied(ctx context.Context, d *Denial)
}

// Denied tells the registry's observer of a refused request, if it is a [DenialObserver]. It is for front ends, which bound how many
// they tell of: everybody can make requests that are refused.
func (r *Registry) Denied(ctx context.Context, d *Denial) {
	by := r.observer.Load()
	if by == nil {
		return
	}
	if o, ok := (*by).(DenialObserver); ok {
		o.Denied(ctx, d)
	}
}

// Denied implements [DenialObserver].
func (all observers) Denied(ctx context.Context, d *Denial) {
	for _, o := range all {
		if o, ok := o.(DenialObserver); ok {
			o.Denied(ctx, d)
		}
	}
}
