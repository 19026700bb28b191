package receiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/expr"
)

// conditions as "Type=Status Reason: message".
func (l *lab) conditions() []string {
	var out []string
	for _, c := range l.get().Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return out
}

func equal[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Recording receiver/token-missing: receiver 1, 5, 6, 7.
func TestTokenMissing(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"))
	failing := func(message string) {
		t.Helper()
		if _, err := l.step(); err == nil {
			t.Error("the run is not repeated with a growing pause")
		}
		equal(t, "conditions", []string{
			"Reconciling=True ProgressingWithRetry: Reconciliation in progress", "Ready=False TokenNotFound: " + message,
		}, l.conditions())
		equal(t, "events", []string{"error TokenNotFound: " + message}, l.Lines())
		obj := l.get()
		equal(t, "observedGeneration", -1, obj.Status.ObservedGeneration)
		equal(t, "path", "", obj.Status.WebhookPath)
		equal(t, "finalizers", []string{"finalizers.fluxcd.io"}, obj.Finalizers)
	}
	failing(`unable to read token from secret 'apps/tok' error: secrets "tok" not found`)
	secret := token("")
	secret.Data = map[string][]byte{"other": []byte("x")}
	if err := l.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	const incomplete = `invalid 'apps/tok' secret data: required fields 'token'`
	failing(incomplete)
	failing(incomplete)

	secret.Data["token"] = []byte("t")
	if err := l.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	result, err := l.step()
	if err != nil || result.RequeueAfter != 10*time.Minute {
		t.Errorf("looks again after %s, error %v", result.RequeueAfter, err)
	}
	obj := l.get()
	equal(t, "path", obj.GetWebhookPath("t"), obj.Status.WebhookPath)
	equal(t, "conditions", []string{"Ready=True Succeeded: Receiver initialized for path: " + obj.Status.WebhookPath}, l.conditions())
	equal(t, "observedGeneration", 1, obj.Status.ObservedGeneration)
	equal(t, "events", []string{"info Succeeded: Reconciliation finished, next run in 10m0s"}, l.Lines())

	// receiver 7: every run tells the same, and nothing is written.
	before := obj.ResourceVersion
	l.settle()
	equal(t, "events", []string{"info Succeeded: Reconciliation finished, next run in 10m0s"}, l.Lines())
	equal(t, "resourceVersion", before, l.get().ResourceVersion)

	// receiver 5: without its Secret it answers no more.
	address := l.URL()
	if err := l.client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := l.step(); err == nil {
		t.Error("the run went well without the Secret")
	}
	equal(t, "path", "", l.get().Status.WebhookPath)
	equal(t, "status", http.StatusNotFound, l.postTo(address, nil, ""))
}

// The paths of recordings: receiver 6.
func TestPath(t *testing.T) {
	for namespace, want := range map[string]string{
		"receiver-generic": "/hook/f02f0d22cea73580738410ae7639ca043691715c4f31d9c8aefb45d99fe374b3",
		"receiver-github":  "/hook/a1a9e96146b02d3e057debf6c448d071b11115fce58ff854a8467eaac8306225",
	} {
		obj := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "r"}}
		equal(t, namespace, want, obj.GetWebhookPath("s3cr3t-token"))
	}
	// receiver 39: the name is part of it.
	one := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "one"}}
	two := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "two"}}
	if one.GetWebhookPath("t") == two.GetWebhookPath("t") {
		t.Error("two names have one path")
	}
	// receiver 40: names and namespaces that run together do collide.
	left := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: "bc", Name: "a"}}
	right := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: "c", Name: "ab"}}
	equal(t, "colliding paths", left.GetWebhookPath("t"), right.GetWebhookPath("t"))
}

// A Secret that cannot be read for now takes no path away, and nothing is served meanwhile.
func TestSecretUnreadable(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	path := l.settle().Status.WebhookPath
	l.refusing(func(_ string, obj client.Object) error {
		if _, ok := obj.(*corev1.Secret); ok {
			return apierrors.NewServiceUnavailable("etcd has no leader")
		}
		return nil
	})
	if _, err := l.step(); err == nil {
		t.Error("the run went well")
	}
	equal(t, "path", path, l.get().Status.WebhookPath)
	equal(t, "status", http.StatusServiceUnavailable, l.post(nil, ""))
	l.refusing(nil)
	l.settle()
	equal(t, "status", http.StatusOK, l.post(nil, ""))
}

// receiver 12, 41: a new token is asked for at once, and makes a new path with the next run.
func TestRotation(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("gitlab"), token("old"), repository(testNamespace, "app", nil))
	l.settle()
	address, asked := l.URL(), http.Header{"X-Gitlab-Token": {"new"}}
	if err := l.client.Update(t.Context(), token("new")); err != nil {
		t.Fatal(err)
	}
	equal(t, "status with the new token", http.StatusOK, l.postTo(address, asked, ""))
	equal(t, "status with the old token", http.StatusBadRequest, l.postTo(address, http.Header{"X-Gitlab-Token": {"old"}}, ""))
	l.settle()
	equal(t, "status of the old path", http.StatusNotFound, l.postTo(address, asked, ""))
	equal(t, "status of the new path", http.StatusOK, l.post(asked, ""))
}

// What the reconciler has found out counts before the cache shows the status, and a rotation of the path too.
func TestServedBeforeTheCacheShows(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	l.see()
	if _, err := l.Run(t.Context(), key()); err != nil {
		t.Fatal(err)
	}
	equal(t, "status", http.StatusOK, l.post(nil, ""))
	old := l.URL()
	l.see()
	if err := l.client.Update(t.Context(), token("new")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Run(t.Context(), key()); err != nil {
		t.Fatal(err)
	}
	equal(t, "status of the new path", http.StatusOK, l.post(nil, ""))
	equal(t, "status of the old path", http.StatusNotFound, l.postTo(old, nil, ""))
}

// After a start of the process the status counts until the first run.
func TestServedFromTheStatus(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	l.settle()
	l.server.index = newIndex(func(string) {})
	equal(t, "status before the cache is known", http.StatusNotFound, l.post(nil, ""))
	l.see()
	equal(t, "status", http.StatusOK, l.post(nil, ""))
}

// receiver 2, 3, 4, 25: specs that cannot work stall, and are not tried again.
func TestStalls(t *testing.T) {
	oidc := func(change func(p *notificationv1.OIDCProvider)) func(*notificationv1.Receiver) {
		return func(r *notificationv1.Receiver) {
			r.Spec.SecretRef = nil
			r.Spec.OIDCProviders = []notificationv1.OIDCProvider{{
				IssuerURL: "https://issuer.test", Validations: []notificationv1.OIDCValidation{{Expression: "true", Message: "m"}},
			}}
			change(&r.Spec.OIDCProviders[0])
		}
	}
	filter := func(text string) func(*notificationv1.Receiver) {
		return func(r *notificationv1.Receiver) { r.Spec.ResourceFilter = text }
	}
	for name, test := range map[string]struct {
		kind   string
		change func(*notificationv1.Receiver)
		reason string
		want   string
	}{
		"providers for others": {"generic", func(r *notificationv1.Receiver) {
			r.Spec.OIDCProviders = []notificationv1.OIDCProvider{{IssuerURL: "https://issuer.test"}}
		}, "ValidationFailed", "oidcProviders can only be set when type is generic-oidc"},
		"no providers": {"generic-oidc", func(r *notificationv1.Receiver) { r.Spec.SecretRef = nil },
			"ValidationFailed", "generic-oidc receivers must define at least one oidcProvider"},
		"no Secret": {"github", func(r *notificationv1.Receiver) { r.Spec.SecretRef = nil },
			"ValidationFailed", "secretRef is required when type is not generic-oidc"},
		"Secret without a name": {"github", func(r *notificationv1.Receiver) { r.Spec.SecretRef.Name = "" },
			"ValidationFailed", "secretRef is required when type is not generic-oidc"},
		"a Secret too many": {"generic-oidc", func(r *notificationv1.Receiver) {
			oidc(func(*notificationv1.OIDCProvider) {})(r)
			r.Spec.SecretRef = &meta.LocalObjectReference{Name: "tok"}
		}, "ValidationFailed", "secretRef cannot be set when type is generic-oidc"},
		"unknown type": {"other", func(*notificationv1.Receiver) {}, "ValidationFailed", "spec.type 'other' is unknown"},
		"issuer twice": {"generic-oidc", func(r *notificationv1.Receiver) {
			oidc(func(*notificationv1.OIDCProvider) {})(r)
			r.Spec.OIDCProviders = append(r.Spec.OIDCProviders, r.Spec.OIDCProviders[0])
		}, "ValidationFailed", "spec.oidcProviders[1].issuerURL 'https://issuer.test' is there twice"},
		"issuer in a file": {"generic-oidc", oidc(func(p *notificationv1.OIDCProvider) { p.IssuerURL = "file:///x" }),
			"ValidationFailed", "spec.oidcProviders[0].issuerURL is not an http or https URL"},
		"no validations": {"generic-oidc", oidc(func(p *notificationv1.OIDCProvider) { p.Validations = nil }),
			"ValidationFailed", "spec.oidcProviders[0].validations is empty"},
		"empty validation": {"generic-oidc", oidc(func(p *notificationv1.OIDCProvider) { p.Validations[0].Expression = " " }),
			"ValidationFailed", "spec.oidcProviders[0].validations[0].expression is empty"},
		"empty variable": {"generic-oidc", oidc(func(p *notificationv1.OIDCProvider) {
			p.Variables = []notificationv1.OIDCVariable{{Name: "x"}}
		}), "ValidationFailed", "spec.oidcProviders[0].variables[0] needs"},
		"variable does not compile": {"generic-oidc", oidc(func(p *notificationv1.OIDCProvider) {
			p.Variables = []notificationv1.OIDCVariable{{Name: "x", Expression: "req.x"}}
		}), "InvalidCELExpression", "spec.oidcProviders[0].variables[0]: failed to compile"},
		"validation is a number": {"generic-oidc", oidc(func(p *notificationv1.OIDCProvider) { p.Validations[0].Expression = "1" }),
			"InvalidCELExpression", "spec.oidcProviders[0].validations[0]: invalid CEL expression '1': it yields int, not a boolean"},
		"filter does not compile": {"generic", filter("res.("), "InvalidCELExpression", "spec.resourceFilter: failed to compile"},
		"filter is a text":        {"generic", filter("'x'"), "InvalidCELExpression", "not a boolean"},
		"filter knows no claims":  {"generic", filter("claims.sub == 'x'"), "InvalidCELExpression", "undeclared reference to 'claims'"},
		"filter is long": {"generic", filter("'" + strings.Repeat("x", expr.MaxLength) + "' == ''"),
			"InvalidCELExpression", "expression code point size exceeds limit"},
		"filter is deep": {"generic", filter(strings.Repeat("(", expr.MaxNesting+1) + "true" + strings.Repeat(")", expr.MaxNesting+1)),
			"InvalidCELExpression", "recursion limit"},
		"filter of a resource": {"generic", func(r *notificationv1.Receiver) {
			r.Spec.Resources = append(r.Spec.Resources, notificationv1.ReceiverResource{Filter: "size(res)"})
		}, "InvalidCELExpression", "spec.resources[1].filter: invalid CEL expression"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, Options{}, token("t"), receiverOf(test.kind, test.change))
			result, err := l.step()
			if err != nil || !result.IsZero() {
				t.Errorf("it is tried again: %v, %v", result, err)
			}
			got := l.conditions()
			for n, want := range []string{"Stalled=True " + test.reason + ": ", "Ready=False " + test.reason + ": "} {
				if len(got) != 2 || !strings.HasPrefix(got[n], want) || !strings.Contains(got[n], test.want) {
					t.Fatalf("conditions %q, want %q and %q in them", got, want, test.want)
				}
			}
			equal(t, "observedGeneration", 1, l.get().Status.ObservedGeneration)
			if lines := l.Lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "error "+test.reason+": ") {
				t.Errorf("events %q", lines)
			}
		})
	}
	// receiver 25: what every call would be refused for is told before the first.
	l := newLab(t, Options{}, token("t"), receiverOf("gcr"))
	if _, err := l.step(); err == nil {
		t.Error("a Receiver of type gcr without an email is ready")
	}
	equal(t, "ready", "Ready=False TokenNotFound: invalid 'apps/tok' secret data: required fields 'email', 'audience'", l.conditions()[1])
}

// A Receiver that was ready and stalls keeps its path, and answers 503 (receiver 10).
func TestStalledIsNotServed(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	path := l.settle().Status.WebhookPath
	l.edit(func(r *notificationv1.Receiver) { r.Spec.ResourceFilter = "x" })
	// receiver 36: until the next run the old path is served, with the new filter.
	equal(t, "status", http.StatusInternalServerError, l.post(nil, ""))
	if _, err := l.step(); err != nil {
		t.Fatal(err)
	}
	equal(t, "path", path, l.get().Status.WebhookPath)
	equal(t, "status", http.StatusServiceUnavailable, l.post(nil, ""))
	l.edit(func(r *notificationv1.Receiver) { r.Spec.ResourceFilter = "true" })
	l.settle()
	equal(t, "status", http.StatusOK, l.post(nil, ""))
	equal(t, "asked", true, l.Asked() != "")
}

// Recording receiver/suspended: receiver 1, 10.
func TestSuspended(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	want := l.settle()
	l.Lines()
	l.edit(func(r *notificationv1.Receiver) { r.Spec.Suspend = true })
	equal(t, "status", http.StatusServiceUnavailable, l.post(nil, ""))
	if _, err := l.step(); err != nil {
		t.Fatal(err)
	}
	equal(t, "status", http.StatusServiceUnavailable, l.post(nil, ""))
	equal(t, "events", nil, l.Lines())
	got := l.get()
	equal(t, "observedGeneration", 2, got.Status.ObservedGeneration)
	got.Status.ObservedGeneration = want.Status.ObservedGeneration
	equal(t, "status", want.Status, got.Status)
	equal(t, "asked", "", l.Asked())
}

// A Receiver that is to go answers no more, and is let go.
func TestDeleted(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	obj := l.settle()
	address := l.URL()
	if err := l.client.Delete(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	l.see()
	equal(t, "status", http.StatusNotFound, l.postTo(address, nil, ""))
	if _, err := l.step(); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Get(t.Context(), key(), &notificationv1.Receiver{}); !apierrors.IsNotFound(err) {
		t.Errorf("it is still there: %v", err)
	}
	equal(t, "status", http.StatusNotFound, l.postTo(address, nil, ""))
	if n := len(l.server.index.entries) + len(l.server.index.paths) + len(l.server.index.bySecret); n > 0 {
		t.Errorf("%d things are remembered of it", n)
	}
}

// receiver 1: a change of a watched Secret wakes those who refer to it, and nobody else.
func TestSecretWakes(t *testing.T) {
	s := New(Options{})
	for _, r := range []*notificationv1.Receiver{
		receiverOf("generic"),
		receiverOf("generic", func(r *notificationv1.Receiver) { r.Name = "b" }),
		receiverOf("generic", func(r *notificationv1.Receiver) { r.Name = "c"; r.Spec.SecretRef.Name = "other" }),
		receiverOf("generic", func(r *notificationv1.Receiver) { r.Name, r.Namespace = "d", "elsewhere" }),
	} {
		s.index.observe(r)
	}
	secret := func(version string) client.Object {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "tok", ResourceVersion: version}}
	}
	both := []types.NamespacedName{{Namespace: testNamespace, Name: "b"}, key()}
	equal(t, "created", both, s.onSecret(nil, secret("1")))
	equal(t, "changed", both, s.onSecret(secret("1"), secret("2")))
	equal(t, "listed again", nil, s.onSecret(secret("2"), secret("2")))
	equal(t, "deleted", both, s.onSecret(secret("2"), nil))
	s.index.observe(receiverOf("generic", func(r *notificationv1.Receiver) { r.Spec.SecretRef.Name = "other" }))
	equal(t, "after one has turned away", both[:1], s.onSecret(nil, secret("3")))
}

// receiver 5: what is told of Receivers stays in the cluster, and failures have one reason.
func TestLocalEvents(t *testing.T) {
	var got []event.Event
	events := localEvents{emitter(func(e event.Event) { got = append(got, e) })}
	events.Emit(nil, event.Event{Severity: event.Error, Reason: "TokenNotFound", Message: "m"})
	events.Emit(nil, event.Event{Severity: event.Info, Reason: "Succeeded", Message: "m"})
	equal(t, "events", []event.Event{
		{Severity: event.Error, Reason: "Failed", Message: "m", Local: true}, {Severity: event.Info, Reason: "Succeeded", Message: "m", Local: true},
	}, got)
}

type emitter func(event.Event)

func (e emitter) Emit(_ client.Object, ev event.Event) { e(ev) }

// The index never goes back to what is older, and two Receivers of one path do not take turns (receiver 40).
func TestIndex(t *testing.T) {
	var dropped []string
	i := newIndex(func(path string) { dropped = append(dropped, path) })
	at := func(name, path, version string, age time.Duration) *notificationv1.Receiver {
		return receiverOf("generic", func(r *notificationv1.Receiver) {
			r.Name, r.UID, r.ResourceVersion, r.Status.WebhookPath = name, types.UID(name), version, path
			r.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Add(-age))
		})
	}
	who := func(path string) string {
		t, _ := i.byPath(path)
		if t.entry == nil {
			return ""
		}
		return t.key.Name
	}
	i.observe(at("a", "/one", "5", 0))
	i.observe(at("a", "/old", "4", 0))
	equal(t, "who has /one", "a", who("/one"))
	equal(t, "who has /old", "", who("/old"))
	i.observe(at("b", "/one", "6", time.Hour))
	equal(t, "who has /one", "b", who("/one"))
	i.observe(at("c", "/one", "7", time.Hour))
	equal(t, "who has /one", "b", who("/one"))
	i.forget(testNamespace, "b")
	equal(t, "who has /one", "c", who("/one"))
	i.observe(at("c", "/two", "8", time.Hour))
	equal(t, "who has /one", "a", who("/one"))
	equal(t, "dropped", nil, dropped)
	i.observe(at("a", "", "9", 0))
	equal(t, "dropped", []string{"/one"}, dropped)
	equal(t, "who has nothing", "", who(""))

	// Findings of a former object, or of a former generation, count for nothing.
	i.found(types.NamespacedName{Namespace: testNamespace, Name: "a"}, findings{uid: "x", generation: 1, path: "/three", ready: true})
	i.found(types.NamespacedName{Namespace: testNamespace, Name: "a"}, findings{uid: "a", generation: 7, path: "/three", ready: true})
	i.found(types.NamespacedName{Namespace: testNamespace, Name: "x"}, findings{uid: "a", generation: 1, path: "/three", ready: true})
	equal(t, "who has /three", "", who("/three"))
	i.found(types.NamespacedName{Namespace: testNamespace, Name: "a"}, findings{uid: "a", generation: 1, path: "/three", ready: true})
	equal(t, "who has /three", "a", who("/three"))
}

// A run that panics or is cut off leaves nothing served that its status does not show.
func TestCutOff(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	l.settle()
	l.refusing(func(_ string, obj client.Object) error {
		if _, ok := obj.(*corev1.Secret); ok {
			return context.DeadlineExceeded
		}
		return nil
	})
	if _, err := l.step(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	equal(t, "status", http.StatusServiceUnavailable, l.post(nil, ""))
}
