package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// SUTOptions describe how to run the flux binary under test.
type SUTOptions struct {
	// Binary is the program; empty means FindFlux.
	Binary string
	// Components are the arguments of `flux run`.
	Components []string
	// Kubeconfig is the file it connects with.
	Kubeconfig string
	// Dir holds its data and its log. It is created.
	Dir string
	// EventsAddr is the URL events are posted to; empty for none.
	EventsAddr string
	// Flags are appended; they win over those this package chooses.
	Flags []string
	// Env is appended to the environment.
	Env []string
}

// SUT is the flux binary running as a process of its own: the system under test.
type SUT struct {
	// StorageAddr is the host:port artifacts are served at, HealthAddr and MetricsAddr likewise.
	// They stay the same across restarts.
	StorageAddr, HealthAddr, MetricsAddr string
	// WatcherAddr is where source-watcher serves artifacts, out of a directory of its own; empty when it does not run.
	WatcherAddr string
	// TakesEventsAddr and HookAddr are where notification-controller takes events and webhooks; empty when it does not run.
	TakesEventsAddr, HookAddr string
	// LogPath is the file that holds the output of all its lives.
	LogPath string
	// TempDir is its TMPDIR.
	TempDir string

	options SUTOptions
	mu      sync.Mutex // guards cmd and ended
	cmd     *exec.Cmd
	ended   chan struct{}
}

// StartSUT starts the binary and waits until it reports ready.
func StartSUT(ctx context.Context, o SUTOptions) (*SUT, error) {
	if o.Binary == "" {
		var err error
		if o.Binary, err = FindFlux(); err != nil {
			return nil, err
		}
	}
	s := &SUT{options: o, LogPath: filepath.Join(o.Dir, "flux.log"), TempDir: filepath.Join(o.Dir, "tmp")}
	for _, dir := range []string{s.TempDir, s.storageDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("creating the folders of flux: %w", err)
		}
	}
	// A fixed address survives a restart, and artifact URLs with it; hence not port 0.
	for _, addr := range []*string{&s.StorageAddr, &s.HealthAddr, &s.MetricsAddr} {
		var err error
		if *addr, err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	if slices.Contains(o.Components, watcher) {
		var err error
		if s.WatcherAddr, err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	if s.runs(notifying) {
		for _, addr := range []*string{&s.TakesEventsAddr, &s.HookAddr} {
			var err error
			if *addr, err = FreeAddr(); err != nil {
				return nil, err
			}
		}
	}
	return s, s.Start(ctx)
}

// storing is the component with the store, watcher the one with a second store, notifying the one that takes events and webhooks.
const (
	storing   = "source-controller"
	watcher   = "source-watcher"
	notifying = "notification-controller"
)

// runs reports whether the component is one of the process.
func (s *SUT) runs(component string) bool {
	return len(s.options.Components) == 0 || slices.Contains(s.options.Components, component)
}

// Start starts the process again after Kill or Stop, and waits until it reports ready.
func (s *SUT) Start(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.WaitReady(ctx)
}

// Launch starts the process and does not wait for anything.
func (s *SUT) Launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.OpenFile(s.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of flux: %w", err)
	}
	// The child has its own copy of the file.
	defer log.Close()
	cmd := exec.Command(s.options.Binary, s.args()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.options.Kubeconfig, "RUNTIME_NAMESPACE=flux-system", "TMPDIR="+s.TempDir)
	cmd.Env = append(cmd.Env, s.options.Env...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting flux: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		// How it ended stands in the log; that it ended is what callers ask.
		_ = cmd.Wait()
		close(ended)
	}()
	s.cmd, s.ended = cmd, ended
	return nil
}

// args are those of `flux run`, ours first: the last of a repeated flag wins.
func (s *SUT) args() []string {
	args := slices.Concat([]string{"run"}, s.options.Components, []string{"--health-addr=" + s.HealthAddr, "--metrics-addr=" + s.MetricsAddr})
	if s.runs(storing) {
		args = append(args, "--source-storage-path="+s.storageDir(), "--source-storage-addr="+s.StorageAddr, "--source-storage-adv-addr="+s.StorageAddr)
	}
	if s.WatcherAddr != "" {
		args = append(args, "--watcher-storage-path="+s.storageDir()+"-watcher", "--watcher-storage-addr="+s.WatcherAddr, "--watcher-storage-adv-addr="+s.WatcherAddr)
	}
	if s.HookAddr != "" {
		args = append(args, "--notify-events-addr="+s.TakesEventsAddr, "--receiverAddr="+s.HookAddr)
	}
	if s.options.EventsAddr != "" {
		args = append(args, "--events-addr="+s.options.EventsAddr)
	}
	return append(args, s.options.Flags...)
}

func (s *SUT) storageDir() string { return filepath.Join(s.options.Dir, "storage") }

// WaitReady returns when the ready endpoint answers 200. A process that ends first is an error.
func (s *SUT) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HealthAddr+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("asking flux whether it is ready: %w", err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.Ended():
			return fmt.Errorf("flux ended before it was ready; the end of its log: %s", s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("flux did not become ready: %w; the end of its log: %s", ctx.Err(), s.LogTail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// PID is the process id.
func (s *SUT) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

// Ended is closed when the current process is gone.
func (s *SUT) Ended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// ExitCode is how the last process ended, which must be over; -1 if a signal did it.
func (s *SUT) ExitCode() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	<-s.ended
	return s.cmd.ProcessState.ExitCode()
}

// Kill ends the process at once, as kill -9 does, and waits until it is gone.
func (s *SUT) Kill() error { return s.end(syscall.SIGKILL, 10*time.Second) }

// Stop asks the process to end and waits for it. One that hangs is killed and reported.
func (s *SUT) Stop() error {
	err := s.end(syscall.SIGTERM, 30*time.Second)
	if err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

func (s *SUT) end(signal syscall.Signal, limit time.Duration) error {
	s.mu.Lock()
	process, ended := s.cmd.Process, s.ended
	s.mu.Unlock()
	if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to flux: %w", signal, err)
	}
	select {
	case <-ended:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("flux did not end within %s of %s", limit, signal)
	}
}

// LogTail is the end of the log, for messages.
func (s *SUT) LogTail() string {
	b, err := os.ReadFile(s.LogPath)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-tailSize):])
}

// The ports of FreeAddr lie below those that Linux gives to connections and to listeners without a port of their own: a
// process that is started again after a kill finds its ports free, whoever connects to whom meanwhile.
const (
	firstPort = 12_000
	lastPort  = 32_000
)

// given counts the ports that FreeAddr gave.
var given atomic.Int64

// FreeAddr finds a loopback address nobody listens on, and gives it once. Another process may take it before its user
// does; the window is small, and the failure says what happened.
func FreeAddr() (string, error) {
	for range lastPort - firstPort {
		// Processes of tests begin at different places.
		port := firstPort + (os.Getpid()*97+int(given.Add(1)))%(lastPort-firstPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		addr := l.Addr().String()
		return addr, l.Close()
	}
	return "", fmt.Errorf("finding a free port: all from %d to %d are taken", firstPort, lastPort)
}
