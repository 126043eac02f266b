package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bound what one request, one client and all of them may take. Zero values are the defaults.
type Limits struct {
	Body          int64                      // bytes of a body: 1 MiB
	Timeout       time.Duration              // of a request, once its header is read: 90 s
	Concurrent    int                        // requests at once: 1024; those above it are answered 503
	ClientRate    float64                    // requests per second of one client address: not limited. Those above it are answered 429
	ClientBurst   int                        // requests that a client may make at once within that rate: twice the rate
	ClientAddress func(*http.Request) string // who the client is: the host of RemoteAddr. For servers behind a proxy that can be trusted
}

func (l Limits) complete() Limits {
	if l.Body <= 0 {
		l.Body = 1 << 20
	}
	if l.Timeout <= 0 {
		l.Timeout = 90 * time.Second
	}
	if l.Concurrent <= 0 {
		l.Concurrent = 1024
	}
	if l.ClientBurst <= 0 {
		l.ClientBurst = max(1, int(2*l.ClientRate))
	}
	if l.ClientAddress == nil {
		l.ClientAddress = remoteHost
	}
	return l
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// maxClients is how many clients a generation of rates holds: memory is bounded, whoever asks.
const maxClients = 8192

// rates are the token buckets of clients. Those who were not seen for a whole generation are forgotten.
type rates struct {
	limit rate.Limit
	burst int

	mu       sync.Mutex
	now, old map[string]*rate.Limiter
}

// allow reports whether a client may make one more request.
func (r *rates) allow(client string) bool { return r.allowAt(time.Now(), client) }

func (r *rates) allowAt(now time.Time, client string) bool {
	if r.limit <= 0 {
		return true
	}
	// Whoever has an IPv6 address has 2^64 of them.
	if addr, err := netip.ParseAddr(client); err == nil && addr.Is6() && !addr.Is4In6() {
		if prefix, err := addr.Prefix(64); err == nil {
			client = prefix.String()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	bucket := r.now[client]
	if bucket == nil {
		if bucket = r.old[client]; bucket == nil {
			bucket = rate.NewLimiter(r.limit, r.burst)
		}
		if len(r.now) >= maxClients || r.now == nil {
			r.old, r.now = r.now, make(map[string]*rate.Limiter)
		}
		r.now[client] = bucket
	}
	return bucket.AllowN(now, 1)
}

func newRates(l Limits) rates { return rates{limit: rate.Limit(l.ClientRate), burst: l.ClientBurst} }
