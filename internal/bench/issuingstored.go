package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
)

// issuingSizes are how many certificates are stored already, and issuingHistory how many revisions the store keeps.
var (
	issuingSizes   = []int{1000, 100_000}
	issuingHistory = bolt.DefaultHistory
)

// storedCertificate is what package pki stores of a certificate, to be stored again with other serial numbers.
type storedCertificate struct {
	serial  *big.Int
	records []store.Record // its own, and those by which it is found
}

// storedOf returns what is stored of a certificate.
func storedOf(ctx context.Context, st store.Store, prefix string, cert *x509.Certificate) (*storedCertificate, error) {
	c := &storedCertificate{serial: cert.SerialNumber}
	for record, err := range store.All(ctx, st, prefix) {
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(record.Key, fmt.Sprintf("%040x", cert.SerialNumber)) {
			c.records = append(c.records, record)
		}
	}
	if len(c.records) < 2 {
		return nil, fmt.Errorf("%d records of a certificate below %s", len(c.records), prefix)
	}
	return c, nil
}

// another returns what stores the same certificate with another serial number of the same length: the i-th of n that are spread evenly
// over all numbers, issued one after the other. Its signature is not of it.
func (c *storedCertificate) another(i, n int) ([]store.Op, error) {
	digits := c.serial.Bytes()
	serial := slices.Clone(digits)
	if _, err := rand.Read(serial[9:]); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint64(serial[1:], math.MaxUint64/uint64(n)*uint64(i))
	var ops []store.Op
	for _, record := range c.records {
		key, err := c.keyWith(record, fmt.Sprintf("%040x", serial), n-i)
		if err != nil {
			return nil, err
		}
		op := store.Op{Key: string(key), Value: record.Value}
		if isCertificate(record) {
			var fields map[string]any
			if err := json.Unmarshal(record.Value, &fields); err != nil {
				return nil, err
			}
			var der []byte
			if err := json.Unmarshal(fmt.Appendf(nil, "%q", fields["der"]), &der); err != nil {
				return nil, err
			}
			fields["der"] = bytes.Replace(der, digits, serial, 1)
			if op.Value, err = json.Marshal(fields); err != nil {
				return nil, err
			}
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// fill stores n more certificates, in the order of their numbers, which takes a fraction of the time that the order of chance does.
func (c *storedCertificate) fill(ctx context.Context, st store.Store, n int) error {
	var ops []store.Op
	for i := range n {
		more, err := c.another(i, n)
		if err != nil {
			return err
		}
		if ops = append(ops, more...); len(ops)+len(more) > store.MaxOps || i == n-1 {
			if _, err := st.Apply(ctx, ops...); err != nil {
				return err
			}
			ops = ops[:0]
		}
	}
	return nil
}

// settle brings a store to where it is in the long run, so that it is how much it holds that is compared: it has more history than it
// keeps, of which each commit drops some, and the pages of its file were read once since it was opened, as each first time is a fault.
func settle(ctx context.Context, st store.Store) error {
	for range issuingHistory + issuingHistory/50 + 1 {
		if _, err := st.Apply(ctx, store.Op{Key: "settle", Expect: store.Any}); err != nil {
			return err
		}
	}
	for _, err := range store.All(ctx, st, "") {
		if err != nil {
			return err
		}
	}
	return nil
}

// issuesBeside returns a way of signing whose store has n certificates already, and what is stored of one. What closes it is never nil.
func (w *workplace) issuesBeside(ctx context.Context, n int, csr []byte) (*issuer, *storedCertificate, func(), error) {
	path := filepath.Join(w.memory, fmt.Sprintf("issuing-%d", n))
	st, err := bolt.Open(path, &bolt.Options{History: issuingHistory})
	if err != nil {
		return nil, nil, func() {}, err
	}
	i, end, err := issues(ctx, st, stepStore, csr)
	closeAll := func() {
		end()
		st.Close()
		os.Remove(path)
	}
	if err != nil {
		return nil, nil, closeAll, err
	}
	cert, err := i.sign()
	if err != nil {
		return nil, nil, closeAll, err
	}
	like, err := storedOf(ctx, st, "pki/"+i.authority.mount.ID()+"/", cert)
	if err != nil {
		return nil, nil, closeAll, err
	}
	if err := like.fill(ctx, st, n-2); err != nil { // the root is stored as well
		return nil, nil, closeAll, err
	}
	return i, like, closeAll, settle(ctx, st)
}

// issuingStored prints how many requests are signed by the number of certificates that are stored already.
func (w *workplace) issuingStored() error {
	sizes := issuingSizes
	if *long {
		sizes = append(slices.Clone(sizes), 1_000_000)
	}
	ctx := context.Background()
	csr, _, err := newRequest()
	if err != nil {
		return err
	}
	var ops, bare []operation
	for _, n := range sizes {
		how, like, closeAll, err := w.issuesBeside(ctx, n, csr)
		defer closeAll()
		if err != nil {
			return err
		}
		alone, err := w.bareBeside(n, like)
		if err != nil {
			return err
		}
		defer alone.close()
		ops, bare = append(ops, how.operation), append(bare, alone.operation)
	}
	fmt.Printf("\nThe same stored in bolt, without lint, by the number of certificates that are there already; the file is in memory where the machine\n" +
		"has such a file system, so that it isn't the disk that is measured. Ratios to the first line, of time and of processor time. bbolt:\n" +
		"a bare database doing nothing but the same puts, in as many transactions.\n\n")
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "goroutines\tstored\tcertificates/s\tµs\tratio\tcpu µs\tratio\tbbolt µs\tratio\tcpu µs\tratio\t")
	for _, n := range issuingCallers {
		rates, cpu, err := interleavedSpeeds(append(ops, bare...), n, *rounds, *window)
		if err != nil {
			return err
		}
		for i, size := range sizes {
			fmt.Fprintf(out, "%d\t%d\t%.0f\t", n, size, median(rates[i]))
			for _, first := range []int{0, len(sizes)} {
				fmt.Fprintf(out, "%.0f\t%.2f\t%.0f\t%.2f\t", 1e6*float64(n)/median(rates[first+i]), ratio(rates[first], rates[first+i]),
					1e6/median(cpu[first+i]), ratio(cpu[first], cpu[first+i]))
			}
			fmt.Fprintln(out)
		}
	}
	return out.Flush()
}
