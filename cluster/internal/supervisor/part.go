package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 30 * time.Second
	// calm is how long a part must have run for its next death to count as the first.
	calm = time.Minute

	tailBytes = 64 << 10
	tailLines = 12
)

// Spec says what a part is.
type Spec struct {
	Name string
	Args []string
	// Env is added to this process's environment.
	Env []string
	// Dir is the working directory, Log the file that takes the output.
	Dir, Log string
	// Probe returns when the process is ready, or with ctx. Nil: the process reports by itself.
	Probe func(ctx context.Context) error
	// Tier orders Stop: higher tiers end first.
	Tier int
	// Grace is how long the process may take to end by itself; 0 kills it at once.
	Grace time.Duration
}

// Part is a running Spec.
type Part struct {
	Spec
	supervisor *Supervisor

	ready    chan struct{} // closed when first ready
	stop     chan struct{} // closed to end
	stopOnce sync.Once
	gone     chan struct{} // closed when keep has returned
	err      error         // why it failed to start; read after gone
}

// StartError says that a part ended before it was ever ready.
type StartError struct {
	Part string
	Err  error
	// Log is the path of its log, Tail the last lines of it.
	Log, Tail string
}

func (e *StartError) Error() string {
	text := fmt.Sprintf("%s did not start (%v)", e.Part, e.Err)
	if hint := hint(e.Tail); hint != "" {
		text += ": " + hint
	}
	if e.Tail != "" {
		text += fmt.Sprintf("\nend of %s:\n%s", e.Log, e.Tail)
	}
	return text
}

func (e *StartError) Unwrap() error { return e.Err }

// hint puts the well-known causes into words.
func hint(tail string) string {
	switch {
	case strings.Contains(tail, "no space left on device"):
		return "the disk is full"
	case strings.Contains(tail, "address already in use"):
		return "its port is taken: choose another with --port, or 0 for a free one"
	case strings.Contains(tail, "permission denied"):
		return "a file or directory may not be used"
	}
	return ""
}

// WaitReady returns when the part is ready for the first time, with a *StartError when it ended before, or with ctx.
func (p *Part) WaitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.gone:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// process is one run of a part.
type process struct {
	cmd      *exec.Cmd
	reported chan error // one value: nil when the process said that it is ready
	done     chan struct{}
	err      error // how it ended; read after done
}

func (p *Part) keep() {
	defer close(p.gone)
	restarts, pause, everReady := 0, firstPause, false
	for {
		started := time.Now()
		proc, err := p.start()
		if err == nil {
			p.tell(Event{State: Starting, PID: proc.cmd.Process.Pid, Restarts: restarts})
			err = p.attend(proc, restarts, func() {
				if !everReady {
					everReady = true
					close(p.ready)
				}
			})
		}
		if p.stopping() {
			p.tell(Event{State: Stopped, Restarts: restarts})
			return
		}
		if !everReady {
			p.err = &StartError{Part: p.Name, Err: err, Log: p.Log, Tail: tail(p.Log)}
			p.tell(Event{State: Failed, Err: p.err})
			return
		}
		if time.Since(started) > calm {
			pause = firstPause
		}
		restarts++
		p.tell(Event{State: Restarting, Restarts: restarts, Err: err})
		select {
		case <-time.After(pause):
		case <-p.stop:
			p.tell(Event{State: Stopped, Restarts: restarts})
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// attend waits for the process to be ready, calls ready, and returns how it ended.
func (p *Part) attend(proc *process, restarts int, ready func()) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	probed := proc.reported
	if p.Probe != nil {
		probed = make(chan error, 1)
		go func() { probed <- p.Probe(ctx) }()
	}
	for {
		select {
		case err := <-probed:
			probed = nil
			if err == nil {
				ready()
				p.tell(Event{State: Ready, PID: proc.cmd.Process.Pid, Restarts: restarts})
			}
		case <-proc.done:
			return proc.err
		case <-p.stop:
			proc.end(p.Grace)
			return proc.err
		}
	}
}

func (p *Part) start() (*process, error) {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	cmd := exec.Command(p.supervisor.executable, append([]string{PartCommand, p.Name}, p.Args...)...)
	// The name is also the user agent, and so the field manager, of what the part writes.
	cmd.Args[0] = p.Name
	cmd.Dir, cmd.Env = p.Dir, append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{p.supervisor.lifeline, readyWrite}
	// A group of its own: Ctrl-C in a terminal reaches the supervisor alone, which then stops the parts in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = p.supervisor.spawner.start(cmd, syscall.SIGKILL)
	_ = readyWrite.Close()
	if err != nil {
		_ = readyRead.Close()
		return nil, err
	}
	proc := &process{cmd: cmd, reported: make(chan error, 1), done: make(chan struct{})}
	go func() {
		defer readyRead.Close()
		_, err := bufio.NewReader(readyRead).ReadString('\n')
		proc.reported <- err
	}()
	go func() {
		proc.err = cmd.Wait()
		if proc.err == nil {
			proc.err = errors.New("it ended by itself")
		}
		close(proc.done)
	}()
	return proc, nil
}

// end stops the process and returns when it is gone: its ports and files are free only then.
func (proc *process) end(grace time.Duration) {
	if grace > 0 {
		_ = proc.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-proc.done:
			return
		case <-time.After(grace):
		}
	}
	_ = proc.cmd.Process.Kill()
	<-proc.done
}

func (p *Part) end() {
	p.stopOnce.Do(func() { close(p.stop) })
	<-p.gone
}

func (p *Part) stopping() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

func (p *Part) tell(e Event) {
	e.Part = p.Name
	p.supervisor.notify(e)
}

// tail returns the last lines of the file at path.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > tailBytes {
		_, _ = file.Seek(-tailBytes, io.SeekEnd)
	}
	data, err := io.ReadAll(io.LimitReader(file, tailBytes))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
