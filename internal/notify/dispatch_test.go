package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// hook is a webhook on loopback.
type hook struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request)

	mu       sync.Mutex
	payloads []event.Payload
	headers  []http.Header
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var p event.Payload
		if err := json.Unmarshal(body, &p); err != nil {
			t.Errorf("body %q: %v", body, err)
		}
		h.mu.Lock()
		h.payloads, h.headers = append(h.payloads, p), append(h.headers, r.Header)
		h.mu.Unlock()
		if h.answer != nil {
			h.answer(w, r)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) got() ([]event.Payload, []http.Header) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.payloads, h.headers
}

// warnings records the events about Alerts.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) Emit(obj client.Object, e event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf("%s %s %s: %s", obj.GetName(), e.Severity, e.Reason, e.Message))
	if !e.Local {
		w.lines = append(w.lines, "an event about an Alert that is posted")
	}
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

// bench is a Dispatcher on a fake API server.
type bench struct {
	*Dispatcher
	t        *testing.T
	client   client.WithWatch
	warnings *warnings
	now      time.Time
	refuse   error // of reading Secrets
	reads    int   // of Secrets
}

func newBench(t *testing.T, objects ...client.Object) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), notificationv1.AddToScheme(scheme), notificationv1beta3.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, warnings: &warnings{}, now: time.Unix(1_000_000, 0)}
	b.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*corev1.Secret); ok {
				if b.reads++; b.refuse != nil {
					return b.refuse
				}
			}
			return c.Get(ctx, key, obj, opts...)
		},
	}).Build()
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	b.Dispatcher = NewDispatcher(DispatcherOptions{
		Client: b.client, Reader: b.client, Events: b.warnings, RateLimit: 5 * time.Minute, Metrics: m, Log: logr.Discard(),
		Now: func() time.Time { return b.now },
	})
	return b
}

// settle dispatches events and waits until they are told.
func (b *bench) dispatch(payloads ...event.Payload) {
	b.t.Helper()
	for _, p := range payloads {
		if err := b.Dispatch(b.t.Context(), p); err != nil {
			b.t.Fatalf("Dispatch: %v", err)
		}
	}
	b.outbox.mu.Lock()
	defer b.outbox.mu.Unlock()
	for len(b.outbox.waiting) > 0 {
		b.outbox.idle.Wait()
	}
}

func (b *bench) count(result string) int {
	return int(testutil.ToFloat64(b.metrics.notifications.WithLabelValues("a", "prod", "p", result)))
}

// to is a Provider prod/p.
func to(kind, address string, change ...func(*notificationv1beta3.Provider)) *notificationv1beta3.Provider {
	p := &notificationv1beta3.Provider{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "p", UID: "1a2b3c4d-0000"}}
	p.Spec.Type, p.Spec.Address = kind, address
	for _, c := range change {
		c(p)
	}
	return p
}

func withSecret(p *notificationv1beta3.Provider) {
	p.Spec.SecretRef = &meta.LocalObjectReference{Name: "s"}
}

func secretOf(pairs ...string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "s"}, Data: map[string][]byte{}}
	for i := 0; i < len(pairs); i += 2 {
		s.Data[pairs[i]] = []byte(pairs[i+1])
	}
	return s
}

// Who is told of what: alert 7 Alerts of all namespaces, and the suspended ones; alert 13 suspended Providers; alert 24, 26 once per
// Alert, whatever their number of sources and Providers; alert 12 the fence between namespaces.
func TestDispatch(t *testing.T) {
	elsewhere := func(a *notificationv1beta3.Alert) {
		a.Namespace = "ops"
		a.Spec.EventSources[0].Namespace = "prod"
	}
	for _, c := range []struct {
		name    string
		alerts  []*notificationv1beta3.Alert
		noCross bool
		suspend bool
		told    int
		warning string
	}{
		{"matches", []*notificationv1beta3.Alert{alert()}, false, false, 1, ""},
		{"an Alert of another namespace", []*notificationv1beta3.Alert{alert(elsewhere)}, false, false, 1, ""},
		{"an Alert of another namespace, fenced", []*notificationv1beta3.Alert{alert(elsewhere)}, true, false, 0, "a error NotificationDispatchFailed: failed to dispatch notification for Kustomization/prod/app: "},
		{"a suspended Alert", []*notificationv1beta3.Alert{alert(func(a *notificationv1beta3.Alert) { a.Spec.Suspend = true })}, false, false, 0, ""},
		{"a suspended Provider", []*notificationv1beta3.Alert{alert()}, false, true, 0, ""},
		{"two sources that match", []*notificationv1beta3.Alert{alert(func(a *notificationv1beta3.Alert) {
			a.Spec.EventSources = append(a.Spec.EventSources, notificationv1.ObjectSelector{Kind: "Kustomization", Name: "app"})
		})}, false, false, 1, ""},
		{"two Alerts", []*notificationv1beta3.Alert{alert(), alert(func(a *notificationv1beta3.Alert) { a.Name = "b" })}, false, false, 2, ""},
		{"no Provider", []*notificationv1beta3.Alert{alert(func(a *notificationv1beta3.Alert) { a.Spec.ProviderRef.Name = "absent" })}, false, false, 0,
			`a error NotificationDispatchFailed: failed to dispatch notification for Kustomization/prod/app: failed to read provider: `},
		{"excluded", []*notificationv1beta3.Alert{alert(func(a *notificationv1beta3.Alert) { a.Spec.ExclusionList = []string{"^done$"} })}, false, false, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHook(t)
			var objects []client.Object
			for _, a := range c.alerts {
				objects = append(objects, a)
			}
			for _, namespace := range []string{"prod", "ops"} {
				p := to("generic", h.URL)
				p.Namespace, p.Spec.Suspend = namespace, c.suspend
				objects = append(objects, p)
			}
			b := newBench(t, objects...)
			b.noCross = c.noCross
			b.dispatch(payload())
			if got, _ := h.got(); len(got) != c.told {
				t.Errorf("told %d times, want %d", len(got), c.told)
			}
			if got := b.warnings.String(); !strings.HasPrefix(got, c.warning) || (got == "") != (c.warning == "") {
				t.Errorf("warnings: %s", got)
			}
		})
	}
}

// alert 8, 10: labels are those of the live object, also with a name; one that cannot be read does not match.
func TestMatchLabels(t *testing.T) {
	h := newHook(t)
	labelled := alert(func(a *notificationv1beta3.Alert) {
		a.Spec.EventSources = []notificationv1.ObjectSelector{{Kind: "Kustomization", Name: "app", MatchLabels: map[string]string{"team": "a"}}}
	})
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "app", Labels: map[string]string{"team": "a"}}}
	object.APIVersion, object.Kind = "kustomize.toolkit.fluxcd.io/v1", "Kustomization"
	for name, c := range map[string]struct {
		labels  map[string]string
		told    int
		warning string
	}{
		"the labels":   {map[string]string{"team": "a", "more": "b"}, 1, ""},
		"other labels": {map[string]string{"team": "b"}, 0, ""},
		"gone":         {nil, 0, "a error SourceFetchFailed: failed to read the labels of Kustomization/prod/app: "},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := h.got()
			b := newBench(t, labelled.DeepCopy(), to("generic", h.URL))
			b.reader = interceptor.NewClient(b.client, interceptor.Funcs{
				Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
					m, ok := obj.(*metav1.PartialObjectMetadata)
					if !ok || m.GroupVersionKind() != object.GroupVersionKind() || c.labels == nil {
						return errors.New("not found")
					}
					m.Labels = c.labels
					return nil
				},
			})
			b.dispatch(payload())
			if got, _ := h.got(); len(got)-len(before) != c.told {
				t.Errorf("told %d times, want %d", len(got)-len(before), c.told)
			}
			if got := b.warnings.String(); !strings.HasPrefix(got, c.warning) || (got == "") != (c.warning == "") {
				t.Errorf("warnings: %s", got)
			}
		})
	}
}

// alert 4, 5: a repeated event is told once; the token makes attempts differ and is told to nobody.
func TestDispatchDuplicates(t *testing.T) {
	h := newHook(t)
	b := newBench(t, alert(), to("generic", h.URL))
	token := func(value string) event.Payload {
		return payload(metadata("kustomize.toolkit.fluxcd.io/revision", "r", "kustomize.toolkit.fluxcd.io/token", value))
	}
	b.dispatch(token("one"))
	if err := b.Dispatch(t.Context(), token("one")); !errors.Is(err, ErrDuplicate) {
		t.Errorf("error = %v", err)
	}
	b.dispatch(token("two"))
	got, _ := h.got()
	if len(got) != 2 {
		t.Fatalf("told %d times", len(got))
	}
	for _, p := range got {
		if _, has := p.Metadata["token"]; has || p.Metadata["revision"] != "r" {
			t.Errorf("metadata %v", p.Metadata)
		}
	}
}

// alert 17: what contradicts is sent all the same, and told.
func TestMetadataConflict(t *testing.T) {
	h := newHook(t)
	b := newBench(t, to("generic", h.URL), alert(func(a *notificationv1beta3.Alert) { a.Spec.EventMetadata = map[string]string{"revision": "mine"} }))
	b.dispatch(payload())
	if got, _ := h.got(); len(got) != 1 || got[0].Metadata["revision"] != "main@sha1:abc" {
		t.Errorf("told %v", got)
	}
	if got := b.warnings.String(); !strings.HasPrefix(got, "a error MetadataAppendFailed: ") {
		t.Errorf("warnings: %s", got)
	}
}

// alert 14, 15, 16, 28: which sorts of Providers are interested in which events.
func TestInterests(t *testing.T) {
	update := metadata("kustomize.toolkit.fluxcd.io/commit_status", "update")
	commit := metadata("event.toolkit.fluxcd.io/commit", "abc")
	request := metadata("event.toolkit.fluxcd.io/change_request", "42")
	for _, c := range []struct {
		name  string
		event event.Payload
		want  string
	}{
		{"news", payload(), "generic generic-hmac slack githubdispatch"},
		{"an error", payload(severity(event.Error)), "generic generic-hmac slack github gitlab gitea bitbucket bitbucketserver azuredevops githubdispatch"},
		{"a status update", payload(update), "generic generic-hmac github gitlab gitea bitbucket bitbucketserver azuredevops"},
		{"an event of a commit", payload(commit), "generic generic-hmac slack github gitlab gitea bitbucket bitbucketserver azuredevops githubdispatch"},
		{"an event of a change request", payload(request), "generic generic-hmac slack githubdispatch githubpullrequestcomment gitlabmergerequestcomment giteapullrequestcomment"},
	} {
		var got []string
		d := &Dispatcher{log: logr.Discard()}
		for _, name := range []string{
			"generic", "generic-hmac", "slack", "github", "gitlab", "gitea", "bitbucket", "bitbucketserver", "azuredevops", "githubdispatch",
			"githubpullrequestcomment", "gitlabmergerequestcomment", "giteapullrequestcomment",
		} {
			kind, ok := provider.Find(name)
			if !ok {
				t.Fatalf("there is no type %s", name)
			}
			if d.interests(kind, alert(), &c.event) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s goes to %v, want %s", c.name, got, c.want)
		}
	}
}

// What a Provider's Secret says: provider 2 it is read for every event; provider 4, 34 its address wins and is trimmed; provider 5, 35
// headers; provider 36 a lone user name is ignored; provider 37 certificates; alert 29 Secrets of other namespaces do not count.
func TestSecrets(t *testing.T) {
	for _, c := range []struct {
		name    string
		secret  *corev1.Secret
		certs   *corev1.Secret
		wrong   string // what the warning says; empty: it is told
		headers map[string]string
	}{
		{name: "address, trimmed", secret: secretOf("address", " ${HOOK} \n")},
		{name: "headers", secret: secretOf("address", "${HOOK}", "headers", "Authorization: Bearer abc\nX-Team: blue\n"), headers: map[string]string{"Authorization": "Bearer abc", "X-Team": "blue"}},
		{name: "a lone user name", secret: secretOf("address", "${HOOK}", "username", "u")},
		{name: "no Secret", wrong: "failed to get secret 'prod/s': secrets \"s\" not found"},
		{name: "a long address", secret: secretOf("address", strings.Repeat("x", 2049)), wrong: "invalid secret 'prod/s': key 'address': longer than 2048 bytes"},
		{name: "headers that are a list", secret: secretOf("address", "${HOOK}", "headers", "- hunter2hunter2"), wrong: "invalid secret 'prod/s': key 'headers': not a YAML map of texts"},
		{name: "a proxy that is none", secret: secretOf("address", "${HOOK}", "proxy", "hunter2hunter2"), wrong: "the proxy is not a URL of the form http://host:port"},
		{name: "a certificate that is none", secret: secretOf("address", "${HOOK}"), certs: secretOf("ca.crt", "hunter2hunter2"), wrong: "invalid"},
		{name: "no certificate", secret: secretOf("address", "${HOOK}"), certs: secretOf("other", "hunter2hunter2"), wrong: "key 'ca.crt': key is required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHook(t)
			p := to("generic", "", withSecret)
			foreign := secretOf("address", h.URL)
			foreign.Namespace = "other"
			objects := []client.Object{alert(), p, foreign}
			if c.secret != nil {
				c.secret.Data["address"] = []byte(strings.ReplaceAll(string(c.secret.Data["address"]), "${HOOK}", h.URL))
				objects = append(objects, c.secret)
			}
			if c.certs != nil {
				c.certs.Name = "certs"
				p.Spec.CertSecretRef = &meta.LocalObjectReference{Name: "certs"}
				objects = append(objects, c.certs)
			}
			b := newBench(t, objects...)
			b.dispatch(payload())
			got, headers := h.got()
			warnings := b.warnings.String()
			if strings.Contains(warnings, "hunter2") {
				t.Errorf("a secret is told: %s", warnings)
			}
			if c.wrong != "" {
				want := "a error NotificationDispatchFailed: failed to dispatch notification for Kustomization/prod/app: failed to initialize notifier for provider 'p': "
				if len(got) > 0 || !strings.HasPrefix(warnings, want) || !strings.Contains(warnings, c.wrong) {
					t.Errorf("told %d times; warnings: %s", len(got), warnings)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("told %d times; warnings: %s", len(got), warnings)
			}
			for name, want := range c.headers {
				if headers[0].Get(name) != want {
					t.Errorf("%s is %q", name, headers[0].Get(name))
				}
			}
		})
	}
}

// provider 7, 38: certificates in the Secret itself count for commit statuses alone, and only without certSecretRef.
func TestCertificatesOfSecret(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	own, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	certs := secretOf("ca.crt", string(own.PEM))
	certs.Name = "certs"
	for _, c := range []struct {
		kind string
		refs bool
		want []byte
	}{{"github", false, ca.PEM}, {"gitea", false, ca.PEM}, {"generic", false, nil}, {"slack", false, nil}, {"github", true, own.PEM}, {"generic", true, own.PEM}} {
		p := to(c.kind, "https://example.com/org/repo", withSecret)
		if c.refs {
			p.Spec.CertSecretRef = &meta.LocalObjectReference{Name: "certs"}
		}
		b := newBench(t, secretOf("ca.crt", string(ca.PEM), "token", "t"), certs)
		kind, _ := provider.Find(c.kind)
		s, err := b.config(t.Context(), p, kind)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		if s.material != nil {
			got = s.material.CA
		}
		if !bytes.Equal(got, c.want) || (s.TLS == nil) != (c.want == nil) {
			t.Errorf("%+v trusts %q", c, got)
		}
	}
}

// provider 2: a rotated Secret and an edited Provider count for the next event, alert 27; a storm of events does not read the Secret
// each time; and an API server that is away for a moment loses no event.
func TestRotation(t *testing.T) {
	h := newHook(t)
	s := secretOf("headers", "X-Token: one-one-one")
	b := newBench(t, alert(), to("generic", h.URL, withSecret), s)
	message := func(text string) event.Payload { return payload(func(p *event.Payload) { p.Message = text }) }
	for i := range 20 {
		b.dispatch(message(fmt.Sprint("first ", i)))
	}
	if b.reads != 1 {
		t.Errorf("the Secret was read %d times within a second", b.reads)
	}
	s.Data["headers"] = []byte("X-Token: two-two-two")
	if err := b.client.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(2 * time.Second)
	b.dispatch(message("second"))
	if _, headers := h.got(); headers[len(headers)-1].Get("X-Token") != "two-two-two" {
		t.Error("the old Secret is used")
	}
	b.now, b.refuse = b.now.Add(2*time.Second), apierrors.NewServiceUnavailable("away")
	b.dispatch(message("third"))
	if got, _ := h.got(); got[len(got)-1].Message != "third" {
		t.Errorf("an event was lost: %s", b.warnings)
	}
	b.refuse = nil
	p := to("generic", h.URL)
	if err := b.client.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
		t.Fatal(err)
	}
	other := newHook(t)
	p.Spec.Address = other.URL
	if err := b.client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	b.dispatch(message("fourth"))
	if got, _ := other.got(); len(got) != 1 {
		t.Errorf("the edited Provider was told %d times", len(got))
	}
	if got := b.count(sentResult); got != 23 {
		t.Errorf("%d are counted as sent", got)
	}
}

// alert 19, provider 3, 32: what a service refuses is told about the Alert, without what it has said; and counted.
func TestSendFails(t *testing.T) {
	h := newHook(t)
	h.answer = func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "sk-live-1234567 is not a token", http.StatusForbidden)
	}
	b := newBench(t, alert(), to("generic-hmac", h.URL, withSecret), secretOf("token", "sk-live-1234567"))
	b.dispatch(payload())
	want := "a error NotificationDispatchFailed: failed to send notification for Kustomization/prod/app: postMessage failed: request failed: request failed with status code 403"
	if got := b.warnings.String(); got != want {
		t.Errorf("warnings: %s\nwant %s", got, want)
	}
	if b.count(failedResult) != 1 {
		t.Error("it is not counted")
	}
	hang := make(chan struct{})
	defer close(hang)
	h.answer = func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}
	slow := to("generic-hmac", h.URL, withSecret, func(p *notificationv1beta3.Provider) { p.Spec.Timeout = "100ms" })
	b = newBench(t, alert(), slow, secretOf("token", "sk-live-1234567"))
	b.dispatch(payload())
	if got := b.warnings.String(); !strings.Contains(got, "failed to send notification for Kustomization/prod/app: postMessage failed: context deadline exceeded") {
		t.Errorf("warnings: %s", got)
	}
}

// provider 10: the id of a commit status.
func TestCommitStatusID(t *testing.T) {
	for _, c := range []struct{ expr, want, wrong string }{
		{"", "kustomization/app/1a2b3c4d", ""},
		{"event.involvedObject.kind + '-' + alert.metadata.name + '-' + provider.metadata.name", "Kustomization-a-p", ""},
		{"event.metadata.revision", "r", ""},
		{"event.metadata.absent", "", "no such key"},
		{"1 + 1", "", "must yield a text"},
		{"''", "", "must yield a text"},
		{"event.(", "", "failed to compile"},
		{"[1,2,3,4,5,6,7,8,9,10].map(a, [1,2,3,4,5,6,7,8,9,10].map(b, [1,2,3,4,5,6,7,8,9,10].map(c, [1,2,3,4,5,6,7,8,9,10].map(d, [1,2,3,4,5,6,7,8,9,10].map(e, [1,2,3,4,5,6,7,8,9,10].map(f, string(f))))))).size() == 1 ? 'a' : 'b'", "", "cost limit"},
		{strings.Repeat("(", 200) + "'a'" + strings.Repeat(")", 200), "", "failed to compile"},
	} {
		var x expressions
		p := to("github", "", func(p *notificationv1beta3.Provider) { p.Spec.CommitStatusExpr = c.expr })
		e := payload(metadata("revision", "r"))
		got, err := x.commitStatus(t.Context(), &e, alert(), p)
		if got != c.want || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%q yields %q, %v", c.expr, got, err)
		}
	}
}

// alert 30: an event that no Alert can be found for is lost, and answered as taken.
func TestListFails(t *testing.T) {
	b := newBench(t)
	b.Dispatcher.client = interceptor.NewClient(b.client, interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.New("away")
		},
	})
	if err := b.Dispatch(t.Context(), payload()); err != nil {
		t.Errorf("error = %v", err)
	}
}

// alert 2, 4, 6, wire contract 7: what the endpoint answers.
func TestEventEndpoint(t *testing.T) {
	b := newBench(t)
	good, err := json.Marshal(payload())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/", string(good), 202}, {"POST", "/", string(good), 429}, {"POST", "/", "not json", 400}, {"GET", "/", "", 400},
		{"PUT", "/", strings.ReplaceAll(string(good), "done", "put"), 202}, {"POST", "/other", string(good), 404},
		{"POST", "/", `{"message":"` + strings.Repeat("x", maxEvent) + `"}`, 413},
		{"POST", "/", `{"metadata":{"a":{}}}`, 400}, {"POST", "/", `{"involvedObject":null,"metadata":null}`, 202},
		{"POST", "/", `{"involvedObject":{"apiVersion":"a/b/c","kind":"X"}}`, 202}, {"POST", "/", strings.Repeat("[", 200_000), 400},
	} {
		w := httptest.NewRecorder()
		EventHandler(b.Dispatcher).ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.want {
			t.Errorf("%s %s %.40q is answered %d, want %d", c.method, c.path, c.body, w.Code, c.want)
		}
	}
}
