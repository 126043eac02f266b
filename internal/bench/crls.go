package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/pki"
)

var long = flag.Bool("long", false, "crls, issuing: also a list with a million entries, and a million certificates, which takes minutes to prepare")

// crlSizes are the entries of lists.
var crlSizes = []int{1000, 100_000}

// crls prints what revocation lists cost by their length.
func (w *workplace) crls() error {
	sizes := crlSizes
	if *long {
		sizes = append(slices.Clone(sizes), 1_000_000)
	}
	fmt.Printf("A CRL by the number of its entries, signed with a P-256 software key, revocations in bolt: CPU time of making it from all of them, of\n" +
		"making the next one after one more revocation, and of the delta list that has this one; what the first takes of memory at its peak\n" +
		"beside what was there; and x509.CreateRevocationList from entries that are in memory already. CPU time, because the machine is shared.\n\n")
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "entries\tstandard library\tfrom all\tratio\tpeak MiB\tone more\tdelta\tlist's MiB\t")
	for _, n := range sizes {
		if err := w.crlsOf(n, out); err != nil {
			return err
		}
	}
	return out.Flush()
}

func (w *workplace) crlsOf(n int, out *tabwriter.Writer) error {
	ctx := context.Background()
	path := filepath.Join(w.dir, fmt.Sprintf("crls-%d", n))
	defer os.Remove(path)
	st, err := bolt.Open(path, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	a, closeAll, err := newAuthority(ctx, st)
	defer closeAll()
	if err != nil {
		return err
	}
	if err := a.fill(ctx, st, n); err != nil {
		return err
	}
	revoke := func() error {
		pair, err := a.Issue(ctx, "r", pki.IssueRequest{CommonName: "www.example.com"})
		if err == nil {
			_, err = a.Revoke(ctx, pki.FormatSerial(pair.Certificate.SerialNumber), pki.ReasonSuperseded, time.Time{})
		}
		return err
	}
	list := func() (*pki.CRL, error) { return a.RotateCRL(ctx, "root") }
	var by, all, more, delta []float64
	var peak, size float64
	for round := range min(*rounds, 3) {
		used, err := a.standardList(n)
		if err != nil {
			return err
		}
		by = append(by, used)
		stop := watchMemory()
		used, crl, err := timed(list)
		memory := stop()
		if err != nil {
			return err
		}
		if crl.Entries != n+round {
			return fmt.Errorf("the list has %d entries; want %d", crl.Entries, n+round)
		}
		all, peak, size = append(all, used), max(peak, memory), float64(len(crl.DER))/(1<<20)
		if err := revoke(); err != nil {
			return err
		}
		used, crl, err = timed(func() (*pki.CRL, error) { return a.CRL(ctx, "root") })
		if err != nil {
			return err
		}
		if crl.Entries != n+round+1 {
			return fmt.Errorf("the next list has %d entries; want %d", crl.Entries, n+round+1)
		}
		more = append(more, used)
	}
	if err := a.SetCRLConfig(ctx, pki.CRLConfig{AutoRebuild: true, Delta: true}); err != nil {
		return err
	}
	if err := revoke(); err != nil {
		return err
	}
	for range min(*rounds, 3) {
		used, crl, err := timed(func() (*pki.CRL, error) { return a.RotateScopedCRL(ctx, "root", pki.CRLScope{Delta: true}) })
		if err != nil {
			return err
		}
		if crl.Entries != 1 {
			return fmt.Errorf("the delta list has %d entries; want 1", crl.Entries)
		}
		delta = append(delta, used)
	}
	ms := func(x []float64) time.Duration {
		return time.Duration(median(x) * float64(time.Second)).Round(100 * time.Microsecond)
	}
	fmt.Fprintf(out, "%d\t%v\t%v\t%.2f\t%.0f\t%v\t%v\t%.1f\t\n", n, ms(by), ms(all), ratio(all, by), peak, ms(more), ms(delta), size)
	return nil
}

// timed returns the CPU seconds of make, with nothing else to collect.
func timed(make func() (*pki.CRL, error)) (float64, *pki.CRL, error) {
	runtime.GC()
	used := cpuSeconds()
	crl, err := make()
	return cpuSeconds() - used, crl, err
}

// fill stores revocations of certificates that never were, as package pki does.
func (a *authority) fill(ctx context.Context, st store.Store, n int) error {
	cert := a.root.Certificate()
	sum := sha256.Sum256(slices.Concat(cert.RawSubject, cert.RawSubjectPublicKeyInfo))
	at := time.Now().UTC().Add(-time.Hour)
	for i := 0; i < n; i += store.MaxOps {
		var ops []store.Op
		for j := i; j < min(n, i+store.MaxOps); j++ {
			serial := fullSerial(j)
			der, err := asn1.Marshal(struct {
				Serial *big.Int
				At     time.Time
			}{serial, at})
			if err != nil {
				return err
			}
			ops = append(ops, store.Op{Key: fmt.Sprintf("pki/%s/revoked/%x/%040x", a.mount.ID(), sum[:16], serial), Value: der})
		}
		if _, err := st.Apply(ctx, ops...); err != nil {
			return err
		}
	}
	return nil
}

// fullSerial is as long as those that are issued.
func fullSerial(i int) *big.Int { return new(big.Int).SetBit(big.NewInt(int64(i)), 142, 1) }

// standardList returns the CPU seconds that the standard library takes for such a list.
func (a *authority) standardList(n int) (float64, error) {
	entries, at := make([]x509.RevocationListEntry, n), time.Now().Add(-time.Hour)
	for i := range entries {
		entries[i] = x509.RevocationListEntry{SerialNumber: fullSerial(i), RevocationTime: at}
	}
	used, _, err := timed(func() (*pki.CRL, error) {
		_, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
			RevokedCertificateEntries: entries}, a.bareCert, a.bare)
		return nil, err
	})
	return used, err
}

// watchMemory looks at the heap until the function that it returns is called, which returns how many MiB were there at most above what
// was there before, garbage included.
func watchMemory() func() float64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() float64 {
		metrics.Read(sample)
		return float64(sample[0].Value.Uint64()) / (1 << 20)
	}
	runtime.GC()
	before, most := read(), 0.0
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				most = max(most, read())
			}
		}
	}()
	return func() float64 {
		close(end)
		<-done
		return max(most, read()) - before
	}
}
