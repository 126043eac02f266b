package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// network prints the rates on a token whose every call takes longer, as those to an HSM on a network do: what counts then
// is how many calls an operation makes.
func (w *workplace) network() error {
	token, err := w.token()
	if err != nil {
		return err
	}
	program, err := w.compile()
	if err != nil {
		return err
	}
	if err := os.Setenv(envReal, token.Module); err != nil {
		return err
	}
	slow := *token
	slow.Module = filepath.Join(filepath.Dir(program), "slow.so")
	fmt.Printf("Network: the same with 0.5 ms added to each call of the module; median of %d rounds of %v, ratios within a round.\n\n",
		*rounds, *window)
	return w.pkcs11Rates(&slow, []string{algorithms[0], algorithms[5]}, networkThreads)
}
