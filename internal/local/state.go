package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Phases of an environment.
const (
	PhaseStarting = "starting"
	PhaseReady    = "ready"
	PhaseStopping = "stopping"
	PhaseStopped  = "stopped"
	PhaseFailed   = "failed"
)

// State is what the background process publishes about its environment.
type State struct {
	// Options as they were given, ports as they came out.
	Options
	PID     int       `json:"pid"`
	Phase   string    `json:"phase"`
	Started time.Time `json:"started"`
	// Error is why the phase is failed.
	Error string `json:"error,omitempty"`
	// Kubernetes is the version of the API server, with its v.
	Kubernetes string    `json:"kubernetes,omitempty"`
	Server     string    `json:"server,omitempty"`
	Kubeconfig string    `json:"kubeconfig"`
	Following  Following `json:"following"`
	// Registry is host:port of the OCI registry.
	Registry string `json:"registry,omitempty"`
	Log      string `json:"log"`
	// Controllers is false in an environment that runs none.
	Controllers bool `json:"controllers"`
}

// Following is what the controllers were told to follow.
type Following struct {
	URL    string `json:"url,omitempty"`
	Branch string `json:"branch,omitempty"`
	Path   string `json:"path,omitempty"`
	// Clone is the user's working tree of it, if there is one on this machine.
	Clone string `json:"clone,omitempty"`
}

func (h *home) writeState(s State) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := h.path(stateFile + ".tmp")
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	if err := os.Rename(tmp, h.path(stateFile)); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return nil
}

// Read returns the last published state of a data directory and whether its background process lives. A process that died leaves the
// phase stopped and an Error that says so.
func Read(data string) (State, bool, error) {
	var s State
	file, err := os.OpenFile(filepath.Join(data, markerName), os.O_RDWR, 0)
	if err != nil {
		return s, false, fmt.Errorf("read the state of the environment: %w", err)
	}
	defer file.Close()
	free, err := probeLock(file)
	if err != nil {
		return s, false, fmt.Errorf("read the state of the environment: %w", err)
	}
	mark, err := readMarker(file)
	if err != nil && !errors.Is(err, errNoMarker) {
		return s, false, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	content, err := os.ReadFile(filepath.Join(data, stateFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		s = State{Phase: PhaseStarting, Options: Options{Data: data, Keep: mark.Keep}, Log: filepath.Join(data, logFile)}
	case err != nil:
		return s, false, fmt.Errorf("read the state of the environment: %w", err)
	default:
		if err := json.Unmarshal(content, &s); err != nil {
			// A machine that lost power may leave half a file; what matters more is in the marker.
			s = State{Phase: PhaseFailed, Options: Options{Data: data, Keep: mark.Keep}, Error: fmt.Sprintf("%s cannot be read: %v", stateFile, err), Log: filepath.Join(data, logFile)}
		}
	}
	s.PID = mark.PID
	if free && s.Phase != PhaseStopped && s.Phase != PhaseFailed {
		s.Phase, s.Error = PhaseFailed, fmt.Sprintf("the background process %d is gone", mark.PID)
	}
	return s, !free, nil
}
