package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	clusterProgram = "flux-cluster"
	// clusterGrace is how long flux-cluster may take to stop; its own parts have at most 15 s each.
	clusterGrace = 45 * time.Second
	// tailBytes is how much of a program's last words goes into an error.
	tailBytes = 4 << 10
)

// ErrNoCluster says that the program of the embedded control plane is not there.
type ErrNoCluster struct{ Beside string }

func (e *ErrNoCluster) Error() string {
	return fmt.Sprintf("found no %s beside %s or on the PATH: build it with `make cluster` in a clone of the repository, or name it with FLUX_CLUSTER", clusterProgram, e.Beside)
}

// findCluster looks for flux-cluster: FLUX_CLUSTER, beside this program, the PATH.
func findCluster(getenv func(string) string, self string) (string, error) {
	if path := getenv("FLUX_CLUSTER"); path != "" {
		if !isProgram(path) {
			return "", fmt.Errorf("FLUX_CLUSTER names %s, which is no program", path)
		}
		return filepath.Abs(path)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	if path := filepath.Join(filepath.Dir(self), clusterProgram); isProgram(path) {
		return path, nil
	}
	if path, err := exec.LookPath(clusterProgram); err == nil {
		return filepath.Abs(path)
	}
	return "", &ErrNoCluster{Beside: self}
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// cluster is a running flux-cluster.
type cluster struct {
	cmd *exec.Cmd
	// stdin tells flux-cluster by its end that this process is gone, however it went.
	stdin io.Closer
	ended chan struct{}
	err   error // why it ended; read after ended

	kubeconfig, server string
}

// clusterNews is a line of flux-cluster's progress.
type clusterNews struct {
	Phase      string `json:"phase"`
	State      string `json:"state"`
	Error      string `json:"error"`
	Kubeconfig string `json:"kubeconfig"`
	Server     string `json:"server"`
}

// startCluster runs flux-cluster in dir and returns when the control plane works. Later troubles of its parts, which it cures itself,
// are told to note.
func startCluster(ctx context.Context, program, dir string, port int, keep bool, note func(string)) (*cluster, error) {
	args := []string{"run", "--dir", dir, "--port", strconv.Itoa(port), "--progress", "json", "--stop-on-stdin-eof", "--keep=" + strconv.FormatBool(keep)}
	c := &cluster{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	c.stdin = stdin
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	words := &tail{}
	c.cmd.Stderr = words
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the control plane: %w", err)
	}
	ready := make(chan clusterNews, 1)
	go c.follow(stdout, words, ready, note)
	select {
	case news := <-ready:
		c.kubeconfig, c.server = news.Kubeconfig, news.Server
		return c, nil
	case <-c.ended:
		return nil, fmt.Errorf("start the control plane: %w", c.err)
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("start the control plane: %w", context.Cause(ctx)), c.stop())
	}
}

// follow reads the progress until the end of the process.
func (c *cluster) follow(stdout io.Reader, words *tail, ready chan<- clusterNews, note func(string)) {
	defer close(c.ended)
	decoder := json.NewDecoder(bufio.NewReader(stdout))
	for {
		var news clusterNews
		if err := decoder.Decode(&news); err != nil {
			break
		}
		switch {
		case news.Phase == "ready":
			ready <- news
		case news.Error != "":
			note(fmt.Sprintf("%s is %s: %s", news.Phase, news.State, news.Error))
		}
	}
	// Anything that is no progress is drained, so that the writer never blocks.
	_, _ = io.Copy(io.Discard, stdout)
	err := c.cmd.Wait()
	text := strings.TrimPrefix(strings.TrimSpace(words.String()), clusterProgram+": ")
	switch {
	case text != "":
		c.err = errors.New(strings.TrimPrefix(text, "start cluster: "))
	case err != nil:
		c.err = fmt.Errorf("%s ended: %w", clusterProgram, err)
	default:
		c.err = errors.New(clusterProgram + " ended by itself")
	}
}

// version reads the version of the API server from what flux-cluster publishes.
func (c *cluster) version() string {
	content, err := os.ReadFile(filepath.Join(filepath.Dir(c.kubeconfig), stateFile))
	if err != nil {
		return ""
	}
	var state struct {
		Kubernetes string `json:"kubernetes"`
	}
	if err := json.Unmarshal(content, &state); err != nil {
		return ""
	}
	return state.Kubernetes
}

// stop ends the control plane and returns when it is gone.
func (c *cluster) stop() error {
	_ = c.stdin.Close()
	select {
	case <-c.ended:
		return nil
	case <-time.After(clusterGrace):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("stop the control plane: it did not end within %s and was killed", clusterGrace)
	}
}

// settleCluster waits until a flux-cluster that a killed background process left behind is gone: it ends with that process, but
// takes a moment.
func settleCluster(ctx context.Context, program, dir string) error {
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, program, "stop", "--dir", dir).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil && !strings.Contains(text, "no cluster in") {
		return fmt.Errorf("stop the control plane of an earlier run: %w: %s", err, text)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append([]byte(nil), t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
