package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain plays the parts, which are this program started again.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == PartCommand {
		os.Exit(play(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func play(name string, args []string) int {
	ready := os.NewFile(4, "ready")
	switch name {
	case "fails":
		fmt.Fprintln(os.Stderr, "listen tcp 127.0.0.1:1: bind: address already in use")
		return 3
	case "silent":
		return 0
	case "once":
		// Lives for ever, but in its first life, which the file of its argument tells.
		if _, err := os.Stat(args[0]); err != nil {
			_ = os.WriteFile(args[0], nil, 0o600)
			fmt.Fprintln(ready, "ready")
			return 1
		}
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	}
	fmt.Fprintln(ready, "ready")
	_ = ready.Close()
	// The end of the lifeline stands for the death of the supervisor.
	_, _ = io.Copy(io.Discard, os.NewFile(3, "lifeline"))
	return 0
}

// events collects what a supervisor tells.
type events struct {
	mu   sync.Mutex // guards all
	all  []Event
	news chan struct{}
}

func (e *events) add(event Event) {
	e.mu.Lock()
	e.all = append(e.all, event)
	e.mu.Unlock()
	select {
	case e.news <- struct{}{}:
	default:
	}
}

func (e *events) snapshot() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Event(nil), e.all...)
}

// await returns the first event for which is returns true.
func (e *events) await(t *testing.T, what string, is func(Event) bool) Event {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		for _, event := range e.snapshot() {
			if is(event) {
				return event
			}
		}
		select {
		case <-e.news:
		case <-late:
			t.Fatalf("never told: %s; told: %+v", what, e.snapshot())
		}
	}
}

func newSupervisor(t *testing.T) (*Supervisor, *events) {
	t.Helper()
	told := &events{news: make(chan struct{}, 1)}
	s, err := New(told.add)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		_ = s.Close()
	})
	return s, told
}

func spec(t *testing.T, name string) Spec {
	t.Helper()
	dir := t.TempDir()
	return Spec{Name: name, Dir: dir, Log: filepath.Join(dir, name+".log")}
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestPartReportsReady(t *testing.T) {
	s, told := newSupervisor(t)
	part := s.Start(spec(t, "steady"))
	if err := part.WaitReady(ctx(t)); err != nil {
		t.Fatal(err)
	}
	pid := told.await(t, "ready", func(e Event) bool { return e.State == Ready }).PID
	if syscall.Kill(pid, 0) != nil {
		t.Errorf("process %d is said to be ready and does not exist", pid)
	}
	s.Stop()
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d is there after Stop", pid)
	}
	told.await(t, "stopped", func(e Event) bool { return e.State == Stopped })
}

func TestPartIsProbed(t *testing.T) {
	s, told := newSupervisor(t)
	probed := make(chan struct{})
	sp := spec(t, "steady")
	sp.Probe = func(ctx context.Context) error {
		select {
		case <-probed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	part := s.Start(sp)
	told.await(t, "starting", func(e Event) bool { return e.State == Starting })
	short, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := part.WaitReady(short); err == nil || err.Error() != "enough" {
		t.Errorf("ready before the probe says so: %v", err)
	}
	close(probed)
	if err := part.WaitReady(ctx(t)); err != nil {
		t.Error(err)
	}
}

func TestPartThatDoesNotStart(t *testing.T) {
	for name, want := range map[string]string{
		"fails":  "its port is taken",
		"silent": "it ended by itself",
	} {
		s, told := newSupervisor(t)
		err := s.Start(spec(t, name)).WaitReady(ctx(t))
		var start *StartError
		if !errors.As(err, &start) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a StartError with %q", name, err, want)
		}
		told.await(t, "failed", func(e Event) bool { return e.State == Failed })
	}
}

func TestDeadPartIsRestarted(t *testing.T) {
	s, told := newSupervisor(t)
	sp := spec(t, "once")
	sp.Args = []string{filepath.Join(sp.Dir, "lived")}
	if err := s.Start(sp).WaitReady(ctx(t)); err != nil {
		t.Fatal(err)
	}
	told.await(t, "restarting", func(e Event) bool { return e.State == Restarting && e.Restarts == 1 && e.Err != nil })
	second := told.await(t, "ready again", func(e Event) bool { return e.State == Ready && e.Restarts == 1 })
	if err := syscall.Kill(second.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	third := told.await(t, "ready a third time", func(e Event) bool { return e.State == Ready && e.Restarts == 2 })
	if third.PID == second.PID {
		t.Error("a killed process is said to be ready")
	}
}

func TestStopEndsHigherTiersFirst(t *testing.T) {
	s, told := newSupervisor(t)
	for tier, name := range []string{"store", "server", "client"} {
		sp := spec(t, name)
		sp.Tier, sp.Grace = tier, 10*time.Second
		if err := s.Start(sp).WaitReady(ctx(t)); err != nil {
			t.Fatal(err)
		}
	}
	s.Stop()
	var order []string
	for _, e := range told.snapshot() {
		if e.State == Stopped {
			order = append(order, e.Part)
		}
	}
	if got := strings.Join(order, " "); got != "client server store" {
		t.Errorf("stopped in the order %s", got)
	}
}

func TestStubbornPartIsKilled(t *testing.T) {
	s, told := newSupervisor(t)
	sp := spec(t, "stubborn")
	sp.Grace = 100 * time.Millisecond
	if err := s.Start(sp).WaitReady(ctx(t)); err != nil {
		t.Fatal(err)
	}
	pid := told.await(t, "ready", func(e Event) bool { return e.State == Ready }).PID
	s.Stop()
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d, which ignores SIGTERM, is there after Stop", pid)
	}
}

func TestLifelineEndsWithTheSupervisor(t *testing.T) {
	s, told := newSupervisor(t)
	if err := s.Start(spec(t, "steady")).WaitReady(ctx(t)); err != nil {
		t.Fatal(err)
	}
	// As the kernel does when this process dies.
	_ = s.lifelineEnd.Close()
	told.await(t, "the end of the part", func(e Event) bool { return e.State == Restarting })
}

func TestHint(t *testing.T) {
	for tail, want := range map[string]string{
		"write x: no space left on device":          "the disk is full",
		"bind: address already in use":              "its port is taken: choose another with --port, or 0 for a free one",
		"open /x: permission denied":                "a file or directory may not be used",
		"panic: runtime error: index out of bounds": "",
	} {
		if got := hint(tail); got != want {
			t.Errorf("hint(%q) = %q, want %q", tail, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := tail(path); got != "" {
		t.Errorf("the tail of no file is %q", got)
	}
	var lines []string
	for i := range 5000 {
		lines = append(lines, fmt.Sprintf("line %d of a log that is longer than what is read of it", i))
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := tail(path), strings.Join(lines[len(lines)-tailLines:], "\n"); got != want {
		t.Errorf("the tail is %q, want %q", got, want)
	}
}
