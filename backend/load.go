package backend

// Load is how one connection of a backend is doing.
type Load struct {
	Connection string // what it is to: a token's label and slot, a region, a host
	Sessions   int    // that may run operations, or have run one; 0 where there is no such thing
	Busy       int    // operations that are with the key manager
	Waiting    int    // operations that wait for a session or for their turn
	Hung       int    // operations whose callers have left, but which have not returned
	Down       bool   // the circuit breaker is open: operations fail at once, but for the one that tries whether the key manager is back
	Retries    int64  // requests, since the connection was made, that repeated one that failed
}

// Meter is a Backend that knows how its connections are doing.
type Meter interface {
	Backend

	// Load returns how the connections are doing that there are, in a fixed order. It makes no call, and is nil once the backend was closed.
	Load() []Load
}
