package httpapi_test

import (
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/managedkeys/managedkeys/namespace"
	"github.com/managedkeys/managedkeys/pki"
)

func ref(name string) namespace.Ref { return namespace.Ref{Name: name} }

func leafSerial(cert *x509.Certificate) string { return pki.FormatSerial(cert.SerialNumber) }

// clock is a time that is set.
type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) set(t time.Time) { c.at.Store(&t) }
func (c *clock) now() time.Time  { return *c.at.Load() }
