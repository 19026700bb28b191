package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/oracle"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// service is a webhook on loopback that remembers the events it was told.
type service struct {
	*httptest.Server
	mu   sync.Mutex
	told []event.Payload
}

// newService starts a service; answer may be nil, and is called once the event is remembered.
func newService(t *testing.T, answer http.HandlerFunc) *service {
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p event.Payload
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &p)
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.told = append(s.told, p)
		s.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// heard reports whether the service was told something by an object of the kind.
func (s *service) heard(kind, message string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.told, func(p event.Payload) bool {
		return p.InvolvedObject.Kind == kind && strings.Contains(p.Message, message)
	})
}

func notifyRig(t *testing.T, flags ...string) *rig {
	t.Helper()
	return startRig(t, oracle.Kustomizations(), []string{"source-controller", "kustomize-controller", "notification-controller"}, flags...)
}

// tell creates a Provider of type generic and an Alert for all Kustomizations and GitRepositories of the namespace.
func (s *scene) tell(name, address string, change func(*notificationv1beta3.Provider, *notificationv1beta3.Alert)) {
	s.t.Helper()
	p := &notificationv1beta3.Provider{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	p.Spec.Type, p.Spec.Address, p.Spec.Timeout = "generic", address, "2s"
	a := &notificationv1beta3.Alert{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	a.Spec.ProviderRef.Name = name
	a.Spec.EventSources = []notificationv1.ObjectSelector{{Kind: "Kustomization", Name: "*"}, {Kind: "GitRepository", Name: "*"}}
	if change != nil {
		change(p, a)
	}
	s.create(p)
	s.create(a)
}

// warnings are the messages of the Warning events about an Alert.
func (s *scene) warnings(alert string) []string {
	s.t.Helper()
	var events corev1.EventList
	if err := s.client.List(s.t.Context(), &events, client.InNamespace(s.namespace)); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, e := range events.Items {
		if e.InvolvedObject.Kind == "Alert" && e.InvolvedObject.Name == alert && e.Type == corev1.EventTypeWarning {
			out = append(out, e.Reason+": "+e.Message)
		}
	}
	return out
}

func (s *scene) until(what string, so func() bool) {
	s.t.Helper()
	if err := poll(s.t.Context(), patience, so); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// TestNotifications is reliability 053 and 080: of ten Providers one hangs, one refuses and one is away for a moment; the others are told
// as if nothing was, what has failed stands at the Alert without a word of what was answered, and the source's commit is applied.
func TestNotifications(t *testing.T) {
	t.Parallel()
	s := notifyRig(t).newScene(t)
	var good []*service
	for i := range 7 {
		good = append(good, newService(t, nil))
		s.tell(fmt.Sprint("good-", i), good[i].URL, nil)
	}
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hangs := newService(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	s.tell("hangs", hangs.URL, nil)
	refuses := newService(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "metadata of the machine", http.StatusForbidden)
	})
	s.tell("refuses", refuses.URL, nil)
	var once sync.Once
	flaky := newService(t, func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		})
	})
	s.tell("flaky", flaky.URL, func(p *notificationv1beta3.Provider, _ *notificationv1beta3.Alert) { p.Spec.Timeout = "30s" })

	revision := s.commit(s.configMap("one", "1"))
	s.source()
	s.kustomization(nil)
	s.awaitApplied(revision)
	for i, each := range append(good, flaky) {
		s.until(fmt.Sprintf("service %d was not told", i), func() bool {
			return each.heard("GitRepository", "stored artifact") && each.heard("Kustomization", "created")
		})
	}
	s.until("what hangs is not told at its Alert", func() bool {
		return slices.ContainsFunc(s.warnings("hangs"), func(w string) bool {
			return strings.Contains(w, "NotificationDispatchFailed: failed to send notification for ") && strings.Contains(w, "deadline exceeded")
		})
	})
	s.until("what is refused is not told at its Alert", func() bool {
		return slices.ContainsFunc(s.warnings("refuses"), func(w string) bool { return strings.Contains(w, "status code 403") })
	})
	for _, w := range append(s.warnings("refuses"), s.warnings("hangs")...) {
		if strings.Contains(w, "metadata of the machine") {
			t.Errorf("the answer of the service is told: %s", w)
		}
	}
	if got := s.warnings("good-0"); len(got) > 0 {
		t.Errorf("warnings: %q", got)
	}
	metrics := get(t, "http://"+s.sut.MetricsAddr+"/metrics")
	for _, want := range []string{
		`flux_notifications_total{name="refuses",namespace="` + s.namespace + `",provider="refuses",result="failed"}`,
		`flux_notifications_total{name="good-0",namespace="` + s.namespace + `",provider="good-0",result="sent"}`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("there is no %s", want)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestNotifyShutdown: what was taken is told before the process ends, also by a service that takes its time.
func TestNotifyShutdown(t *testing.T) {
	t.Parallel()
	s := notifyRig(t).newScene(t)
	busy := make(chan struct{}, 100)
	slow := newService(t, func(_ http.ResponseWriter, r *http.Request) {
		busy <- struct{}{}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-r.Context().Done():
		}
	})
	s.tell("slow", slow.URL, nil)
	revision := s.commit(s.configMap("one", "1"))
	s.source()
	s.kustomization(nil)
	s.awaitApplied(revision)
	<-busy
	if err := s.sut.Stop(); err != nil {
		t.Fatal(err)
	}
	if !slow.heard("Kustomization", "created") || !slow.heard("Kustomization", "Reconciliation finished") && !slow.heard("GitRepository", "stored") {
		t.Errorf("told before the end: %v", slow.told)
	}
}

// TestEventEndpoint is reliability 023: whatever is posted, the process lives; and under lockdown a forged event of one tenant does not
// reach the Provider of another.
func TestEventEndpoint(t *testing.T) {
	t.Parallel()
	s := notifyRig(t, "--no-cross-namespace-refs").newScene(t)
	ours, theirs := newService(t, nil), newService(t, nil)
	other := testkit.Namespace(t, s.config)
	s.tell("ours", ours.URL, nil)
	s.tell("spies", theirs.URL, func(_ *notificationv1beta3.Provider, a *notificationv1beta3.Alert) {
		for i := range a.Spec.EventSources {
			a.Spec.EventSources[i].Namespace = other
		}
	})
	endpoint, pid := "http://"+s.sut.TakesEventsAddr+"/", s.sut.PID()
	post := func(body string) int {
		t.Helper()
		resp, err := http.Post(endpoint, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	forged := func(namespace, message string) string {
		return fmt.Sprintf(`{"involvedObject":{"kind":"Kustomization","namespace":%q,"name":"x","apiVersion":"kustomize.toolkit.fluxcd.io/v1"},"severity":"info","message":%q,"reason":"Forged"}`, namespace, message)
	}
	for body, want := range map[string]int{
		"": 400, "null": 202, "[]": 400, `{"involvedObject":[]}`: 400, `{"metadata":{"a":1}}`: 400, strings.Repeat(`{"a":`, 100_000): 400,
		`{"severity":"loud","timestamp":"never"}`: 400, string(bytes.Repeat([]byte("x"), 4<<20)): 413,
		`{"involvedObject":{"kind":"\u0000","apiVersion":"////"},"message":"\ud800"}`: 202,
	} {
		if got := post(body); got != want {
			t.Errorf("%.40q is answered %d, want %d", body, got, want)
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 250 {
				post(forged(other, fmt.Sprint("flood ", worker, i)))
			}
		})
	}
	wg.Wait()
	if got := post(forged(s.namespace, "for us")); got != 202 {
		t.Errorf("an event is answered %d", got)
	}
	s.until("the Alert of the namespace was not heard", func() bool { return ours.heard("Kustomization", "for us") })
	if theirs.heard("Kustomization", "") {
		t.Error("an event has crossed the border of a namespace")
	}
	s.until("the refusal is not told", func() bool {
		return slices.ContainsFunc(s.warnings("spies"), func(w string) bool { return strings.Contains(w, "references to other namespaces are not allowed") })
	})
	if s.sut.PID() != pid {
		t.Error("the process has ended")
	}
	if got := get(t, "http://"+s.sut.MetricsAddr+"/metrics"); !strings.Contains(got, `gotk_event_http_request_duration_seconds_count{code="413"`) {
		t.Error("the metrics of the endpoint are missing")
	}
}

// TestWebhookOnStandby: of two processes one holds the leases, and both answer webhooks and take events.
func TestWebhookOnStandby(t *testing.T) {
	t.Parallel()
	r := notifyRig(t, "--enable-leader-election", "--leader-election-lease-duration=5s", "--leader-election-renew-deadline=4s", "--leader-election-retry-period=1s",
		"--watch-label-selector="+shard+"=none-but-the-standby")
	s := r.newScene(t)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := r.proxy.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	standby, err := testkit.StartSUT(t.Context(), testkit.SUTOptions{
		Components: []string{"notification-controller", "source-controller"}, Kubeconfig: kubeconfig, Dir: filepath.Join(t.TempDir(), "standby"),
		Flags: []string{"--enable-leader-election", "--watch-label-selector=" + shard + "=none-but-the-standby"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	source := &sourcev1.GitRepository{ObjectMeta: s.meta()}
	source.Spec = sourcev1.GitRepositorySpec{URL: s.git.URL + "/" + s.name + ".git", Interval: "1h"}
	s.create(source)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "hook"}, StringData: map[string]string{"token": "t0k3n"}}
	s.create(secret)
	receiver := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "hook"}}
	receiver.Spec.Type, receiver.Spec.SecretRef = "generic", &meta.LocalObjectReference{Name: "hook"}
	receiver.Spec.Resources = []notificationv1.ReceiverResource{{ObjectSelector: notificationv1.ObjectSelector{Kind: "GitRepository", Name: s.name}}}
	s.create(receiver)
	told := newService(t, nil)
	s.tell("all", told.URL, nil)
	s.until("the Receiver has no path", func() bool {
		return s.client.Get(t.Context(), client.ObjectKeyFromObject(receiver), receiver) == nil && receiver.Status.WebhookPath != ""
	})
	for name, process := range map[string]*testkit.SUT{"the leader": r.sut, "the standby": standby} {
		before := annotation(t, s.client, source)
		s.until(name+" does not answer the webhook", func() bool {
			resp, err := http.Post("http://"+process.HookAddr+receiver.Status.WebhookPath, "application/json", strings.NewReader("{}"))
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
		if annotation(t, s.client, source) == before {
			t.Errorf("%s has answered and asked for nothing", name)
		}
		event := fmt.Sprintf(`{"involvedObject":{"kind":"Kustomization","namespace":%q,"name":"x","apiVersion":"kustomize.toolkit.fluxcd.io/v1"},"severity":"info","message":%q,"reason":"R"}`, s.namespace, name)
		resp, err := http.Post("http://"+process.TakesEventsAddr+"/", "application/json", strings.NewReader(event))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		s.until(name+" has not told the event", func() bool { return told.heard("Kustomization", name) })
	}
	if log, err := os.ReadFile(standby.LogPath); err != nil || strings.Contains(string(log), receiver.Status.WebhookPath) {
		t.Errorf("the log holds the path of the webhook, or cannot be read: %v", err)
	}
}

func annotation(t *testing.T, c client.Client, o client.Object) string {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	return o.GetAnnotations()[meta.ReconcileRequestAnnotation]
}
