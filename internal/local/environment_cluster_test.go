package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/seed-79636ae9/flux/internal/app"
	"github.com/seed-79636ae9/flux/internal/local"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// TestMain plays the background process, which is this program started again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == local.BackgroundCommand {
		ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer cancel()
		if err := local.Background(ctx, os.Stdin, os.Stderr, app.Controllers("test")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// user is somebody in a directory of their own.
type user struct {
	*testing.T
	places local.Places
	dir    string
}

func newUser(t *testing.T) *user {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane, and -short asks for tests without one")
	}
	program, err := testkit.FindProgram("flux-cluster", "FLUX_CLUSTER", "make cluster")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("FLUX_CLUSTER", program)
	t.Setenv("HOME", t.TempDir())
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	u := &user{T: t, places: local.Places{Root: filepath.Join(dir, "cache")}, dir: filepath.Join(dir, "work")}
	if err := os.Mkdir(u.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return u
}

// up starts an environment that ends with the test.
func (u *user) up(o local.Options) (local.State, error) {
	u.Helper()
	o.Directory = u.dir
	ctx, cancel := context.WithTimeout(u.Context(), 3*time.Minute)
	defer cancel()
	u.Cleanup(func() {
		if data, err := u.places.Find(u.dir); err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if _, _, err := local.Down(ctx, u.places, data, true); err != nil {
				u.Error(err)
			}
		}
	})
	return local.Up(ctx, u.places, o, func(p local.Progress) { u.Log(p.Text + p.Warning) })
}

func (u *user) mustUp(o local.Options) local.State {
	u.Helper()
	state, err := u.up(o)
	if err != nil {
		u.Fatal(err)
	}
	return state
}

func (u *user) data() string {
	u.Helper()
	data, err := u.places.Find(u.dir)
	if err != nil {
		u.Fatal(err)
	}
	return data
}

func (u *user) down(remove bool) (left bool) {
	u.Helper()
	_, left, err := local.Down(u.Context(), u.places, u.data(), remove)
	if err != nil {
		u.Fatal(err)
	}
	return left
}

func (u *user) client(state local.State) *kubernetes.Clientset {
	u.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", state.Kubeconfig)
	if err != nil {
		u.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		u.Fatal(err)
	}
	return client
}

func (u *user) git(dir string, args ...string) {
	u.Helper()
	cmd := exec.CommandContext(u.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t")
	if out, err := cmd.CombinedOutput(); err != nil {
		u.Fatalf("git %s: %v: %s", args[0], err, out)
	}
}

func (u *user) write(path, content string) {
	u.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		u.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		u.Fatal(err)
	}
}

// awaitText waits until a ConfigMap of the namespace default says text.
func (u *user) awaitText(client *kubernetes.Clientset, name, text string) {
	u.Helper()
	ctx, cancel := context.WithTimeout(u.Context(), 30*time.Second)
	defer cancel()
	w, err := client.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		u.Fatal(err)
	}
	defer w.Stop()
	for range w.ResultChan() {
		if cm, err := client.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{}); err == nil && cm.Data["text"] == text {
			return
		}
	}
	u.Fatalf("ConfigMap %s did not come to say %q", name, text)
}

func configMap(name, text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  namespace: default\ndata:\n  text: %s\n", name, text)
}

func TestEnvironmentWithDemo(t *testing.T) {
	u := newUser(t)
	state := u.mustUp(local.Options{})
	if _, err := u.client(state).AppsV1().Deployments("demo").Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
		t.Errorf("the demo is not there: %v", err)
	}
	t.Run("a second up changes nothing", func(t *testing.T) {
		again, err := u.up(local.Options{})
		var running *local.ErrRunning
		if !errors.As(err, &running) || again.PID != state.PID {
			t.Errorf("up returns process %d, %v; want ErrRunning of process %d", again.PID, err, state.PID)
		}
	})
	t.Run("status tells what runs", func(t *testing.T) {
		status, err := local.ReadStatus(t.Context(), u.data())
		if err != nil {
			t.Fatal(err)
		}
		if !status.Running || len(status.Processes) != 6 || status.Memory == 0 || status.Sync == nil || !status.Sync.Ready {
			t.Errorf("the status is %+v, sync %+v", status, status.Sync)
		}
	})
	t.Run("a killed background process leaves nothing running", func(t *testing.T) {
		status, err := local.ReadStatus(t.Context(), u.data())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(state.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if left := u.down(false); left {
			t.Error("the data of an environment that was not to be kept is still there")
		}
		for _, p := range status.Processes {
			if alive(p.PID) {
				t.Errorf("%s, process %d, still runs", p.Name, p.PID)
			}
		}
	})
	if _, err := os.Stat(filepath.Join(u.dir, local.DemoDir, "README.md")); err != nil {
		t.Errorf("the user's clone is gone: %v", err)
	}
}

// alive tells whether a process runs; one that only waits for its parent to notice its end does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !errors.Is(err, os.ErrNotExist)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestEnvironmentOfAWorkingTree(t *testing.T) {
	u := newUser(t)
	repo := filepath.Join(u.dir, "fleet")
	manifest := filepath.Join(repo, "prod", "a.yaml")
	u.write(manifest, configMap("a", "one"))
	u.git(repo, "init", "--quiet", "--initial-branch=trunk")
	u.git(repo, "add", ".")
	u.git(repo, "commit", "--quiet", "-m", "one")

	o := local.Options{Repo: "fleet", Path: "prod", Keep: true}
	state := u.mustUp(o)
	client := u.client(state)
	u.awaitText(client, "a", "one")
	u.write(manifest, configMap("a", "two"))
	u.git(repo, "commit", "--quiet", "-a", "-m", "two")
	u.awaitText(client, "a", "two")

	// Somebody else's object, to be found again.
	kept := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), kept, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := u.down(false); !left {
		t.Fatal("kept data is gone")
	}
	u.write(manifest, configMap("a", "three"))
	u.git(repo, "commit", "--quiet", "-a", "-m", "three")

	again := u.mustUp(local.Options{})
	if again.Ports != state.Ports || again.Following != state.Following || !again.Keep {
		t.Errorf("the second life has %+v and follows %+v; the first had %+v and %+v", again.Ports, again.Following, state.Ports, state.Following)
	}
	client = u.client(again)
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("an object of the first life: %v", err)
	}
	u.awaitText(client, "a", "three")

	u.down(true)
	if _, err := u.places.Find(u.dir); err == nil {
		t.Error("the data is still there after a down that deletes")
	}
	u.write(manifest, configMap("Not_A_Name", "x"))
	u.write(filepath.Join(repo, "prod", "b.yaml"), configMap("b", "x"))
	u.git(repo, "add", ".")
	u.git(repo, "commit", "--quiet", "-m", "four")
	state, err := u.up(local.Options{Repo: "fleet", Path: "prod"})
	var sync *local.ErrSync
	if !errors.As(err, &sync) || !strings.Contains(sync.Message, "Not_A_Name") {
		t.Errorf("up of a broken repository: %v, want ErrSync that names the object", err)
	}
	if _, err := u.client(state).CoreV1().ConfigMaps("default").Get(t.Context(), "b", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the other object of a broken repository: %v, want none", err)
	}
}
