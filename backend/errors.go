package backend

import (
	"context"
	"errors"
	"fmt"
)

// The kinds of failure, for errors.Is. Backends wrap one of them together with the key manager's own error.
var (
	// ErrKeyNotFound: the key manager has no key that matches the parameters.
	ErrKeyNotFound = errors.New("key not found")

	// ErrKeyExists: a key would have been replaced and that was not asked for.
	ErrKeyExists = errors.New("key already exists")

	// ErrAmbiguousKey: more than one key matches the parameters. The error lists the candidates.
	ErrAmbiguousKey = errors.New("more than one key matches")

	// ErrUnsupported: the key manager or this key can't do what was asked. It wraps errors.ErrUnsupported.
	ErrUnsupported = fmt.Errorf("%w by this key", errors.ErrUnsupported)

	// ErrNotPermitted: the key exists, but policy forbids this use of it; the key manager's or that of the registry.
	ErrNotPermitted = errors.New("not permitted")

	// ErrUnavailable: the key manager can't be reached or doesn't answer in time. Trying again later may help.
	ErrUnavailable = errors.New("key manager unavailable")

	// ErrClosed: the Backend was closed. It wraps ErrUnavailable.
	ErrClosed = fmt.Errorf("%w: closed", ErrUnavailable)

	// ErrThrottled: the key manager refused the call because of its rate or quota.
	ErrThrottled = errors.New("throttled by the key manager")

	// ErrCredentials: the key manager refused the credentials, or they can't be had. It is never retried.
	ErrCredentials = errors.New("credentials refused or missing")

	// ErrKeyDisabled: the key exists but is disabled, expired, or on its way to deletion.
	ErrKeyDisabled = errors.New("key disabled")

	// ErrKeyChanged: the key manager now has another key where the pinned one was.
	ErrKeyChanged = errors.New("key is not the one that was pinned")

	// ErrIntegrity: the key manager's answer was damaged on its way, or is not the answer to what was asked: a checksum, a
	// name or a version in it is wrong. Nothing of it was used.
	ErrIntegrity = errors.New("answer failed an integrity check")

	// ErrInvalidSignature: a signature or MAC does not verify.
	ErrInvalidSignature = errors.New("invalid signature")

	// ErrDecryption: a ciphertext could not be decrypted. Deliberately it never says why, and has nothing else in its
	// chain, because the reason would help to forge ciphertexts.
	ErrDecryption = errors.New("decryption failed")

	// ErrInvalidParams: parameters, options or input are malformed or contradict each other.
	ErrInvalidParams = errors.New("invalid parameters")
)

// ContextError says why ctx ended, for drivers that find a call's context ended: a deadline that passed means that the key manager
// did not answer in time, and the error wraps ErrUnavailable; a cancelled context is the caller's own doing. The error wraps ctx.Err()
// and context.Cause(ctx). It is nil if ctx has not ended.
func ContextError(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	late := errors.Is(err, context.DeadlineExceeded)
	if cause := context.Cause(ctx); cause != err {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if late {
		err = fmt.Errorf("%w: no answer in time: %w", ErrUnavailable, err)
	}
	return err
}
