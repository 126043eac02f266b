package httpapi

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/managedkeys/managedkeys/managedkey"
)

// The classes of refused requests: names of the sentinels.
const (
	classNone         = "ErrNoCredentials"
	classDenied       = "ErrDenied"
	classNotPermitted = "ErrNotPermitted"
)

// What is told of refused requests: of each client, and of all that are known, and of all that aren't. A line of an audit file has some
// 500 bytes, so that who isn't let in fills less than half a gigabyte of it in a day, however many there are.
const (
	deniedPerClient, deniedPerClientBurst rate.Limit = 1, 20
	deniedInAll, deniedInAllBurst         rate.Limit = 10, 500

	// summary is how long after the first request that isn't told of their number is.
	summary = time.Minute
)

// denial is why a request is refused.
type denial struct {
	class, reason string
	seems         *Identity // who it seems to be, if that is known; it isn't to be trusted
}

// deny notes why the request is refused, and returns what it is answered.
func (c *call) deny(class, reason string, seems *Identity) error {
	c.denial = denial{class, reason, seems}
	return errForbidden
}

// denied tells of the request, which is being answered with 401 or 403. What nobody noted is an engine's refusal.
func (c *call) denied() {
	d := &managedkey.Denial{
		Time: time.Now(), Actor: managedkey.Actor{Address: c.api.limits.ClientAddress(c.r), RequestID: c.requestID},
		Namespace: c.ns, Path: c.path, Class: c.denial.class, Reason: c.denial.reason,
	}
	if d.Class == "" {
		d.Class, d.Reason = classNotPermitted, "the mount's engine refused it"
	}
	if c.mount != nil {
		d.MountID, d.MountPath = c.mount.ID(), c.mount.Path()
	}
	if c.wanted == 0 {
		c.wanted = c.capability(nil)
	}
	d.Operation = strings.Join(c.wanted.Names(), ",")
	who := c.id
	if who == nil {
		who = c.denial.seems
	}
	client := d.Actor.Address
	known := who != nil && d.Class != classNone && d.Class != classDenied
	if who != nil {
		d.Actor.ID, d.Actor.Name = who.ID, who.Name
	}
	if d.Actor.ID == "" {
		d.Credential = c.shown()
	}
	if known {
		client = "id " + who.ID // of which nobody else can use up what is told
	}
	c.api.denials.tell(c.r.Context(), d, client, known)
}

// shown returns what the request has of credentials: its token, or else the certificate of the connection.
func (c *call) shown() managedkey.Content {
	token, err := tokenOf(c.r.Header)
	switch {
	case err != nil:
	case token != "":
		return managedkey.NewContent([]byte(token))
	case c.r.TLS != nil && len(c.r.TLS.PeerCertificates) > 0:
		return managedkey.NewContent(c.r.TLS.PeerCertificates[0].Raw)
	}
	return managedkey.Content{}
}

// denials tells the registry's observer of refused requests, as far as there are not too many.
type denials struct {
	keys    *managedkey.Registry
	now     func() time.Time
	clients rates
	known   *rate.Limiter // of callers who are known: those who aren't leave that to them
	unknown *rate.Limiter

	mu      sync.Mutex
	omitted uint64
	later   *time.Timer // tells how many were omitted; nil if none were
	closed  bool
}

func newDenials(keys *managedkey.Registry) denials {
	return denials{
		keys: keys, now: time.Now, clients: rates{limit: deniedPerClient, burst: int(deniedPerClientBurst)},
		known: rate.NewLimiter(deniedInAll, int(deniedInAllBurst)), unknown: rate.NewLimiter(deniedInAll, int(deniedInAllBurst)),
	}
}

func (all *denials) tell(ctx context.Context, d *managedkey.Denial, client string, known bool) {
	now, inAll := all.now(), all.unknown
	if known {
		inAll = all.known
	}
	if all.clients.allowAt(now, client) && inAll.AllowN(now, 1) {
		all.keys.Denied(ctx, d)
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.omitted++
	if all.later == nil && !all.closed {
		all.later = time.AfterFunc(summary, all.sum)
	}
}

// sum tells how many were omitted.
func (all *denials) sum() {
	all.mu.Lock()
	n := all.omitted
	all.omitted, all.later = 0, nil
	all.mu.Unlock()
	if n > 0 {
		all.keys.Denied(context.Background(), &managedkey.Denial{Time: all.now(), Omitted: n})
	}
}

func (all *denials) close() {
	all.mu.Lock()
	all.closed = true
	if all.later != nil {
		all.later.Stop()
	}
	all.mu.Unlock()
	all.sum()
}
