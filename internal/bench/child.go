package main

import (
	"bufio"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// signFunc signs a SHA-256 digest.
type signFunc func(digest []byte) error

// contender opens its keys and returns how it signs with each of the algorithms.
type contender func() (map[string]signFunc, error)

// serve answers lines of algorithm, number of goroutines and duration with a rate.
func serve(name string, in io.Reader, out io.Writer) error {
	open, ok := contenders[name]
	if !ok {
		return fmt.Errorf("no contender %q", name)
	}
	sign, err := open()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 3 || sign[fields[0]] == nil {
			return fmt.Errorf("%s: can't do %q", name, lines.Text())
		}
		var n int
		if _, err := fmt.Sscan(fields[1], &n); err != nil {
			return err
		}
		d, err := time.ParseDuration(fields[2])
		if err != nil {
			return err
		}
		rate, err := measure(sign[fields[0]], n, d)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, fields[0], err)
		}
		fmt.Fprintln(out, rate)
	}
	return nil
}

// measure signs from n goroutines for d and returns signatures per second.
func measure(sign signFunc, n int, d time.Duration) (float64, error) {
	var count atomic.Int64
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	start := time.Now()
	end := start.Add(d)
	for range n {
		wg.Go(func() {
			digest := sha256.Sum256([]byte("message"))
			for time.Now().Before(end) {
				if err := sign(digest[:]); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(count.Load()) / time.Since(start).Seconds(), failed
}

// withSigners returns the functions for an ECDSA and an RSA key.
func withSigners(ec, rsaKey crypto.Signer) map[string]signFunc {
	pss := &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}
	sign := func(key crypto.Signer, opts crypto.SignerOpts) signFunc {
		return func(digest []byte) error {
			_, err := key.Sign(rand.Reader, digest, opts)
			return err
		}
	}
	return map[string]signFunc{
		algorithms[0]: sign(ec, crypto.SHA256),
		algorithms[1]: sign(rsaKey, crypto.SHA256),
		algorithms[2]: sign(rsaKey, pss),
	}
}
