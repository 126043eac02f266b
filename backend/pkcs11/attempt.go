package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// attempt runs call, for key unless it is nil, and does what helps when it fails, as long as that is safe: what may have had
// an effect is not done again if once is set. If reusable is false, the call belongs to its worker.
func (c *conn) attempt(d deadline, call *call, key *liveKey, once bool) (reusable bool, err error) {
	doubts, input := 0, true // failures that don't tell what is wrong, and whether all of them may be the input's fault
	forbidden := false       // the token has said so
	var last error
	for n := 1; ; n++ {
		made := c.made.Load()
		if c.down.Load() {
			if err := c.heal(d, made, nil); err != nil {
				return true, err
			}
		}
		var bound *binding
		if key != nil {
			if bound, err = key.bind(d); troubleOf(err) == staleHandle && n < maxAttempts {
				key.unbind(nil) // the connection began anew, or another program removed the key, before it proved itself
				continue
			} else if err != nil {
				return true, err
			}
			call.key, call.epoch = bound.number, bound.epoch
		}
		made = c.made.Load()
		if reusable, err = c.pool.do(d, call); err == nil || !reusable {
			return reusable, err
		}
		if errors.Is(err, errLeaving) {
			if err := call.fate.settled(d); err != nil {
				return true, err
			}
			n-- // nothing was done
			continue
		}
		if call.elsewhere {
			n-- // there are fewer sessions each time that happens
		}
		if n >= maxAttempts || d.ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			return true, err
		}
		if errors.Is(err, errStale) {
			if key == nil && last != nil {
				return true, fmt.Errorf("%w, after %w", err, last)
			} else if key == nil {
				return true, err
			}
			continue // nothing was done
		}
		last = err
		t := troubleOf(err)
		if t == deviceTrouble {
			doubts++
			input = input && call.mayBeInput(err)
		}
		if err := c.remedy(d, failedCall{call, key, bound, made, once, doubts, input, forbidden}, err); err != nil {
			return true, err
		}
		forbidden = forbidden || isForbidden(last)
	}
}

// failedCall is a call that failed, with what attempt knows of it.
type failedCall struct {
	*call
	key    *liveKey // nil if it is no key's
	bound  *binding // of the key
	made   uint64   // conn.made before the call
	once   bool     // it must not be done twice
	doubts int      // failures of it that don't tell what is wrong
	input  bool     // all of these may be its input's fault

	forbidden bool // the token said so before
}

// remedy does what helps against err, with which f failed, and returns nil if it is worth trying again, or else what to tell
// the caller.
func (c *conn) remedy(d deadline, f failedCall, err error) error {
	t := troubleOf(err)
	if f.once && t != callersFault && t != lostLogin && functionOf(err) != "C_OpenSession" {
		// It may have happened: nobody can tell. The connection is healed for the next one.
		if t != exhausted && t != lostSession {
			c.heal(d, f.made, err)
		}
		return err
	}
	switch t {
	case callersFault, pinRefused:
		if isForbidden(err) && f.key != nil && !f.forbidden {
			// It was permitted when the key proved itself. SoftHSM2 says this while another program removes the key.
			f.key.unbind(f.bound)
			return nil
		}
		return err
	case lostSession:
		return nil // the worker opens another one
	case staleHandle:
		if f.key == nil {
			if strings.HasPrefix(functionOf(err), "C_FindObjects") {
				return nil // which got no handle but the session's
			}
			return err
		}
		f.key.unbind(f.bound)
		c.distrust()
		return nil
	case exhausted:
		if f.elsewhere {
			return nil // it waits for one of the sessions that there are
		}
		return c.pool.relieve(d, err)
	case deviceTrouble:
		// A ciphertext that is none looks the same with some modules: don't look closer, whoever sends such things
		// could keep the connection busy with that.
		if f.doubts == 2 && f.input || f.doubts > 2 {
			return err
		}
		if f.doubts == 1 {
			return nil // in another session
		}
	}
	return c.heal(d, f.made, err)
}
