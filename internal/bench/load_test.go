package main

import (
	"math"
	"os"
	"os/exec"
	"testing"
)

func TestMachineSeconds(t *testing.T) {
	if got := machineSeconds([]byte("cpu  100 200 300 9999 8888 10 20 30 100 0\ncpu0 1 2 3\n")); got != 6.6 {
		t.Errorf("machineSeconds = %v; want 6.6, without idle, iowait and guest", got)
	}
	for _, stat := range []string{"", "cpu 1 2 3", "cpu a b c d e f g h i", "intr 1 2 3 4 5 6 7 8 9"} {
		if got := machineSeconds([]byte(stat)); !math.IsNaN(got) {
			t.Errorf("machineSeconds(%q) = %v; want NaN", stat, got)
		}
	}
}

func TestProcessSeconds(t *testing.T) {
	if got := processSeconds([]byte("17 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 11 12")); got != 2 {
		t.Errorf("processSeconds = %v; want 2", got)
	}
	for _, stat := range []string{"", "17 (a) S 1 2"} {
		if got := processSeconds([]byte(stat)); !math.IsNaN(got) {
			t.Errorf("processSeconds(%q) = %v; want NaN", stat, got)
		}
	}
}

// What others did can't be told apart from what a process did that isn't there any more.
func TestOthersOfNobody(t *testing.T) {
	nobody := &process{cmd: &exec.Cmd{Process: &os.Process{Pid: math.MaxInt32}}}
	if got := watch([]*process{nobody}).others(); !math.IsNaN(got) {
		t.Errorf("others = %v; want NaN", got)
	}
}

func TestQuietest(t *testing.T) {
	all := []round{{others: 7}, {others: math.NaN()}, {others: 3}, {others: 5}}
	if got := quietest(all, 2); len(got) != 2 || got[0].others != 3 || got[1].others != 5 {
		t.Errorf("quietest = %v; want those of 3 and 5 percent", got)
	}
	if got := quietest(all, 9); len(got) != 4 {
		t.Errorf("quietest = %v; want all that there are", got)
	}
}
