// Package interop has tests only: an independent client of Google Cloud KMS, that of sigstore, uses the fake of package
// fakegcp, so that the fake and the backend of this repository can't share a mistake.
package interop
