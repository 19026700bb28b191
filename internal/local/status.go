package local

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Status is what runs in an environment right now.
type Status struct {
	State
	Running bool `json:"running"`
	// Processes are this program's background process and the parts of the control plane.
	Processes []Process `json:"processes,omitempty"`
	// Memory is the resident memory of all processes, in bytes. Pages they share are counted for each.
	Memory int64 `json:"memory"`
	// Sync is nil when nothing runs or no controllers do; SyncError says why the cluster did not tell.
	Sync      *Sync  `json:"sync,omitempty"`
	SyncError string `json:"syncError,omitempty"`
}

// Process is one process of an environment.
type Process struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	State    string `json:"state"`
	Restarts int    `json:"restarts"`
	// Memory is the resident memory in bytes, 0 where the system does not tell.
	Memory int64  `json:"memory"`
	Log    string `json:"log,omitempty"`
}

// ReadStatus looks at the environment of a data directory.
func ReadStatus(ctx context.Context, data string) (Status, error) {
	state, live, err := Read(data)
	if err != nil {
		return Status{}, err
	}
	s := Status{State: state, Running: live}
	if !live {
		return s, nil
	}
	s.Processes = append(s.Processes, Process{Name: "flux", PID: state.PID, State: state.Phase, Log: state.Log})
	s.Processes = append(s.Processes, clusterProcesses(filepath.Join(data, clusterDir))...)
	for i := range s.Processes {
		s.Processes[i].Memory = residentMemory(ctx, s.Processes[i].PID)
		s.Memory += s.Processes[i].Memory
	}
	if state.Phase != PhaseReady || !state.Controllers {
		return s, nil
	}
	sync, err := readSync(ctx, state.Kubeconfig)
	if err != nil {
		s.SyncError = err.Error()
		return s, nil
	}
	s.Sync = &sync
	return s, nil
}

// clusterProcesses reads what flux-cluster publishes.
func clusterProcesses(dir string) []Process {
	var state struct {
		PID   int                `json:"pid"`
		Phase string             `json:"phase"`
		Parts map[string]Process `json:"parts"`
	}
	content, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil || json.Unmarshal(content, &state) != nil {
		return nil
	}
	processes := []Process{{Name: clusterProgram, PID: state.PID, State: state.Phase}}
	for name, part := range state.Parts {
		part.Name = name
		processes = append(processes, part)
	}
	slices.SortFunc(processes[1:], func(a, b Process) int { return strings.Compare(a.Name, b.Name) })
	return processes
}

// residentMemory asks the system for the resident memory of a process, in bytes; 0 when it does not tell.
func residentMemory(ctx context.Context, pid int) int64 {
	if pid <= 0 {
		return 0
	}
	if runtime.GOOS == "linux" {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err != nil {
			return 0
		}
		return fieldKiB(content, "VmRSS:")
	}
	out, err := exec.CommandContext(ctx, "ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0
	}
	return kib(string(out))
}

// fieldKiB reads a line such as "VmRSS:   1234 kB".
func fieldKiB(content []byte, name string) int64 {
	for line := range bytes.Lines(content) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return kib(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"))
		}
	}
	return 0
}

func kib(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
