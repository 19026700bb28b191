package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// ticks per second of the times in /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const ticks = 100

// cost is what API server and process have used so far, in seconds of processor time.
type cost struct{ server, own float64 }

// cost reads the processor times of the API server and of the process.
func (l *lab) cost() (c cost, err error) {
	state, err := testkit.ReadState(l.plane.Dir)
	if err != nil {
		return c, err
	}
	if c.server, err = cpu(state.Parts["kube-apiserver"].PID); err != nil {
		return c, err
	}
	c.own, err = cpu(l.sut.PID())
	return c, err
}

func (c cost) since(before cost) cost {
	return cost{server: c.server - before.server, own: c.own - before.own}
}

// cpu is the processor time of a process, user and system, in seconds.
func cpu(pid int) (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time: %w", err)
	}
	// The name of the program, in parentheses, may hold anything; the fields after it are numbers from the third on.
	_, rest, ok := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("reading the processor time of process %d: unexpected %q", pid, b)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return (user + system) / ticks, nil
}

// peak is the most resident memory that a process has had, in MiB.
func peak(pid int) (float64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("reading the memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				return 0, fmt.Errorf("reading the memory of process %d: %w", pid, err)
			}
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("reading the memory of process %d: its status has no VmHWM", pid)
}
