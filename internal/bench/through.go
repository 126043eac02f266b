package main

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/backend/pkcs11"
	"github.com/managedkeys/managedkeys/backend/software"
	"github.com/managedkeys/managedkeys/internal/softhsm"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/store"
	"github.com/managedkeys/managedkeys/managedkey/store/bolt"
	"github.com/managedkeys/managedkeys/managedkey/store/memory"
	"github.com/managedkeys/managedkeys/namespace"
)

// benchRef is the entry of tables that need one.
var benchRef = namespace.Ref{Namespace: "bench/team-a", Name: "issuing-ca"}

// openRegistry opens a registry in st whose entries use b.
func openRegistry(ctx context.Context, st store.Store, b backend.Backend) (*managedkey.Registry, error) {
	return managedkey.Open(ctx, st, []managedkey.Connection{{Name: "hsm", Backend: b}},
		&managedkey.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// keptSigning returns a signature by the key of params that is looked up, by name, in a registry that was opened on st.
func keptSigning(ctx context.Context, st store.Store, b backend.Backend, params backend.Params) (operation, error) {
	r, err := openRegistry(ctx, st, b)
	if err != nil {
		return nil, err
	}
	if err := r.Create(ctx, managedkey.Entry{Ref: benchRef, Connection: "hsm", Params: params}); err != nil {
		return nil, err
	}
	return func() error {
		key, err := r.Key(ctx, benchRef)
		if err != nil {
			return err
		}
		_, err = key.SignContext(ctx, digest[:], crypto.SHA256)
		return err
	}, nil
}

// keptKeys is oursKeys for one algorithm, through a registry.
func keptKeys() (map[string]operation, error) {
	b, err := oursBackend(pkcs11.Library{})
	if err != nil {
		return nil, err
	}
	op, err := keptSigning(context.Background(), memory.New(nil), b, oursParams("ec", pkcs11.ECDSA))
	return map[string]operation{algorithms[0]: op}, err
}

// throughCallers are the goroutines that sign at once.
var throughCallers = []int{1, 8}

// through prints signatures through a registry on a store beside those of the bare handle of the backend.
func (w *workplace) through() error {
	ctx := context.Background()
	// To see a difference of a percent takes many rounds.
	total, short := 3**rounds, *window/4
	fmt.Printf("Signatures per second through a registry that was opened on a store, the look-up by name included, beside the\n"+
		"backend's own handle; ECDSA P-256, median of %d rounds of %v, ratios within a round.\n\n", total, short)
	b := software.New(nil)
	defer b.Close()
	params := software.Params{KeyName: "ec", KeyType: software.ECDSA, Curve: software.P256}
	bare, err := as[backend.Signer](b.Generate(ctx, params, nil))
	if err != nil {
		return err
	}
	file, err := bolt.Open(filepath.Join(w.dir, "through"), nil)
	if err != nil {
		return err
	}
	defer file.Close()
	ops := []operation{func() error {
		_, err := bare.SignContext(ctx, digest[:], crypto.SHA256)
		return err
	}}
	stores := []store.Store{memory.New(nil), file}
	for _, st := range stores {
		op, err := keptSigning(ctx, st, b, params)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "key\tgoroutines\thandle\tregistry in memory\tratio\tregistry in a file\tratio\t")
	for _, n := range throughCallers {
		rates, err := interleaved(ops, n, total, short)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "software\t%d\t%.0f\t%.0f\t%.3f\t%.0f\t%.3f\t\n", n, median(rates[0]),
			median(rates[1]), ratio(rates[1], rates[0]), median(rates[2]), ratio(rates[2], rates[0]))
	}
	if _, err := softhsm.Module(); err == nil && hasCgo {
		if err := w.throughToken(out); err != nil {
			return err
		}
	}
	return out.Flush()
}

// throughToken adds the rows of a key on a token. Once it is open, the store is not asked, so that one in memory is enough.
func (w *workplace) throughToken(out io.Writer) error {
	token, err := w.token()
	if err != nil {
		return err
	}
	processes, stop, err := w.startAll([]string{contenderKept, contenderOurs}, token)
	defer stop()
	if err != nil {
		return err
	}
	for _, n := range throughCallers {
		r, err := measureRates(processes, algorithms[0], n)
		if err != nil {
			return err
		}
		ours, _ := r.of(contenderOurs)
		kept, _ := r.of(contenderKept)
		fmt.Fprintf(out, "SoftHSM2\t%d\t%.0f\t%.0f\t%.3f\t–\t–\t\n", n, median(ours), median(kept), ratio(kept, ours))
	}
	return nil
}
