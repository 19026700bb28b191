package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// steppingClock jumps ahead at each pause instead of sleeping through it, but gives the API server a moment.
type steppingClock struct {
	clock.RealClock
	step   time.Duration
	offset time.Duration
}

func newSteppingClock(step time.Duration) *steppingClock { return &steppingClock{step: step} }

func (c *steppingClock) Now() time.Time { return c.RealClock.Now().Add(c.offset) }

func (c *steppingClock) After(time.Duration) <-chan time.Time {
	c.offset += c.step
	return c.RealClock.After(20 * time.Millisecond)
}

func toText(v any) string { return fmt.Sprint(v) }

func parkCounting(n *int) func(context.Context, func(context.Context) error) error {
	return func(ctx context.Context, wait func(context.Context) error) error {
		*n++
		return wait(ctx)
	}
}

const ab = `
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
`

func (l *lab) stale(names ...string) ssa.Inventory {
	var inv ssa.Inventory
	for _, n := range names {
		inv = append(inv, ssa.Entry{ID: l.ns + "_" + n + "__ConfigMap", Version: "v1"})
	}
	return inv
}

// prune prunes and checks the lines of the event, without their namespace.
func (l *lab) prune(req ssa.PruneRequest, want ...string) *ssa.Pruned {
	l.t.Helper()
	req.Owner = l.owner
	pruned, err := l.applier.Prune(l.t.Context(), req)
	if err != nil {
		l.t.Fatal(err)
	}
	var got []string
	for _, c := range pruned.Changes {
		got = append(got, strings.Replace(c.String(), l.ns+"/", "", 1))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Errorf("pruned (-want +got):\n%s", diff)
	}
	return pruned
}

// kustomization 81-83; reliability O2, 137-139, 143, 144.
func TestPrune(t *testing.T) {
	t.Parallel()
	t.Run("in reverse order", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		res := l.mustApply(fourObjects)
		l.synced(res)
		l.eventually("the deployment is at rest", func() bool {
			s, _ := l.managed.Lookup(l.ref("Deployment", "web").GroupVersionKind().GroupKind(), l.ns, "web")
			return s.Verdict.Status == kube.Current
		})
		l.log.take()
		p := l.prune(ssa.PruneRequest{Stale: res.Inventory}, "Deployment/web deleted", "Service/web deleted", "ConfigMap/a deleted", "ServiceAccount/web deleted")
		if diff := cmp.Diff(map[string]int{"GET": 4, "DELETE": 4}, l.log.take()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if err := l.applier.Gone(t.Context(), p.Deleted, 10*time.Second); err != nil {
			t.Error(err)
		}
		select {
		case <-l.touched:
			t.Error("our own deletes were taken for somebody else's")
		case <-time.After(300 * time.Millisecond):
		}
	})
	t.Run("only what is the owner's", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(ab)
		// prune-skips-foreign-owner
		l.patch("ConfigMap", "b", "someone", `{"metadata":{"labels":{"`+group+`/name":"someone-else"}}}`)
		l.prune(ssa.PruneRequest{Stale: l.stale("a", "b")}, "ConfigMap/b skipped", "ConfigMap/a deleted")
		// The same name in another namespace is another owner (reliability 136).
		l.mustApply(ab)
		l.patch("ConfigMap", "a", "someone", `{"metadata":{"labels":{"`+group+`/namespace":"elsewhere"}}}`)
		l.prune(ssa.PruneRequest{Stale: l.stale("a")}, "ConfigMap/a skipped")
	})
	t.Run("recreated by somebody else without our labels", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(ab)
		l.remove("ConfigMap", "a")
		l.create(l.parse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}"))
		l.prune(ssa.PruneRequest{Stale: l.stale("a")}, "ConfigMap/a skipped")
	})
	t.Run("marks", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		for i, m := range []string{"prune: disabled", "reconcile: disabled", "ssa: Ignore"} {
			name := fmt.Sprintf("m%d", i)
			l.mustApply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}")
			key, value, _ := strings.Cut(m, ": ")
			l.patch("ConfigMap", name, "someone", `{"metadata":{"annotations":{"`+group+`/`+key+`":"`+value+`"}}}`)
			l.prune(ssa.PruneRequest{Stale: l.stale(name)}, "ConfigMap/"+name+" skipped")
		}
	})
	t.Run("what this run applied under another name", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		res := l.mustApply("apiVersion: events.k8s.io/v1\nkind: Event\nmetadata: {name: e}\nregarding: {namespace: " + l.ns + "}\neventTime: \"2026-01-01T00:00:00.000000Z\"\nreportingController: x\nreportingInstance: x\naction: x\nreason: x\ntype: Normal\n")
		stale := ssa.Inventory{{ID: l.ns + "_e__Event", Version: "v1"}}
		l.prune(ssa.PruneRequest{Stale: stale, Keep: res.UIDs()}, "Event/e skipped")
	})
	t.Run("what is gone", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.log.take()
		stale := append(l.stale("never"), ssa.Entry{ID: l.ns + "_w_gone.example.com_Widget", Version: "v1"})
		l.prune(ssa.PruneRequest{Stale: stale}, "Widget/w deleted", "ConfigMap/never deleted")
		if got := l.log.take()["DISCOVERY"]; got == 0 {
			t.Error("a missing kind counted as gone without a fresh look")
		}
	})
	t.Run("names with colons and with underscores", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		const roles = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: \"team:viewer\"}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: team__editor}\n"
		res := l.mustApply(roles)
		// recording rbac-name-with-colon
		if got := res.Inventory[0].ID; got != l.ns+"_team__viewer_rbac.authorization.k8s.io_Role" {
			t.Errorf("id: %s", got)
		}
		l.prune(ssa.PruneRequest{Stale: res.Inventory}, "Role/team:viewer deleted", "Role/team__editor deleted")
		if l.get("Role", "team__editor") != nil || l.get("Role", "team:viewer") != nil {
			t.Error("a role is left")
		}
	})
	t.Run("a version that is no longer served", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.removeCRD()
		crd := l.widgets(widgetCRD, "", "true")
		res := l.mustApply(crd + l.widgets(widget, "v1beta1", ""))
		if got := res.Inventory[1].Version; got != "v1beta1" {
			t.Fatalf("version: %s", got)
		}
		l.mustApply(l.widgets(widgetCRD, "", "false"))
		l.prune(ssa.PruneRequest{Stale: res.Inventory[1:]}, "Widget/w deleted")
	})
	t.Run("the process's own namespace", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		other := newLab(t)
		l.applier.OwnNamespace = other.ns
		l.patch("Namespace", other.ns, "someone", `{"metadata":{"labels":{"`+group+`/name":"app","`+group+`/namespace":"`+l.ns+`"}}}`)
		l.prune(ssa.PruneRequest{Stale: ssa.Inventory{{ID: "_" + other.ns + "__Namespace", Version: "v1"}}}, "Namespace/"+other.ns+" skipped")
	})
	// reliability 141
	t.Run("the owner's own namespace", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.patch("Namespace", l.ns, "someone", `{"metadata":{"labels":{"`+group+`/name":"app","`+group+`/namespace":"`+l.ns+`"}}}`)
		l.prune(ssa.PruneRequest{Stale: ssa.Inventory{{ID: "_" + l.ns + "__Namespace", Version: "v1"}}}, "Namespace/"+l.ns+" skipped")
	})
}

// kustomization 82; reliability, design rules 2 and 4: what happens in between, and what fails.
func TestPruneFaults(t *testing.T) {
	t.Parallel()
	t.Run("written between look and delete", func(t *testing.T) {
		t.Parallel()
		for _, tc := range []struct{ name, patch, want string }{
			{"harmlessly", `{"metadata":{"annotations":{"note":"x"}}}`, "ConfigMap/a deleted"},
			{"given to another owner", `{"metadata":{"labels":{"` + group + `/name":"other"}}}`, "ConfigMap/a skipped"},
		} {
			t.Run(tc.name, func(t *testing.T) {
				l := newLab(t)
				l.mustApply(ab)
				done := false
				l.log.fail = func(r *http.Request) error {
					if r.Method == http.MethodDelete && !done {
						done = true
						l.patch("ConfigMap", "a", "someone", tc.patch)
					}
					return nil
				}
				l.prune(ssa.PruneRequest{Stale: l.stale("a")}, tc.want)
			})
		}
	})
	t.Run("replaced between look and delete", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(ab)
		done := false
		l.log.fail = func(r *http.Request) error {
			if r.Method == http.MethodDelete && !done {
				done = true
				l.remove("ConfigMap", "a")
				l.create(l.parse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}"))
			}
			return nil
		}
		l.prune(ssa.PruneRequest{Stale: l.stale("a")}, "ConfigMap/a skipped")
		if l.get("ConfigMap", "a") == nil {
			t.Error("somebody else's object was deleted (O2)")
		}
	})
	t.Run("one failure does not stop the others, and stays in the inventory", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(ab)
		broken := errors.New("connection lost")
		l.log.fail = func(r *http.Request) error {
			if strings.HasSuffix(r.URL.Path, "/b") {
				return broken
			}
			return nil
		}
		p, err := l.applier.Prune(t.Context(), ssa.PruneRequest{Owner: l.owner, Stale: append(l.stale("a", "b"), ssa.Entry{ID: "nonsense"})})
		if !errors.Is(err, broken) {
			t.Errorf("error: %v", err)
		}
		if diff := cmp.Diff(append(ssa.Inventory{{ID: "nonsense"}}, l.stale("b")...), p.Remaining); diff != "" {
			t.Errorf("remaining (-want +got):\n%s", diff)
		}
		if got := p.Changes.String(); got != "ConfigMap/"+l.ns+"/a deleted" {
			t.Errorf("changes: %s", got)
		}
	})
	t.Run("a plain 404 of a served kind is no proof", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(ab)
		next := l.log.next
		l.log.next = roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/configmaps/") {
				return &http.Response{
					StatusCode: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/plain"}}, Request: r,
					Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
				}, nil
			}
			return next.RoundTrip(r)
		})
		p, err := l.applier.Prune(t.Context(), ssa.PruneRequest{Owner: l.owner, Stale: l.stale("a")})
		if err == nil || len(p.Remaining) != 1 {
			t.Errorf("error %v, remaining %v: the object counted as gone", err, p.Remaining)
		}
	})
	t.Run("waiting for termination ends with its time", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(ab)
		l.patch("ConfigMap", "a", "someone", `{"metadata":{"finalizers":["example.com/hold"]}}`)
		p := l.prune(ssa.PruneRequest{Stale: l.stale("a", "b")}, "ConfigMap/b deleted", "ConfigMap/a deleted")
		l.applier.Clock = newSteppingClock(time.Second)
		err := l.applier.Gone(t.Context(), p.Deleted, 5*time.Second)
		if !errors.Is(err, ssa.ErrStillThere) || !strings.Contains(err.Error(), "ConfigMap/"+l.ns+"/a") || strings.Contains(err.Error(), "/b") {
			t.Errorf("error: %v (kustomization 111)", err)
		}
		stop := errors.New("newer spec")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stop)
		if err := l.applier.Gone(ctx, p.Deleted, time.Hour); !errors.Is(err, stop) {
			t.Errorf("error: %v", err)
		}
		l.patch("ConfigMap", "a", "someone", `{"metadata":{"finalizers":null}}`)
		if err := l.applier.Gone(t.Context(), p.Deleted, 5*time.Second); err != nil {
			t.Error(err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// kustomization 96, 99; reliability 031, 105: acting as a service account.
func TestIdentity(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.create(l.parse(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant}
`))
	client, err := l.clients.For(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: "tenant"})
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := l.clients.For(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: "tenant"}); again != client {
		t.Error("the client was not kept warm")
	}
	l.applier.Client = client
	_, err = l.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}")
	want := strings.ReplaceAll(`ConfigMap/NS/a dry-run failed (Forbidden): configmaps "a" is forbidden: User "system:serviceaccount:NS:tenant" cannot patch resource "configmaps" in API group "" in the namespace "NS"`+"\n", "NS", l.ns)
	if err == nil || err.Error() != want {
		t.Errorf("error: %v\nwant: %s", err, want)
	}
	l.create(l.parse(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: ServiceAccount, name: tenant, namespace: ` + l.ns + `}]
`))
	l.eventually("the binding is effective", func() bool {
		_, err := l.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}")
		return err == nil
	})
	for name, want := range map[string]bool{"tenant": true, "absent": false} {
		got, err := l.clients.AccountExists(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: name})
		if err != nil || got != want {
			t.Errorf("%s exists: %v, %v", name, got, err)
		}
	}
	down := errors.New("connection lost")
	l.log.fail = func(*http.Request) error { return down }
	if _, err := l.clients.AccountExists(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: "tenant"}); !errors.Is(err, down) {
		t.Errorf("an outage was taken for an answer: %v", err)
	}
	l.log.fail = nil
	for _, name := range []string{"tb:rec", "../rec", "rec/../../x", strings.Repeat("x", 300), "system:masters", "Rec"} {
		l.log.take()
		if _, err := l.clients.For(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: name}); err == nil {
			t.Errorf("%q is no name of a service account", name)
		}
		if _, err := l.clients.AccountExists(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: name}); err == nil || len(l.log.take()) > 0 {
			t.Errorf("%q was looked up", name)
		}
	}
}
