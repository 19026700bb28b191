package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/cluster/internal/home"
	"github.com/seed-79636ae9/flux/cluster/internal/launch"
)

// patience bounds what takes a moment on an idle machine and longer on a busy one.
const patience = 90 * time.Second

// cluster is a flux-cluster that runs as a process of its own.
type cluster struct {
	*testing.T
	dir    string
	cmd    *exec.Cmd
	stderr bytes.Buffer
	news   chan launch.Progress
	ended  chan error
	*kubernetes.Clientset
	kubeconfig string
}

// run starts a cluster in dir and returns when it is ready. It ends with the test.
func runCluster(t *testing.T, dir string, args ...string) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane, and -short asks for tests without one")
	}
	c := &cluster{T: t, dir: dir, news: make(chan launch.Progress, 256), ended: make(chan error, 1)}
	c.cmd = program(t, append([]string{"run", "--dir", dir, "--progress=json"}, args...)...)
	c.cmd.Stderr = &c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.news)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var p launch.Progress
			if json.Unmarshal(lines.Bytes(), &p) == nil {
				c.news <- p
			}
		}
		c.ended <- c.cmd.Wait()
	}()
	t.Cleanup(c.kill)
	c.kubeconfig = c.await("ready", func(p launch.Progress) bool { return p.Phase == "ready" }).Kubeconfig
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	if c.Clientset, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return c
}

// await returns the next progress for which is returns true.
func (c *cluster) await(what string, is func(launch.Progress) bool) launch.Progress {
	c.Helper()
	late := time.After(patience)
	for {
		select {
		case p, open := <-c.news:
			if !open {
				c.Fatalf("it ended while waiting for this: %s: %s", what, c.stderr.String())
			}
			if is(p) {
				return p
			}
		case <-late:
			c.Fatalf("waited in vain for this: %s", what)
		}
	}
}

// stop ends the cluster in the orderly way and returns when its process is gone.
func (c *cluster) stop() {
	c.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.Fatal(err)
	}
	select {
	case err := <-c.ended:
		if err != nil {
			c.Fatalf("it ended with %v: %s", err, c.stderr.String())
		}
		c.ended <- nil
	case <-time.After(patience):
		c.Fatal("it does not end")
	}
}

func (c *cluster) kill() {
	_ = c.cmd.Process.Kill()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.Error("it does not end when killed")
	}
}

func (c *cluster) state() home.State {
	c.Helper()
	s, _, err := home.Read(c.dir)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// until watches an object until done says so.
func until[T runtime.Object](c *cluster, resource, namespace, name string, object T, done func(T) bool) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	client := c.CoreV1().RESTClient()
	if resource == "deployments" {
		client = c.AppsV1().RESTClient()
	}
	source := cache.NewListWatchFromClient(client, resource, namespace, fields.OneTermEqualSelector("metadata.name", name))
	var last any
	_, err := watchtools.UntilWithSync(ctx, source, object, nil, func(e watch.Event) (bool, error) {
		o, ok := e.Object.(T)
		last = e.Object
		return ok && e.Type != watch.Deleted && done(o), nil
	})
	if err != nil {
		c.Fatalf("%s %s did not come to be as wanted: %+v", resource, name, last)
	}
}

func (c *cluster) configMap(name string) {
	c.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := c.CoreV1().ConfigMaps("default").Create(c.Context(), object, metav1.CreateOptions{}); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) pod(name string, change func(*corev1.Pod)) {
	c.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "app"}}},
	}
	change(pod)
	if _, err := c.CoreV1().Pods("default").Create(c.Context(), pod, metav1.CreateOptions{}); err != nil {
		c.Fatal(err)
	}
}

// alive tells whether a process runs; one that only waits for its parent to notice its end does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat("/proc/self"); err == nil {
			return false
		}
		return syscall.Kill(pid, 0) == nil
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// awaitEnds waits until none of the processes runs any more.
func (c *cluster) awaitEnds(parts map[string]home.Part) {
	c.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for {
		running := slices.Collect(maps.Keys(parts))
		running = slices.DeleteFunc(running, func(name string) bool { return !alive(parts[name].PID) })
		if len(running) == 0 {
			return
		}
		select {
		case <-ticker.C:
		case <-late:
			c.Fatalf("still running: %v", running)
		}
	}
}

func TestClusterWithPods(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	audit := t.TempDir()
	policy, log := filepath.Join(audit, "policy.yaml"), filepath.Join(audit, "audit.log")
	err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c := runCluster(t, dir, "--audit-policy", policy, "--audit-log", log)

	t.Run("it is ready and says which version it is", func(t *testing.T) {
		body, err := c.RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		if err != nil || string(body) != "ok" {
			t.Errorf("/readyz answers %q, %v", body, err)
		}
		version, err := c.Discovery().ServerVersion()
		if err != nil || version.GitVersion != c.state().Kubernetes || !strings.HasPrefix(version.GitVersion, "v1.") {
			t.Errorf("the version is %v, %v; published is %s", version, err, c.state().Kubernetes)
		}
	})
	t.Run("a new namespace gets its service account", func(t *testing.T) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "fresh"}}
		if _, err := c.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		until(c, "serviceaccounts", "fresh", "default", &corev1.ServiceAccount{}, func(*corev1.ServiceAccount) bool { return true })
	})
	t.Run("a Deployment becomes available", func(t *testing.T) {
		labels := map[string]string{"app": "web"}
		deployment := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](3), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}}},
			},
		}
		if _, err := c.AppsV1().Deployments("default").Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		until(c, "deployments", "default", "web", &appsv1.Deployment{}, func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 3 })
		pods, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "flux-cluster/simulated=true"})
		if err != nil || len(pods.Items) != 3 {
			t.Errorf("%d pods say that they are simulated, %v; want 3", len(pods.Items), err)
		}
	})
	t.Run("pods do what images and annotations say", c.testPods)
	t.Run("the viewer sees and does not touch", c.testViewer)
	t.Run("a dead part comes back", c.testRestart)
	t.Run("the audit log tells who did what", func(t *testing.T) {
		content, err := os.ReadFile(log)
		if err != nil || !bytes.Contains(content, []byte(`"username":"admin"`)) || !bytes.Contains(content, []byte(`"username":"flux-cluster:simulator"`)) {
			t.Errorf("%d bytes of audit log do not tell of admin and simulator, %v", len(content), err)
		}
	})
	t.Run("a second one is refused", func(t *testing.T) {
		out, err := program(t, "run", "--dir", dir).CombinedOutput()
		if err == nil || !strings.Contains(string(out), fmt.Sprintf("in use by flux-cluster process %d", c.cmd.Process.Pid)) {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("kill -9 leaves no child", func(t *testing.T) {
		parts := c.state().Parts
		if len(parts) != 4 {
			t.Errorf("the parts are %v, want 4", parts)
		}
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		// A part dies with the thread that started it, the lock is let go of with the last one.
		c.ended <- <-c.ended
		c.awaitEnds(parts)
		if _, live, err := home.Read(dir); err != nil || live {
			t.Errorf("the directory is said to be live: %t, %v", live, err)
		}
	})
}

func (c *cluster) testPods(t *testing.T) {
	never := func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }
	c.pod("job", never)
	c.pod("failing-job", func(p *corev1.Pod) { never(p); p.Spec.Containers[0].Image = "app-fails" })
	c.pod("crashing", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "app-fails" })
	c.pod("pulling", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "app-never" })
	// Hours: what must not have happened when the others are through.
	c.pod("slow", func(p *corev1.Pod) { p.Annotations["flux-cluster/ready-after"] = "5h" })
	c.pod("long-job", func(p *corev1.Pod) { never(p); p.Annotations["flux-cluster/complete-after"] = "5h" })
	c.pod("soon", func(p *corev1.Pod) { p.Annotations["flux-cluster/ready-after"] = "1500ms" })
	phase := func(name string, phase corev1.PodPhase) {
		t.Helper()
		until(c, "pods", "default", name, &corev1.Pod{}, func(p *corev1.Pod) bool { return p.Status.Phase == phase })
	}
	phase("job", corev1.PodSucceeded)
	phase("failing-job", corev1.PodFailed)
	phase("long-job", corev1.PodRunning)
	waiting := func(name, reason string, restarts int32) {
		t.Helper()
		until(c, "pods", "default", name, &corev1.Pod{}, func(p *corev1.Pod) bool {
			statuses := p.Status.ContainerStatuses
			return len(statuses) == 1 && statuses[0].RestartCount >= restarts && statuses[0].State.Waiting != nil && statuses[0].State.Waiting.Reason == reason
		})
	}
	waiting("pulling", "ImagePullBackOff", 0)
	waiting("crashing", "CrashLoopBackOff", 2)
	until(c, "pods", "default", "soon", &corev1.Pod{}, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodRunning && p.Status.StartTime.Sub(p.CreationTimestamp.Time) >= time.Second
	})
	slow, err := c.CoreV1().Pods("default").Get(t.Context(), "slow", metav1.GetOptions{})
	if err != nil || slow.Status.Phase != corev1.PodPending || slow.Spec.NodeName != "simulated" {
		t.Errorf("the slow pod is %s on node %q, %v; want it Pending on the simulated one", slow.Status.Phase, slow.Spec.NodeName, err)
	}
	if err := c.CoreV1().Pods("default").Delete(t.Context(), "job", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w, err := c.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=job"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for {
		if _, err := c.CoreV1().Pods("default").Get(ctx, "job", metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return
		}
		if _, open := <-w.ResultChan(); !open {
			t.Fatal("a deleted pod stays")
		}
	}
}

func (c *cluster) testViewer(t *testing.T) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: c.kubeconfig}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: "flux-cluster-viewer"}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	viewer, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := viewer.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("it sees nothing: %v", err)
	}
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "no"}}
	if _, err := viewer.CoreV1().ConfigMaps("default").Create(t.Context(), object, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("it writes: %v", err)
	}
	if _, err := viewer.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("it reads Secrets: %v", err)
	}
}

func (c *cluster) testRestart(t *testing.T) {
	for _, part := range []string{"pod-simulator", "kube-controller-manager", "kube-apiserver", "etcd"} {
		old := c.state().Parts[part].PID
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		again := c.await(part+" is ready again", func(p launch.Progress) bool { return p.Phase == part && p.State == "ready" && p.PID != old })
		if state := c.state().Parts[part]; state.Restarts < 1 || state.PID != again.PID {
			t.Errorf("%s is published as %+v, want process %d", part, state, again.PID)
		}
	}
	// Whoever was hit on the way is back when all of this works.
	name := fmt.Sprintf("after-%d", time.Now().UnixNano())
	late := time.After(patience)
	for {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err := c.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) {
			break
		}
		select {
		case <-late:
			t.Fatalf("no writes after the restarts: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	until(c, "serviceaccounts", name, "default", &corev1.ServiceAccount{}, func(*corev1.ServiceAccount) bool { return true })
	if web, err := c.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{}); err != nil || web.Status.AvailableReplicas != 3 {
		t.Errorf("the Deployment from before: %v", err)
	}
}

func TestClusterWithoutPodsIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c := runCluster(t, dir, "--pods=none", "--keep")
	if nodes, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil || len(nodes.Items) != 0 {
		t.Errorf("%d nodes, %v; want none", len(nodes.Items), err)
	}
	if _, there := c.state().Parts["pod-simulator"]; there {
		t.Error("a simulator runs")
	}
	c.configMap("kept")
	port, token := c.state().Port, c.kubeconfig
	c.stop()
	if s := c.state(); s.Phase != "stopped" || !s.Keep {
		t.Errorf("the state after the end is %+v", s)
	}
	if out, err := program(t, "run", "--dir", dir).CombinedOutput(); err == nil || !strings.Contains(string(out), "--keep") {
		t.Errorf("kept data without --keep: %v, %s", err, out)
	}
	out, err := program(t, "status", "--dir", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not running") {
		t.Errorf("status of a stopped cluster: %v, %s", err, out)
	}

	c = runCluster(t, dir, "--pods=none", "--keep")
	if _, err := c.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("the object of the first life: %v", err)
	}
	if c.state().Port != port || c.kubeconfig != token {
		t.Errorf("port %d and kubeconfig %s, want %d and %s as before", c.state().Port, c.kubeconfig, port, token)
	}
	out, err = program(t, "status", "--dir", dir, "--output", "json").Output()
	var state home.State
	if err != nil || json.Unmarshal(out, &state) != nil || state.Phase != "ready" || len(state.Parts) != 3 {
		t.Errorf("status says %s, %v", out, err)
	}
	parts := c.state().Parts
	if out, err := program(t, "stop", "--dir", dir, "--delete").CombinedOutput(); err != nil {
		t.Fatalf("stop: %v, %s", err, out)
	}
	for name, part := range parts {
		if alive(part.PID) {
			t.Errorf("%s runs after stop has returned", name)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the data is there after a stop that deletes")
	}
}

func TestExec(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane, and -short asks for tests without one")
	}
	cmd := program(t, "exec", "--pods=none", "--progress=none", "--", "sh", "-c", `test -s "$KUBECONFIG" && echo "$KUBECONFIG" && exit 7`)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exec ends with %v, want the command's code 7", err)
	}
	if _, err := os.Stat(filepath.Dir(strings.TrimSpace(string(out)))); err == nil {
		t.Errorf("the temporary directory of %q is still there", out)
	}
}
