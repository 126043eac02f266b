package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"flag"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/pki"
)

var long = flag.Bool("long", false, "crls, issuing: also lists with a million entries, and a million certificates, which take minutes to prepare")

// What is measured: the entries of lists, how many lists they are divided among, the changes of delta lists, and how many certificates
// are revoked one after the other.
var (
	crlSizes       = []int{1000, 100_000}
	crlShards      = 100
	crlChanges     = []int{1, 10, 10_000}
	crlRevocations = 20
)

// crls prints what revocation lists cost by their length.
func (w *workplace) crls() error {
	sizes := crlSizes
	if *long {
		sizes = append(slices.Clone(sizes), 1_000_000)
	}
	fmt.Printf("A CRL by the number of its entries, signed with a P-256 software key, revocations in bolt: CPU time of making it from all of them, and of\n" +
		"making the next one after one more revocation; beside x509.CreateRevocationList from entries that are in memory already. Growth is that of\n" +
		"the time from one row to the next by that of the entries: 1 is linear. CPU time, because the machine is shared.\n\n")
	lists, changes := newTable(), tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(lists, "entries\tstandard library\tfrom all\tratio\tgrowth\tone more\tgrowth\tlist's MiB\t")
	fmt.Fprint(changes, "entries\trevoking one\t")
	for _, n := range crlChanges {
		fmt.Fprintf(changes, "%d changed\t", n)
	}
	fmt.Fprintln(changes)
	var last *crlTimes
	for _, n := range sizes {
		x, err := w.crlsOf(n)
		if err != nil {
			return err
		}
		all, more := math.NaN(), math.NaN()
		if last != nil {
			entries := float64(n) / float64(last.entries)
			all, more = median(x.all)/median(last.all)/entries, median(x.more)/median(last.more)/entries
		}
		last = x
		fmt.Fprintf(lists, "%d\t%v\t%v\t%.2f\t%s\t%v\t%s\t%.1f\t\n", n, ms(median(x.by)), ms(median(x.all)), ratio(x.all, x.by), cell("%.2f", all),
			ms(median(x.more)), cell("%.2f", more), x.size)
		fmt.Fprintf(changes, "%d\t%v\t", n, ms(x.revoke))
		for _, delta := range x.delta {
			fmt.Fprintf(changes, "%v\t", ms(delta))
		}
		fmt.Fprintln(changes)
	}
	if err := lists.Flush(); err != nil {
		return err
	}
	fmt.Printf("\nCPU time of revoking one certificate, mean of %d, and of a delta list with so many changes, by the entries of the complete list.\n\n", crlRevocations)
	if err := changes.Flush(); err != nil {
		return err
	}
	fmt.Println()
	return w.crlMemory(sizes)
}

func newTable() *tabwriter.Writer {
	return tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
}

// ms rounds seconds.
func ms(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Microsecond)
}

// crlTimes are CPU seconds.
type crlTimes struct {
	entries       int
	by, all, more []float64 // of rounds: the standard library's, of a list from all revocations, and of the next one
	revoke        float64   // of one revocation
	delta         []float64 // by crlChanges
	size          float64   // of a list in MiB
}

func (w *workplace) crlsOf(n int) (*crlTimes, error) {
	ctx := context.Background()
	path := filepath.Join(w.dir, fmt.Sprintf("crls-%d", n))
	defer os.Remove(path)
	st, err := bolt.Open(path, nil)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	a, closeAll, err := newAuthority(ctx, st)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	if err := a.fill(ctx, st, n, 0); err != nil {
		return nil, err
	}
	x := &crlTimes{entries: n}
	for round := range min(*rounds, 3) {
		used, err := a.standardList(n)
		if err != nil {
			return nil, err
		}
		x.by = append(x.by, used)
		used, crl, err := timed(n+round, func() (*pki.CRL, error) { return a.RotateCRL(ctx, "root") })
		if err != nil {
			return nil, err
		}
		x.all, x.size = append(x.all, used), float64(len(crl.DER))/(1<<20)
		if _, err := a.revoke(ctx, 1); err != nil {
			return nil, err
		}
		used, _, err = timed(n+round+1, func() (*pki.CRL, error) { return a.CRL(ctx, "root") })
		if err != nil {
			return nil, err
		}
		x.more = append(x.more, used)
	}
	if x.revoke, err = a.revoke(ctx, crlRevocations); err != nil {
		return nil, err
	}
	return x, a.deltas(ctx, st, x)
}

// revoke issues certificates and revokes them. It returns the CPU seconds of revoking one.
func (a *authority) revoke(ctx context.Context, n int) (float64, error) {
	var serials []string
	for range n {
		pair, err := a.Issue(ctx, "r", pki.IssueRequest{CommonName: "www.example.com"})
		if err != nil {
			return 0, err
		}
		serials = append(serials, pki.FormatSerial(pair.Certificate.SerialNumber))
	}
	runtime.GC()
	used := cpuSeconds()
	for _, serial := range serials {
		if _, err := a.Revoke(ctx, serial, pki.ReasonSuperseded, time.Time{}); err != nil {
			return 0, err
		}
	}
	return (cpuSeconds() - used) / float64(n), nil
}

// deltas measures delta lists.
func (a *authority) deltas(ctx context.Context, st store.Store, x *crlTimes) error {
	if err := a.SetCRLConfig(ctx, pki.CRLConfig{AutoRebuild: true, Delta: true}); err != nil {
		return err
	}
	if _, err := a.RotateCRL(ctx, "root"); err != nil {
		return err
	}
	changed := 0
	for _, n := range crlChanges {
		if err := a.change(ctx, st, x.entries+changed, n-changed); err != nil {
			return err
		}
		changed = n
		var times []float64
		for range min(*rounds, 3) {
			used, _, err := timed(n, func() (*pki.CRL, error) { return a.RotateScopedCRL(ctx, "root", pki.CRLScope{Delta: true}) })
			if err != nil {
				return err
			}
			times = append(times, used)
		}
		x.delta = append(x.delta, median(times))
	}
	return nil
}

// timed returns the CPU seconds of make, with nothing else to collect. The list must have so many entries.
func timed(entries int, make func() (*pki.CRL, error)) (float64, *pki.CRL, error) {
	runtime.GC()
	used := cpuSeconds()
	crl, err := make()
	used = cpuSeconds() - used
	if err == nil && crl != nil && crl.Entries != entries {
		err = fmt.Errorf("the list has %d entries; want %d", crl.Entries, entries)
	}
	return used, crl, err
}

// standardList returns the CPU seconds that the standard library takes for such a list.
func (a *authority) standardList(n int) (float64, error) {
	entries, at := make([]x509.RevocationListEntry, n), time.Now().Add(-time.Hour)
	for i := range entries {
		entries[i] = x509.RevocationListEntry{SerialNumber: fullSerial(i), RevocationTime: at}
	}
	used, _, err := timed(n, func() (*pki.CRL, error) {
		_, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
			RevokedCertificateEntries: entries}, a.bareCert, a.bare)
		return nil, err
	})
	return used, err
}
