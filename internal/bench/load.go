package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"time"
)

// ticks is how many clock ticks the kernel's files count in a second (USER_HZ, proc_pid_stat(5)).
const ticks = 100

// load tells how much of the machine others used while processes worked.
type load struct {
	processes []*process
	began     time.Time
	busy      float64
}

func watch(processes []*process) *load {
	return &load{processes, time.Now(), busySeconds(processes)}
}

// others returns the percentage of the machine's processors that others used since watch, or NaN where the kernel doesn't
// tell. Time that a hypervisor took away counts as theirs.
func (l *load) others() float64 {
	available := time.Since(l.began).Seconds() * float64(runtime.NumCPU())
	return max(0, 100*(busySeconds(l.processes)-l.busy)/available)
}

// busySeconds returns the processor time that was used so far on this machine, except by the processes, or NaN.
func busySeconds(processes []*process) float64 {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return math.NaN()
	}
	busy := machineSeconds(stat)
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			return math.NaN()
		}
		busy -= processSeconds(stat)
	}
	return busy
}

// machineSeconds returns what all processes used according to /proc/stat: its first line is user, nice, system, idle,
// iowait, irq, softirq, steal, and guest times that user has too (proc_stat(5)).
func machineSeconds(stat []byte) float64 {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return math.NaN()
	}
	return sum(fields[1], fields[2], fields[3], fields[6], fields[7], fields[8])
}

// processSeconds returns what a process used according to /proc/PID/stat: utime and stime are its fields 14 and 15, and
// field 2, the program's name in parentheses, may have spaces (proc_pid_stat(5)).
func processSeconds(stat []byte) float64 {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return math.NaN()
	}
	return sum(fields[11], fields[12])
}

// sum returns the sum of clock ticks in seconds.
func sum(numbers ...[]byte) float64 {
	var total float64
	for _, n := range numbers {
		x, err := strconv.ParseFloat(string(n), 64)
		if err != nil {
			return math.NaN()
		}
		total += x
	}
	return total / ticks
}
