package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// apiServer keeps events as the API server would; fail, when set, decides about each call first.
type apiServer struct {
	fail func(call int) error

	mu      sync.Mutex
	calls   int
	version int
	events  map[string]*corev1.Event
}

func (a *apiServer) begin() error {
	a.calls++
	if a.fail != nil {
		return a.fail(a.calls)
	}
	return nil
}

func (a *apiServer) CreateWithEventNamespaceWithContext(_ context.Context, e *corev1.Event) (*corev1.Event, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.begin(); err != nil {
		return nil, err
	}
	if e.ResourceVersion != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	a.version++
	stored := e.DeepCopy()
	stored.ResourceVersion = fmt.Sprint(a.version)
	if a.events == nil {
		a.events = map[string]*corev1.Event{}
	}
	a.events[e.Name] = stored
	return stored.DeepCopy(), nil
}

func (a *apiServer) PatchWithEventNamespaceWithContext(_ context.Context, e *corev1.Event, data []byte) (*corev1.Event, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.begin(); err != nil {
		return nil, err
	}
	stored, ok := a.events[e.Name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, e.Name)
	}
	if err := json.Unmarshal(data, stored); err != nil {
		return nil, err
	}
	a.version++
	stored.ResourceVersion = fmt.Sprint(a.version)
	return stored.DeepCopy(), nil
}

func (a *apiServer) messages() map[string]int32 {
	out := map[string]int32{}
	for _, e := range a.events {
		out[e.Reason+": "+e.Message] += e.Count
	}
	return out
}

func newWriter(t *testing.T, client EventClient, queue int) (*KubernetesWriter, func(result string) int) {
	t.Helper()
	metrics, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	w := NewKubernetesWriter(KubernetesOptions{Client: client, Queue: queue, Log: logr.Discard(), Metrics: metrics})
	return w, func(result string) int {
		return int(testutil.ToFloat64(metrics.events.WithLabelValues(destinationKubernetes, result)))
	}
}

func write(w *KubernetesWriter, severity Severity, reason, revision, message string) {
	r := &Recorder{Component: "source-controller", Kubernetes: w}
	r.Emit(repository(nil), Event{Severity: severity, Reason: reason, Message: message, Metadata: map[string]string{"revision": revision}})
	// Event names carry the time; the fake clock stands still between two calls.
	time.Sleep(time.Millisecond)
}

func TestKubernetesWriterCountsRepetition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &apiServer{}
		w, count := newWriter(t, server, 0)
		for range 40 {
			write(w, Error, "GitOperationFailed", "", "no route to host")
		}
		if err := w.Shutdown(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if len(server.events) != 1 || server.messages()["GitOperationFailed: no route to host"] != repeatBurst {
			t.Errorf("events %v, want one with count %d", server.messages(), repeatBurst)
		}
		if count(resultDelivered) != repeatBurst || count(resultFiltered) != 40-repeatBurst {
			t.Errorf("delivered %d, filtered %d", count(resultDelivered), count(resultFiltered))
		}
	})
}

// A chatty object keeps its voice: client-go's own filter would have spent the object's budget on the noise.
func TestKubernetesWriterKeepsNewFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &apiServer{}
		w, count := newWriter(t, server, 0)
		for range 60 {
			write(w, Trace, "GitOperationSucceeded", "", "no changes since last reconciliation")
		}
		for i := range 60 {
			write(w, Info, "NewArtifact", fmt.Sprintf("main@sha1:%d", i), fmt.Sprintf("stored artifact for commit '%d'", i))
		}
		write(w, Trace, "ArtifactUpToDate", "", "artifact up-to-date")
		if err := w.Shutdown(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := len(server.events); got != 1+60+1 {
			t.Errorf("%d events, want every revision's own", got)
		}
		for i := range 60 {
			if server.messages()[fmt.Sprintf("NewArtifact: stored artifact for commit '%d'", i)] != 1 {
				t.Errorf("commit %d is lost", i)
			}
		}
		if count(resultFiltered) != 60-repeatBurst {
			t.Errorf("filtered %d, want the noise only", count(resultFiltered))
		}
	})
}

func TestKubernetesWriterCombinesFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &apiServer{}
		w, count := newWriter(t, server, 0)
		for i := range 200 {
			write(w, Error, "BuildFailed", "main@sha1:1", fmt.Sprintf("port %d refused", i))
		}
		if err := w.Shutdown(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if len(server.events) != combineAfter {
			t.Errorf("%d events, want %d and one combined", len(server.events), combineAfter-1)
		}
		if count(resultDelivered) != combineAfter-1+repeatBurst {
			t.Errorf("%d writes", count(resultDelivered))
		}
		for _, e := range server.events {
			if e.Annotations["source.toolkit.fluxcd.io/revision"] != "main@sha1:1" || e.ReportingController != "source-controller" {
				t.Errorf("%q lost its metadata: %v", e.Message, e.Annotations)
			}
		}
	})
}

func TestKubernetesWriterStartsExpiredEventsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &apiServer{}
		w, _ := newWriter(t, server, 0)
		write(w, Info, "R", "", "again")
		synctest.Wait()
		server.mu.Lock()
		clear(server.events)
		server.mu.Unlock()
		write(w, Info, "R", "", "again")
		write(w, Info, "R", "", "again")
		if err := w.Shutdown(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got := server.messages()["R: again"]; len(server.events) != 1 || got != 3 {
			t.Errorf("events %v", server.messages())
		}
	})
}

func TestKubernetesWriterRetries(t *testing.T) {
	for _, tc := range []struct {
		name       string
		fail       func(call int) error
		wantCalls  int
		wantResult string
	}{
		{"server away, then back", func(call int) error {
			if call < 3 {
				return errors.New("connection refused")
			}
			return nil
		}, 3, resultDelivered},
		{"server busy, then fine", func(call int) error {
			if call == 1 {
				return apierrors.NewTooManyRequests("busy", 1)
			}
			return nil
		}, 2, resultDelivered},
		{"away for good", func(int) error { return errors.New("connection refused") }, kubernetesTries, resultGaveUp},
		{"forbidden", func(int) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "x", errors.New("namespace is terminating"))
		}, 1, resultRejected},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &apiServer{fail: tc.fail}
				w, count := newWriter(t, server, 0)
				write(w, Info, "R", "", "m")
				if err := w.Shutdown(within(t, time.Hour)); err != nil {
					t.Fatal(err)
				}
				if server.calls != tc.wantCalls || count(tc.wantResult) != 1 {
					t.Errorf("%d calls, %s counted %d times", server.calls, tc.wantResult, count(tc.wantResult))
				}
			})
		})
	}
}

func TestKubernetesWriterBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &apiServer{fail: func(int) error { return errors.New("connection refused") }}
		w, count := newWriter(t, server, 2)
		for i := range 6 {
			write(w, Info, "R", "", fmt.Sprint(i))
		}
		if got := count(resultQueueFull); got != 3 {
			t.Errorf("%d dropped, want 3: one in flight, two queued", got)
		}
		if err := w.Shutdown(within(t, time.Second)); err == nil || !strings.Contains(err.Error(), "2 still waited") {
			t.Errorf("shutdown: %v", err)
		}
		if got := count(resultShutdown); got != 3 {
			t.Errorf("%d lost at shutdown, want 3", got)
		}
	})
}

func BenchmarkEmit(b *testing.B) {
	r := &Recorder{Component: "c", Kubernetes: discard{}, Sink: Nop{}}
	obj := repository(map[string]string{"event.toolkit.fluxcd.io/team": "blue"})
	e := Event{Severity: Info, Reason: "R", Message: "m", Metadata: map[string]string{"revision": "main@sha1:1"}}
	b.ReportAllocs()
	for b.Loop() {
		r.Emit(obj, e)
	}
}

type discard struct{}

func (discard) Write(*corev1.Event) {}
