package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

const (
	// maxResident bounds what the process may hold in memory at any time of an attack (O6).
	maxResident = 512 << 20
	// pickup bounds how long the healthy source may take to see a commit during an attack (O9).
	pickup = 15 * time.Second
	// canaryPassword must not come out of the process (O5). Its characters differ where it is escaped.
	canaryPassword = "c4n4ry/9d1e+f0b7 a3c5?e2"
	canaryUser     = "attacked"
)

// arena is a process with a healthy source, which attacks must leave alone, and a secret, which must not come out.
type arena struct {
	*rig
	ctl     *scene
	events  *testkit.EventEndpoint
	storage string
	scratch string // has one file, and nothing else may ever be there
	home    string // stays empty
	pid     int
	commits int // of ctl
}

func newArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{events: testkit.NewEventEndpoint(), scratch: t.TempDir(), home: t.TempDir()}
	t.Cleanup(a.events.Close)
	if err := os.WriteFile(filepath.Join(a.scratch, "keep.txt"), []byte(canaryPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", a.home)
	a.rig = newRig(t, "--events-addr="+a.events.URL, "--log-level=trace", "--max-retry-delay=5s", "--artifact-retention-ttl=2s")
	a.storage = filepath.Join(filepath.Dir(a.sut.LogPath), "storage")
	a.pid = a.sut.PID()
	a.ctl = a.newScene(t)
	for name, data := range map[string]map[string][]byte{
		"canary":  {"username": []byte(canaryUser), "password": []byte(canaryPassword)},
		"special": {"bearerToken": []byte(canaryPassword)},
	} {
		a.ctl.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: name}, Data: data})
	}
	revision := a.ctl.push(map[string]*testkit.GitFile{"app.yaml": {Content: "n: 0\n"}})
	a.ctl.create(&sourcev1.GitRepository{
		ObjectMeta: a.ctl.meta(),
		Spec: sourcev1.GitRepositorySpec{
			URL: a.git.URL + "/" + a.ctl.name + ".git", Interval: "1s", Timeout: "20s", Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
		},
	})
	a.ctl.awaitArtifact(revision)
	return a
}

// attack is a source that somebody hostile serves, and what has to come of it.
type attack struct {
	name string
	kind string
	spec map[string]any
	// fails are parts of the message of Ready=False. Empty: the attack is harmless and the source gets ready.
	fails []string
	// refused: the API server does not admit the object, and says fails.
	refused bool
	// verdict looks further; may be nil.
	verdict func(t *testing.T, o *unstructured.Unstructured)
}

// run lets all attacks loose at once and holds the process to the oracles while they last and after them.
func (a *arena) run(t *testing.T, attacks ...attack) {
	t.Helper()
	before := a.footprint(t)
	a.resetPeak(t)
	stop := a.watchControl(t)
	var objects []*unstructured.Unstructured
	for i, attack := range attacks {
		o := a.source(attack.kind, fmt.Sprintf("%s-%02d", label(t.Name()), i), attack.spec)
		objects = append(objects, o)
		if err := a.client.Create(t.Context(), o); (err != nil) != attack.refused {
			t.Errorf("%s: creating it: %v", attack.name, err)
		} else if attack.refused {
			contains(t, fmt.Sprint(err), attack.fails)
		}
	}
	for i, attack := range attacks {
		if attack.refused {
			continue
		}
		t.Run(attack.name, func(t *testing.T) {
			a.settle(t, objects[i], len(attack.fails) > 0)
			text := marshal(t, objects[i])
			a.canaryIn(t, "the object", text)
			if contains(t, message(objects[i]), attack.fails); attack.verdict != nil {
				attack.verdict(t, objects[i])
			}
		})
	}
	stop()
	if peak := a.peak(t); peak > maxResident {
		t.Errorf("O6: the process held %d MiB, want at most %d", peak>>20, int64(maxResident)>>20)
	} else {
		t.Logf("the process held at most %d MiB", peak>>20)
	}
	for _, o := range objects {
		a.remove(t, o)
	}
	a.awaitFootprint(t, before)
}

// source makes an object of a source kind, with short intervals unless spec says otherwise.
func (a *arena) source(kind, name string, spec map[string]any) *unstructured.Unstructured {
	all := map[string]any{"interval": "1h", "timeout": "10s"}
	for k, v := range spec {
		all[k] = v
	}
	o := object(sourcev1.GroupVersion.String(), kind, a.namespace, name, map[string]any{"spec": all})
	o.SetLabels(map[string]string{shard: a.namespace})
	return o
}

// settle waits until the process has said what it makes of the object, which then holds what it said.
func (a *arena) settle(t *testing.T, o *unstructured.Unstructured, fails bool) {
	t.Helper()
	want := string(metav1.ConditionTrue)
	if fails {
		want = string(metav1.ConditionFalse)
	}
	a.awaitObject(t, o, func() string {
		c := ready(o)
		if c["status"] != want || c["reason"] == meta.ProgressingReason {
			return fmt.Sprintf("Ready is %v, want %s", c, want)
		}
		return ""
	})
}

// awaitObject reads the object again and again until it is as wanted.
func (a *arena) awaitObject(t *testing.T, o *unstructured.Unstructured, want func() string) {
	t.Helper()
	await := "it was not read"
	err := poll(t.Context(), patience, func() bool {
		if err := a.client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			await = err.Error()
			return false
		}
		await = want()
		return await == ""
	})
	if err != nil {
		t.Fatalf("%s %s: %v: %s", o.GetKind(), o.GetName(), err, await)
	}
}

// remove deletes the object and waits until it is gone.
func (a *arena) remove(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	if err := a.client.Delete(t.Context(), o); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	err := poll(t.Context(), patience, func() bool {
		err := a.client.Get(t.Context(), client.ObjectKeyFromObject(o), o.DeepCopy())
		return err != nil && client.IgnoreNotFound(err) == nil
	})
	if err != nil {
		t.Errorf("deleting %s %s: %v", o.GetKind(), o.GetName(), err)
	}
}

// watchControl commits to the healthy source until stop is called, at least once, and expects each commit to be
// picked up (O9).
func (a *arena) watchControl(t *testing.T) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Add(1)
	go func() {
		defer ended.Done()
		for {
			if slowest, err := a.control(t.Context()); err != nil {
				t.Errorf("O9: the healthy source after %s: %v", slowest, err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	return func() {
		close(done)
		ended.Wait()
		select {
		case <-a.sut.Ended():
			t.Fatalf("O9: the process ended: %s", a.sut.LogTail())
		default:
		}
		if pid := a.sut.PID(); pid != a.pid {
			t.Errorf("O9: the process is %d, and was %d", pid, a.pid)
		}
	}
}

// control commits once and waits until the healthy source has it.
func (a *arena) control(ctx context.Context) (time.Duration, error) {
	a.commits++
	hash, err := a.ctl.repo.Commit(testkit.GitCommit{
		Branch: "main", Message: "change", Files: map[string]*testkit.GitFile{"app.yaml": {Content: fmt.Sprintf("n: %d\n", a.commits)}},
	})
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, pickup)
	defer cancel()
	err = a.ctl.artifact(ctx, "main@sha1:"+hash)
	return time.Since(begin), err
}

// footprint is what is on disk that is not the healthy source's: temporary files, and artifacts with their sizes.
func (a *arena) footprint(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, dir := range []string{a.sut.TempDir, a.storage} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil // it went while we walked
			case err != nil:
				return err
			case d.IsDir() || strings.Contains(path, "/cache/trees/"): // unpacked artifacts have a budget of their own
				return nil
			case strings.Contains(path, a.namespace+"/"+a.ctl.name) || strings.Contains(path, a.namespace+"-"+a.ctl.name+"-"):
				return nil
			}
			found = append(found, path)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// awaitFootprint waits until the attacks have left nothing on disk (O6). A blob has no name of an owner, so the few of
// the healthy source are told from others by their size.
func (a *arena) awaitFootprint(t *testing.T, before []string) {
	t.Helper()
	var left []string
	err := poll(t.Context(), 20*time.Second, func() bool {
		left = slices.DeleteFunc(a.footprint(t), func(path string) bool {
			info, err := os.Stat(path)
			return slices.Contains(before, path) || err != nil || strings.HasPrefix(path, a.storage) && info.Size() < 1<<10 && !strings.Contains(path, a.namespace)
		})
		return len(left) == 0
	})
	if err != nil {
		t.Errorf("O6: left on disk: %s", strings.Join(left, "\n"))
	}
	a.confined(t)
}

// confined: nothing was written outside of the folders of the process.
func (a *arena) confined(t *testing.T) {
	t.Helper()
	if names := entries(t, a.home); len(names) > 0 {
		t.Errorf("the home folder has %q", names)
	}
	if names := entries(t, a.scratch); !slices.Equal(names, []string{"keep.txt"}) {
		t.Errorf("the folder of the secret has %q", names)
	}
	if names := entries(t, filepath.Dir(a.sut.LogPath)); !slices.Equal(names, []string{"flux.log", "storage", "tmp"}) {
		t.Errorf("the folder of the process has %q", names)
	}
}

// resetPeak makes the kernel forget how much memory the process has held.
func (a *arena) resetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", a.pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// peak is how many bytes of memory the process has held at once since resetPeak.
func (a *arena) peak(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// canary looks for the secret in everything the process has said (O5).
func (a *arena) canary(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(a.sut.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	a.canaryIn(t, "the log", b)
	if bytes.Contains(b, []byte("panic")) {
		t.Error("the log tells of a panic")
	}
	var events corev1.EventList
	if err := a.client.List(t.Context(), &events, client.InNamespace(a.namespace)); err != nil {
		t.Fatal(err)
	}
	if len(events.Items) == 0 {
		t.Error("there are no events to look at")
	}
	a.canaryIn(t, "the events", marshal(t, events.Items))
	a.canaryIn(t, "the posted events", marshal(t, a.events.Deliveries(0)))
	metrics, err := http.Get("http://" + a.sut.MetricsAddr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	if b, err = io.ReadAll(metrics.Body); err != nil {
		t.Fatal(err)
	}
	a.canaryIn(t, "the metrics", b)
}

func (a *arena) canaryIn(t *testing.T, where string, text []byte) {
	t.Helper()
	quoted, err := json.Marshal(canaryPassword)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{
		canaryPassword, strings.Trim(string(quoted), `"`), url.QueryEscape(canaryPassword), url.PathEscape(canaryPassword),
		url.UserPassword("", canaryPassword).String()[1:],
		base64.StdEncoding.EncodeToString([]byte(canaryPassword)), base64.StdEncoding.EncodeToString([]byte(canaryUser + ":" + canaryPassword)),
	} {
		if i := bytes.Index(text, []byte(form)); i >= 0 {
			t.Errorf("O5: %s tells the secret: %s", where, text[max(0, i-300):min(len(text), i+len(form)+100)])
		}
	}
}

// poll asks until it is so or the time is up.
func poll(ctx context.Context, limit time.Duration, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %s", limit)
		}
	}
	return nil
}

// ready is the condition Ready, nil without one.
func ready(o *unstructured.Unstructured) map[string]any {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range list {
		if c, ok := c.(map[string]any); ok && c["type"] == meta.ReadyCondition {
			return c
		}
	}
	return nil
}

func message(o *unstructured.Unstructured) string { return fmt.Sprint(ready(o)["message"]) }

func contains(t *testing.T, text string, parts []string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%.600q does not say %q", text, part)
		}
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// label turns the name of a test into one an object may have.
func label(test string) string {
	_, test, _ = strings.Cut(test, "/")
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(test)), "-")
}
