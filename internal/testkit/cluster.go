package testkit

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
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// KubeconfigEnv names the kubeconfig of a control plane that a whole test run shares.
const KubeconfigEnv = "FLUX_TEST_KUBECONFIG"

// clusterStart bounds the start of a control plane, a cold one on a busy machine included.
const clusterStart = 3 * time.Minute

// shared holds the one control plane of this test binary, so that each package pays for one start
// at most. It is a lazily computed constant: nothing ever assigns it.
var shared = sync.OnceValues(sharedControlPlane)

// ControlPlane is a running Kubernetes API server to test against.
type ControlPlane struct {
	Config     *rest.Config
	Kubeconfig string
	// Dir holds the cluster's files; empty for a cluster that somebody else started.
	Dir string

	stop func() error
}

// Cluster returns a client configuration with all rights on a control plane that is shared with
// other tests: stay inside a Namespace, or inside names nobody else uses. The control plane is
// the one FLUX_TEST_KUBECONFIG names or else one started for this test binary; its Pods are
// simulated. A test that cannot have one fails; with -short it is skipped.
func Cluster(t testing.TB) *rest.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a control plane, and -short asks for tests without one")
	}
	plane, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return rest.CopyConfig(plane.Config)
}

// Kubeconfig returns the file that a process uses to reach the control plane of Cluster.
func Kubeconfig(t testing.TB) string {
	t.Helper()
	Cluster(t)
	plane, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return plane.Kubeconfig
}

// Namespace creates a namespace for the test and deletes it afterwards.
func Namespace(t testing.TB, config *rest.Config) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("creating a namespace: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		// A test may be about the end of its namespace.
		if err := client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("deleting namespace %s: %v", ns.Name, err)
		}
	})
	return ns.Name
}

// sharedControlPlane joins the run's control plane or starts one that dies with this process:
// flux-cluster runs a command that waits for the end of its input, and that end comes with ours,
// however we end.
func sharedControlPlane() (*ControlPlane, error) {
	if path := os.Getenv(KubeconfigEnv); path != "" {
		config, err := loadConfig(path)
		if err != nil {
			return nil, fmt.Errorf("using the control plane of %s: %w", KubeconfigEnv, err)
		}
		return &ControlPlane{Config: config, Kubeconfig: path, stop: func() error { return nil }}, nil
	}
	program, err := findCluster()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "exec", "--", "sh", "-c", `echo "`+KubeconfigEnv+`=$`+KubeconfigEnv+`"; exec cat`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	log := &tail{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	kubeconfig, err := awaitLine(stdout, KubeconfigEnv+"=", clusterStart)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("starting %s: %w; its last output: %s", program, err, log)
	}
	config, err := loadConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	stop := func() error {
		return errors.Join(stdin.Close(), cmd.Wait())
	}
	return &ControlPlane{Config: config, Kubeconfig: kubeconfig, Dir: filepath.Dir(kubeconfig), stop: stop}, nil
}

// StartControlPlane runs a cluster of the caller's own in dir. The caller stops it.
func StartControlPlane(ctx context.Context, dir string) (*ControlPlane, error) {
	program, err := findCluster()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "run", "--dir", dir, "--port", "0", "--pods=none", "--progress=json")
	log := &tail{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stopping the control plane: %w", err)
		}
		select {
		case <-ended:
			return nil
		case <-time.After(time.Minute):
			return errors.Join(errors.New("stopping the control plane: it did not end within a minute"), cmd.Process.Kill())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, clusterStart)
	defer cancel()
	for {
		select {
		case err := <-ended:
			return nil, fmt.Errorf("starting the control plane: it ended: %w; its last output: %s", err, log)
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("starting the control plane: %w; its last output: %s", ctx.Err(), log), stop())
		case <-time.After(100 * time.Millisecond):
		}
		state, err := ReadState(dir)
		if err != nil || state.Phase != "ready" {
			continue
		}
		config, err := loadConfig(state.Kubeconfig)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		return &ControlPlane{Config: config, Kubeconfig: state.Kubeconfig, Dir: dir, stop: stop}, nil
	}
}

// Stop ends a control plane that StartControlPlane started.
func (p *ControlPlane) Stop() error { return p.stop() }

// ClusterState is what flux-cluster publishes about itself.
type ClusterState struct {
	Phase      string `json:"phase"`
	Kubeconfig string `json:"kubeconfig"`
	Parts      map[string]struct {
		PID int `json:"pid"`
	} `json:"parts"`
}

// ReadState reads the state file of the cluster in dir.
func ReadState(dir string) (ClusterState, error) {
	var s ClusterState
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return s, fmt.Errorf("reading the cluster's state: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("reading the cluster's state: %w", err)
	}
	return s, nil
}

func loadConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", kubeconfig, err)
	}
	// The server's own fairness is the limiter; a client-side one would only slow the tests down.
	config.QPS, config.Burst = -1, 0
	return config, nil
}

// findCluster looks for flux-cluster: FLUX_CLUSTER, the bin folder of this repository, the PATH.
func findCluster() (string, error) {
	return FindProgram("flux-cluster", "FLUX_CLUSTER", "make cluster")
}

// FindFlux looks for the flux binary under test: FLUX_BIN, the bin folder of this repository, the PATH.
func FindFlux() (string, error) { return FindProgram("flux", "FLUX_BIN", "make build") }

// FindProgram looks for a program: the environment variable env, the bin folder of this
// repository, the PATH. The error names all three and the command that builds it.
func FindProgram(name, env, build string) (string, error) {
	if path := os.Getenv(env); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s does not name a program: %w", env, err)
		}
		return path, nil
	}
	if dir, err := os.Getwd(); err == nil {
		for ; ; dir = filepath.Dir(dir) {
			if path := filepath.Join(dir, "bin", name); isFile(path) {
				return path, nil
			}
			if isFile(filepath.Join(dir, "go.mod")) || dir == filepath.Dir(dir) {
				break
			}
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("found no %s: run `%s`, or name it with %s", name, build, env)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// awaitLine reads lines until one starts with prefix and returns its rest. Later output is drained.
func awaitLine(r io.Reader, prefix string, limit time.Duration) (string, error) {
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				found <- rest
				break
			}
		}
		close(found)
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case line, ok := <-found:
		if !ok || line == "" {
			return "", errors.New("it ended before it was ready")
		}
		return line, nil
	case <-time.After(limit):
		return "", fmt.Errorf("it was not ready after %s", limit)
	}
}

// tail keeps the end of what is written to it, for error messages.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

// tailSize is how much a tail keeps, in bytes.
const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append([]byte(nil), t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
