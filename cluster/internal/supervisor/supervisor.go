// Package supervisor runs child processes of this program: it starts them, learns when they are ready, starts them again when they die,
// stops them in the order asked for, and makes sure that none outlives it.
package supervisor

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// PartCommand is the hidden command of this program that runs one part.
const PartCommand = "part"

// States of a part, as reported to Notify.
const (
	Starting   = "starting"
	Ready      = "ready"
	Restarting = "restarting"
	Stopped    = "stopped"
	Failed     = "failed"
)

// Event tells that a part entered a state.
type Event struct {
	Part     string
	State    string
	PID      int // 0 when no process runs
	Restarts int
	// Err is why, for Restarting and Failed.
	Err error
}

// Supervisor runs parts. Make it with New, and Close it.
type Supervisor struct {
	executable string
	notify     func(Event)
	spawner    *spawner
	// lifeline is inherited by every child and never written to: its end tells them that this process is gone.
	lifeline, lifelineEnd *os.File

	mu    sync.Mutex // guards parts
	parts []*Part
}

// New makes a supervisor. It calls notify, from several goroutines, at each change of a part.
func New(notify func(Event)) (*Supervisor, error) {
	executable := selfExecutable
	if executable == "" {
		path, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		executable = path
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make lifeline: %w", err)
	}
	return &Supervisor{executable: executable, notify: notify, spawner: newSpawner(), lifeline: read, lifelineEnd: write}, nil
}

// Start runs a part and keeps it running until Stop. It returns at once.
func (s *Supervisor) Start(spec Spec) *Part {
	p := &Part{Spec: spec, supervisor: s, ready: make(chan struct{}), stop: make(chan struct{}), gone: make(chan struct{})}
	s.mu.Lock()
	s.parts = append(s.parts, p)
	s.mu.Unlock()
	go p.keep()
	return p
}

// Stop ends all parts, those started last first, and returns when their processes are gone. Parts whose Spec has the same Tier end
// together.
func (s *Supervisor) Stop() {
	s.mu.Lock()
	parts := s.parts
	s.parts = nil
	s.mu.Unlock()
	for tier := highestTier(parts); tier >= 0; tier-- {
		var wait sync.WaitGroup
		for _, p := range parts {
			if p.Tier == tier {
				wait.Go(p.end)
			}
		}
		wait.Wait()
	}
}

// Close lets go of what the supervisor holds after Stop.
func (s *Supervisor) Close() error {
	_ = s.lifeline.Close()
	return s.lifelineEnd.Close()
}

// Tie starts cmd so that it is signalled with onDeath when this process dies, where the system can do that.
func (s *Supervisor) Tie(cmd *exec.Cmd, onDeath syscall.Signal) error {
	return s.spawner.start(cmd, onDeath)
}

func highestTier(parts []*Part) int {
	highest := -1
	for _, p := range parts {
		highest = max(highest, p.Tier)
	}
	return highest
}
