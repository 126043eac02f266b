package main

import (
	"os"
	"strings"
	"testing"
)

func TestStartTable(t *testing.T) {
	keys, rounds := configKeys, startRounds
	t.Cleanup(func() { configKeys, startRounds = keys, rounds })
	configKeys, startRounds = 50, 1
	table := printed(t, place(t, false).starting)
	for _, step := range startSteps {
		if !strings.Contains(table, step+"  ") {
			t.Errorf("no line of %q in:\n%s", step, table)
		}
	}
	if !strings.Contains(table, "configuration file of 50 keys") {
		t.Errorf("the table doesn't say what was read:\n%s", table)
	}
}

// TestStartTableNeedsAll: a configuration of which something is missing is an error and no figure.
func TestStartTableNeedsAll(t *testing.T) {
	path := t.TempDir() + "/large.hcl"
	if err := os.WriteFile(path, largeConfig(20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := startOnce(path, 21); err == nil || !strings.Contains(err.Error(), "gohcl found 20 keys") {
		t.Errorf("got %v", err)
	}
	if _, err := startOnce(path, 20); err != nil {
		t.Error(err)
	}
}
