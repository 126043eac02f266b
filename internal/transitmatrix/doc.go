// Package transitmatrix proves package transit: each operation with each kind of key in each backend. What works is checked by the
// standard library, OpenSSL or the service's own SDK; what doesn't is listed with the reason that the error must give. The README's
// table of transit is made of what works. Everything is in the tests.
package transitmatrix
