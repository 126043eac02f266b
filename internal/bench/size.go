package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"
)

// constructors are the backends, and how a program makes one.
var constructors = []struct{ backend, call string }{
	{"software", "software.New(nil), error(nil)"},
	{"pkcs11", `pkcs11.New(pkcs11.Library{Name: "hsm", Path: os.Args[0]})`},
	{"awskms", "awskms.Connect(nil)"},
	{"azurekeyvault", "azurekeyvault.Connect(nil)"},
	{"gcpckms", "gcpckms.Connect(nil)"},
}

// sizedProgram opens a key; %[1]s is the package and %[2]s its constructor.
const sizedProgram = `package main

import (
	"context"
	"fmt"
	"os"

	"github.com/managedkeys/managedkeys/backend/%[1]s"
)

func main() {
	b, err := %[2]s
	if err != nil {
		fmt.Println(err, os.Args)
		return
	}
	fmt.Println(b.Open(context.Background(), %[1]s.Params{}))
}
`

// size prints how large a program with one backend is.
func (*workplace) size() error {
	dir, err := os.MkdirTemp("", "managedkeys-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Print("What one backend costs: size of a program that opens a key, without debugging information, and of how many modules it is made.\n\n")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "backend\tMiB\tratio\tmodules\t")
	var first float64
	for _, c := range constructors {
		mib, modules, err := buildSized(dir, c.backend, c.call)
		if err != nil {
			return fmt.Errorf("%s: %w", c.backend, err)
		}
		if first == 0 {
			first = mib
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.2f\t%d\t\n", c.backend, mib, mib/first, modules)
	}
	return w.Flush()
}

// buildSized builds the program in dir and returns its size and the number of modules in it, this one not counted.
func buildSized(dir, backend, call string) (mib float64, modules int, err error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/managedkeys/managedkeys").Output()
	if err != nil {
		return 0, 0, err
	}
	source, program, overlay := filepath.Join(dir, backend+".go"), filepath.Join(dir, backend), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(source, fmt.Appendf(nil, sizedProgram, backend, call), 0o600); err != nil {
		return 0, 0, err
	}
	// The program is a package of this module, which the folder itself need not know of.
	place := filepath.Join(string(bytes.TrimSpace(root)), "internal", "bench", "sized", "main.go")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{place: source}})
	if err != nil {
		return 0, 0, err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return 0, 0, err
	}
	build := exec.Command("go", "build", "-overlay", overlay, "-trimpath", "-ldflags=-s -w", "-o", program,
		"github.com/managedkeys/managedkeys/internal/bench/sized")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, out)
	}
	info, err := os.Stat(program)
	if err != nil {
		return 0, 0, err
	}
	version, err := exec.Command("go", "version", "-m", program).Output()
	return float64(info.Size()) / (1 << 20), bytes.Count(version, []byte("\tdep\t")), err
}
