package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/managedkeys/managedkeys/managedkey/config"
	"github.com/managedkeys/managedkeys/managedkey/config/all"
)

// configKeys is how many keys the configuration has whose start is measured.
var configKeys = 10_000

// startRounds is how often a start is measured.
var startRounds = 3

// plainFile is what hcl's own decoder makes of such a configuration: it knows fields and their types, and nothing of keys.
type plainFile struct {
	Connections []struct {
		Type string `hcl:"type,label"`
		Name string `hcl:"name,label"`
	} `hcl:"connection,block"`
	Keys []struct {
		Type     string `hcl:"type,label"`
		Name     string `hcl:"name,label"`
		KeyName  string `hcl:"key_name"`
		KeyType  string `hcl:"key_type"`
		Curve    string `hcl:"curve"`
		Generate bool   `hcl:"allow_generate_key,optional"`
	} `hcl:"managed_key,block"`
	Mounts []struct {
		Type    string   `hcl:"type,label"`
		Path    string   `hcl:"path,label"`
		Allowed []string `hcl:"allowed_managed_keys"`
	} `hcl:"mount,block"`
}

// starting prints how long a program with a large configuration takes to start, beside hcl's own decoder with the same file.
func (w *workplace) starting() error {
	path := filepath.Join(w.dir, "large.hcl")
	text := largeConfig(configKeys)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	steps := make([][]float64, 5) // of startSteps; seconds by round
	for range startRounds {
		took, err := startOnce(path, configKeys)
		if err != nil {
			return err
		}
		for i, d := range took {
			steps[i] = append(steps[i], d.Seconds())
		}
	}
	fmt.Printf("A configuration file of %d keys and 10 mounts, each of which may use a tenth of them, %.1f MB; the store is in memory. Median of\n"+
		"%d rounds, ratios within a round. The yardstick reads and decodes the file with hclparse and gohcl into structs, and checks nothing else.\n\n",
		configKeys, float64(len(text))/1e6, startRounds)
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "step\tseconds\tµs per key\tratio\t")
	for i, name := range startSteps {
		fmt.Fprintf(out, "%s\t%.3f\t%.0f\t%.2f\t\n", name, median(steps[i]), 1e6*median(steps[i])/float64(configKeys), ratio(steps[i], steps[0]))
	}
	return out.Flush()
}

var startSteps = [5]string{"hclparse and gohcl", "Load", "Open, Plan and Apply on an empty store", "Plan again, nothing to do", "Load and Reload, nothing to do"}

// startOnce measures all steps.
func startOnce(path string, keys int) (took [5]time.Duration, err error) {
	ctx := context.Background()
	var cfg *config.Config
	var sys *config.System
	defer func() {
		if sys != nil {
			sys.Close()
		}
	}()
	for i, step := range [5]func() error{
		func() error {
			var in plainFile
			file, diags := hclparse.NewParser().ParseHCLFile(path)
			if !diags.HasErrors() {
				diags = gohcl.DecodeBody(file.Body, nil, &in)
			}
			if diags.HasErrors() {
				return diags
			}
			if len(in.Keys) != keys || len(in.Mounts) != 10 || len(in.Connections) != 1 {
				return fmt.Errorf("gohcl found %d keys, %d mounts, %d connections", len(in.Keys), len(in.Mounts), len(in.Connections))
			}
			return nil
		},
		func() (err error) {
			cfg, err = config.Load(path, all.Builders())
			return err
		},
		func() (err error) {
			if sys, err = cfg.Open(ctx, nil); err != nil {
				return err
			}
			plan, err := cfg.Plan(ctx, sys.Registry())
			if err != nil {
				return err
			}
			if len(plan.Changes) != keys+10 {
				return fmt.Errorf("the plan has %d changes, want %d", len(plan.Changes), keys+10)
			}
			return config.Apply(ctx, plan)
		},
		func() error {
			plan, err := cfg.Plan(ctx, sys.Registry())
			return nothingToDo(plan, err)
		},
		func() error {
			next, err := config.Load(path, all.Builders())
			if err != nil {
				return err
			}
			plan, err := sys.Reload(ctx, next)
			return nothingToDo(plan, err)
		},
	} {
		heap() // what the step before has left is not this one's to collect
		began := time.Now()
		if err := step(); err != nil {
			return took, err
		}
		took[i] = time.Since(began)
	}
	return took, nil
}

func nothingToDo(plan *config.Plan, err error) error {
	if err == nil && !plan.Empty() {
		err = fmt.Errorf("there are %d changes, the first is %v", len(plan.Changes), plan.Changes[0])
	}
	return err
}

// largeConfig returns a configuration of n keys, in 10 namespaces with a mount each.
func largeConfig(n int) []byte {
	var b bytes.Buffer
	b.WriteString("connection \"software\" \"soft\" {}\n")
	for i := range n {
		fmt.Fprintf(&b, "managed_key \"software\" \"team-%d/key-%d\" {\n  key_name = \"key-%d\"\n  key_type = \"ECDSA\"\n  curve = \"P256\"\n  allow_generate_key = true\n}\n", i%10, i, i)
	}
	for m := range 10 {
		fmt.Fprintf(&b, "mount \"pki\" \"team-%d/pki\" {\n  allowed_managed_keys = [", m)
		for i := m; i < n; i += 10 {
			fmt.Fprintf(&b, "\"key-%d\", ", i)
		}
		b.WriteString("]\n}\n")
	}
	return b.Bytes()
}
