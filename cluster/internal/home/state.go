package home

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// State is what the supervisor publishes in state.json about the cluster of a directory.
type State struct {
	// PID is the process id of the supervisor.
	PID int `json:"pid"`
	// Phase is starting, ready, stopping or stopped.
	Phase string `json:"phase"`
	// Kubernetes is the version of the API server, with its v.
	Kubernetes string    `json:"kubernetes"`
	Started    time.Time `json:"started"`
	// Server is the URL of the API server, Port its port on the loopback address.
	Server     string `json:"server"`
	Port       int    `json:"port"`
	Kubeconfig string `json:"kubeconfig"`
	// Pods is simulated or none.
	Pods string `json:"pods"`
	Keep bool   `json:"keep"`
	// Parts are the child processes by name.
	Parts map[string]Part `json:"parts"`
}

// Part is one child process in a State.
type Part struct {
	PID      int    `json:"pid"`
	State    string `json:"state"`
	Restarts int    `json:"restarts"`
	Log      string `json:"log"`
}

// Write publishes s, so that a reader sees the old or the new state and nothing between.
func (h *Home) Write(s State) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := h.Path(StateFile + ".tmp")
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp, h.Path(StateFile)); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// Read returns the last published state of dir and whether its supervisor lives. It returns *ErrNoCluster when dir holds no cluster.
func Read(dir string) (State, bool, error) {
	var s State
	dir, err := filepath.Abs(dir)
	if err != nil {
		return s, false, fmt.Errorf("resolve data directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, markerName), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return s, false, &ErrNoCluster{Dir: dir}
	}
	if err != nil {
		return s, false, fmt.Errorf("read cluster state: %w", err)
	}
	defer file.Close()
	live := errors.Is(flock(file, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	mark, err := readMarker(file)
	if err != nil && !errors.Is(err, errNoMarker) {
		return s, live, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	data, err := os.ReadFile(filepath.Join(dir, StateFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		s = State{Phase: "starting", Keep: mark.Keep, Kubernetes: mark.Kubernetes}
	case err != nil:
		return s, live, fmt.Errorf("read cluster state: %w", err)
	default:
		if err := json.Unmarshal(data, &s); err != nil {
			return s, live, fmt.Errorf("read cluster state: %w", err)
		}
	}
	s.PID = mark.PID
	if !live {
		s.Phase = "stopped"
	}
	return s, live, nil
}

// Stop asks the supervisor of dir to end and waits until it is gone, or ctx ends. remove also deletes data that was to be kept.
// It returns *ErrNoCluster when dir holds no cluster; a cluster that is not running is no error.
func Stop(ctx context.Context, dir string, remove bool) error {
	s, live, err := Read(dir)
	if err != nil {
		return err
	}
	if live {
		if err := terminate(ctx, dir, s.PID); err != nil {
			return err
		}
	}
	if !remove {
		return nil
	}
	h, err := Open(dir, true, s.Kubernetes)
	if err != nil {
		return err
	}
	defer h.file.Close()
	return h.Remove()
}

func terminate(ctx context.Context, dir string, pid int) error {
	file, err := os.OpenFile(filepath.Join(dir, markerName), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop cluster: %w", err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("stop cluster: %w", err)
	}
	if err := process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = file.Close()
		return fmt.Errorf("stop cluster: signal process %d: %w", pid, err)
	}
	// The lock is let go only when the last child is gone and the data removed, so waiting for it needs no polling.
	released := make(chan error, 1)
	go func() {
		err := flock(file, unix.LOCK_EX)
		// Before the word is out: whoever goes on takes the lock next.
		_ = file.Close()
		released <- err
	}()
	select {
	case err := <-released:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop cluster: process %d did not end in time: %w", pid, context.Cause(ctx))
	}
}
