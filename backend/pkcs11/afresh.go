package pkcs11

import (
	"errors"
	"slices"
	"time"
)

// How often one attempt to connect initialises the module again: at most maxAfresh times, and once if that takes long; and
// then nobody does for at least restPause and restFactor times what it took, so that asking again and again for a token
// that is not there costs little.
const (
	maxAfresh   = 4
	afreshPause = 5 * time.Millisecond // before the first time; tripled each time
	afreshTime  = 300 * time.Millisecond
	restPause   = time.Second
	restFactor  = 10
)

// afresh is what connecting does if a token is in no slot, or its login fails with an error that says nothing: the module is
// initialised again, although none of its functions says that this is needed.
//
// Modules look for tokens when they are initialised. SoftHSM2 does so while another process may be writing a token's file,
// as each C_Login does: the file is then empty and not locked, for milliseconds if the machine is busy. It then leaves out
// the token, or has a token without flags whose C_Login is CKR_GENERAL_ERROR, until it is initialised again.
//
// It is not done while a connection is up, which would lose its sessions for what may be a misspelt label, nor while a
// call is in the module. The instance's busy is held by whoever has one.
type afresh struct {
	instance *instance
	began    time.Time
	left     int   // times
	failed   error // of the login, or nil
}

func (i *instance) afresh() *afresh {
	f := &afresh{instance: i, began: time.Now(), left: maxAfresh}
	if f.began.Before(i.rest) {
		f.left = 0
	}
	return f
}

// again returns whether to look again, with a module that was initialised again if that harms nobody. If not, it is worth one
// more look all the same: tokens that could not be asked for their names are not listed.
func (f *afresh) again() (bool, error) {
	if f.left == 0 || f.left < maxAfresh && time.Since(f.began) >= afreshTime {
		return false, nil
	}
	pause := afreshPause
	for range maxAfresh - f.left {
		pause *= 3
	}
	time.Sleep(pause)
	f.left--
	i := f.instance
	others := i.others(nil)
	if i.foreign.Load() || slices.ContainsFunc(others, (*conn).isUp) {
		f.left = 0
		return true, nil
	}
	m, done, ok := i.exclusive(0)
	if !ok {
		f.left = 0
		return true, nil
	}
	defer done()
	m.Finalize()
	err := i.begin(nil, others, i.initialize)
	i.rest = time.Now().Add(max(restPause, restFactor*time.Since(f.began)))
	return true, err
}

// mayHelp reports whether to connect again after err, before which it does what again does. The PIN is not given again if
// the token has counted a wrong one: see attach.
func (f *afresh) mayHelp(err error) bool {
	if functionOf(err) != "C_Login" || !errors.Is(err, ckrGeneralError) {
		return false
	}
	f.failed = err
	again, e := f.again()
	return again && e == nil
}
