package kustomize

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// tally counts the writes that runs send, and the reads of single objects that are none of this program's kinds.
type tally struct {
	mu   sync.Mutex // guards sent
	sent map[string]int
}

// take returns the counts since the last call.
func (c *tally) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := maps.Clone(c.sent)
	clear(c.sent)
	return out
}

func (c *tally) note(r *http.Request) {
	path, rest, ours := strings.Cut(r.URL.Path, "/kustomizations/")
	what := r.Method
	switch {
	case ours && strings.HasSuffix(rest, "/status"):
		what += " status"
	case ours && r.Method != http.MethodGet:
		what += " kustomization"
	case r.URL.Query().Get("dryRun") != "":
		what += " dry run"
	case r.Method == http.MethodGet && (ours || strings.Contains(path, ".toolkit.fluxcd.io") || r.URL.RawQuery != "" || strings.Count(path, "/") < 5):
		// What is cached in a process, watches, and what a process discovers once.
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		c.sent = map[string]int{}
	}
	c.sent[what]++
}

// counted is a transport whose requests are counted.
type counted struct {
	http.RoundTripper
	tally *tally
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.tally.note(r)
	return c.RoundTripper.RoundTrip(r)
}

// webapp is an application of four kinds of objects, all of which tell its version.
func webapp(version string) string {
	return strings.ReplaceAll(`apiVersion: v1
kind: ServiceAccount
metadata: {name: web, labels: {version: VERSION}}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {version: VERSION}}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {version: VERSION}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: example.com/web:VERSION}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, labels: {version: VERSION}}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
`, "VERSION", version)
}

// architecture 5b: what an application costs the API server.
func TestRequestBudget(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.publish("main@sha1:1", map[string]string{"app.yaml": webapp("v1")})
	l.create(func(o *kustomizev1.Kustomization) { o.Spec.Wait = true })
	l.tally.take()
	l.step()
	sent := l.tally.take()
	// The wait for health looks for itself until the watch has begun.
	delete(sent, "GET")
	expect(t, "installation", map[string]int{"PATCH kustomization": 1, "PATCH status": 2, "PATCH dry run": 4, "PATCH": 4}, sent)
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))
	l.inView()

	l.publish("main@sha1:2", map[string]string{"app.yaml": webapp("v2")})
	l.told()
	l.tally.take()
	l.step()
	expect(t, "upgrade", map[string]int{"PATCH status": 1, "PATCH dry run": 4, "PATCH": 4}, l.tally.take())
	expect(t, "number of events", 3, len(l.told()))
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:2", l.condition("Ready"))

	l.inView()
	l.tally.take()
	l.step()
	expect(t, "routine run", map[string]int{}, l.tally.take())
}

// inView waits until the watch shows what was applied as it now is.
func (l *lab) inView() {
	l.t.Helper()
	for _, o := range l.k.settled.get(l.get().UID).applied.Objects {
		live := &metav1.PartialObjectMetadata{}
		live.SetGroupVersionKind(o.ID.GroupKind().WithVersion(o.Version))
		for shown := "none"; shown != live.ResourceVersion; {
			must(l.t, l.client.Get(l.t.Context(), types.NamespacedName{Namespace: o.ID.Namespace, Name: o.ID.Name}, live))
			state, _ := l.k.Clusters.Home().Watch.Lookup(o.ID.GroupKind(), o.ID.Namespace, o.ID.Name)
			shown = state.ResourceVersion
		}
	}
}

// complain makes the source say that it cannot be fetched.
func (l *lab) complain() {
	l.t.Helper()
	repo := &sourcev1.GitRepository{}
	must(l.t, l.client.Get(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: "repo"}, repo))
	repo.Status.Conditions = []metav1.Condition{{
		Type: meta.ReadyCondition, Status: metav1.ConditionFalse, Reason: "GitOperationFailed", Message: "no", LastTransitionTime: metav1.Now(),
	}}
	must(l.t, l.client.Status().Update(l.t.Context(), repo))
}

// older is a clock by which everything was created a while before.
type older struct {
	clock.RealClock
	by time.Duration
}

func (c older) Since(at time.Time) time.Duration { return c.RealClock.Since(at) + c.by }

// kustomization 10, 12, the way they are here: an object that has just been created is not told that it has no source; its first write
// is of the run that applies.
func TestNewborn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		source   func(*lab)
		patience time.Duration
	}{
		"no source":         {func(*lab) {}, sourcePatience},
		"a new source":      {func(l *lab) { l.publish("", nil) }, unseenSourcePatience},
		"no artifact in it": {func(l *lab) { l.publish("", nil); l.complain() }, sourcePatience},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.source(l)
			l.create()
			l.tally.take()
			if after := l.step().RequeueAfter; after <= c.patience-sourcePatience || after > c.patience {
				t.Errorf("next run after %s", after)
			}
			expect(t, "requests", map[string]int{"PATCH kustomization": 1}, l.tally.take())
			expect(t, "Ready", "-", l.condition(meta.ReadyCondition))
			l.k.Clock = older{by: c.patience}
			l.step()
			if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, "False ArtifactFailed: ") {
				t.Errorf("Ready after a while: %s", got)
			}
			// From then on the status is kept up to date.
			l.k.Clock = clock.RealClock{}
			l.publish("", nil)
			l.step()
			expect(t, "Ready", "False ArtifactFailed: Source artifact not found, retrying in TIME", l.condition(meta.ReadyCondition))
		})
	}
}
