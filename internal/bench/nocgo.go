//go:build !cgo

package main

import (
	"errors"

	"github.com/managedkeys/managedkeys/internal/softhsm"
)

var (
	contenderNames []string
	contenders     map[string]contender
)

func tokenEnv(*softhsm.Token) []string { return nil }

// makeKeys says why there is nothing to measure.
func makeKeys(*softhsm.Token) error {
	return errors.New("the contenders on a PKCS#11 token need cgo; build with CGO_ENABLED=1 and a C compiler")
}
