package receiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// receiver 8, 10, wire.md 12: who is not ready to serve says so, and what there is not is not found.
func TestNotServed(t *testing.T) {
	call := func(s *Server, target string) int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, strings.NewReader("{}")))
		if w.Body.Len() > 0 {
			t.Errorf("%s is answered with %q", target, w.Body)
		}
		return w.Code
	}
	s := New(Options{})
	equal(t, "before Setup", http.StatusServiceUnavailable, call(s, "/hook/x"))
	synced := false
	s.backend.Store(&backend{synced: func() bool { return synced }})
	equal(t, "before the Receivers are known", http.StatusServiceUnavailable, call(s, "/hook/x"))
	synced = true
	for _, target := range []string{"/", "/hook/", "/hook/x", "/hook/../hook/x", "//hook/x", "/healthz"} {
		equal(t, target, http.StatusNotFound, call(s, target))
	}
}

// receiver 8: only the very path counts.
func TestExactPath(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	path := l.settle().Status.WebhookPath
	for _, other := range []string{
		path + "?", path + "?a=b", path + "/", "/" + path, path[:len(path)-1] + "0x", strings.ToUpper(path), path + "%20", "/x/.." + path,
	} {
		equal(t, other, http.StatusNotFound, l.raw("POST "+other+" HTTP/1.1"))
	}
	equal(t, "an absolute address", http.StatusNotFound, l.raw("POST http://"+l.http.Listener.Addr().String()+path+" HTTP/1.1"))
	equal(t, "asked", "", l.Asked())
	for _, method := range []string{"GET", "POST", "DELETE", "PURGE"} {
		equal(t, method, http.StatusOK, l.raw(method+" "+path+" HTTP/1.1"))
	}
}

// raw makes a call whose first line is as given.
func (l *lab) raw(line string) int {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.http.Listener.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", line)
	var status int
	if _, err := fmt.Fscanf(conn, "HTTP/1.1 %d", &status); err != nil {
		l.t.Fatal(err)
	}
	return status
}

// The limits of wire.md 11 (receiver 9).
func TestHTTPServer(t *testing.T) {
	s := HTTPServer(http.NotFoundHandler())
	want := []any{10 * time.Second, 30 * time.Second, 256 << 10, 3 << 20}
	equal(t, "limits", want, []any{s.ReadHeaderTimeout, s.ReadTimeout, s.MaxHeaderBytes, MaxBody})
}

// receiver 11, 14-16, 18, 33-36: what resources select, and what becomes of those that fail.
func TestResources(t *testing.T) {
	type list = []notificationv1.ReceiverResource
	labelled := map[string]string{"team": "a"}
	with := func(r notificationv1.ReceiverResource, change func(*notificationv1.ReceiverResource)) notificationv1.ReceiverResource {
		change(&r)
		return r
	}
	all := with(resource("GitRepository", "*"), func(r *notificationv1.ReceiverResource) { r.MatchLabels = labelled })
	app, absent := resource("GitRepository", "app"), resource("GitRepository", "absent")
	for name, test := range map[string]struct {
		resources list
		filter    string
		options   Options
		code      int
		asked     string // names in order
		log       string
	}{
		"one":                    {resources: list{app}, code: 200, asked: "app"},
		"none":                   {code: 200},
		"missing, then one":      {resources: list{absent, app}, code: 500, asked: "app", log: "GitRepository 'apps/absent'"},
		"missing, with a filter": {resources: list{absent, app}, filter: "true", code: 500, asked: "app", log: "not found"},
		"without apiVersion":     {resources: list{resource("Kustomization", "app"), app}, code: 500, asked: "app", log: "apiVersion is empty"},
		"with apiVersion": {resources: list{with(app, func(r *notificationv1.ReceiverResource) {
			r.APIVersion = "source.toolkit.fluxcd.io/v1"
		})}, code: 200, asked: "app"},
		"wrong apiVersion": {resources: list{with(app, func(r *notificationv1.ReceiverResource) {
			r.APIVersion = "a/b/c"
		})}, code: 500, log: "apiVersion 'a/b/c' is not of the form group/version"},
		"all":                {resources: list{all}, code: 200, asked: "app lib"},
		"all without labels": {resources: list{resource("GitRepository", "*"), app}, code: 500, asked: "app", log: "needs matchLabels"},
		"all of none": {resources: list{with(all, func(r *notificationv1.ReceiverResource) {
			r.MatchLabels = map[string]string{"team": "b"}
		})}, code: 200, log: "no object has the labels"},
		"labels beside a name": {resources: list{with(app, func(r *notificationv1.ReceiverResource) {
			r.MatchLabels = map[string]string{"team": "b"}
		})}, code: 200, asked: "app"},
		"another namespace": {resources: list{with(app, func(r *notificationv1.ReceiverResource) {
			r.Namespace = "other"
		})}, code: 200, asked: "other/app"},
		"another namespace, forbidden": {resources: list{with(app, func(r *notificationv1.ReceiverResource) {
			r.Namespace = "other"
		}), app}, options: Options{NoCrossNamespaceRefs: true}, code: 500, asked: "app", log: "--no-cross-namespace-refs"},
		"all of another namespace, forbidden": {resources: list{with(all, func(r *notificationv1.ReceiverResource) {
			r.Namespace = "other"
		})}, options: Options{NoCrossNamespaceRefs: true}, code: 500, log: "--no-cross-namespace-refs"},
		"its own namespace, named": {resources: list{with(app, func(r *notificationv1.ReceiverResource) {
			r.Namespace = testNamespace
		})}, options: Options{NoCrossNamespaceRefs: true}, code: 200, asked: "app"},
		"filter of all": {resources: list{all}, filter: "res.metadata.name == 'lib' && req.ref == 'main'", code: 200, asked: "lib"},
		"both filters": {resources: list{
			with(app, func(r *notificationv1.ReceiverResource) { r.Filter = "res.metadata.labels.team == 'a'" }),
			with(all, func(r *notificationv1.ReceiverResource) { r.Filter = "res.metadata.labels.team == 'b'" }),
		}, filter: "res.kind == 'GitRepository' && res.apiVersion == 'source.toolkit.fluxcd.io/v1'", code: 200, asked: "app"},
		"filter says no":       {resources: list{app}, filter: "req.ref == 'other'", code: 200},
		"filter misses a key":  {resources: list{app}, filter: "req.missing == 'x'", code: 500, log: "no such key: missing"},
		"filter is no boolean": {resources: list{app}, filter: "req.ref", code: 500, log: "not a boolean"},
		"one filter fails": {resources: list{
			with(app, func(r *notificationv1.ReceiverResource) { r.Filter = "req.missing" }),
			with(all, func(r *notificationv1.ReceiverResource) { r.Filter = "true" }),
		}, code: 500, asked: "app lib", log: "GitRepository 'apps/app': evaluating the CEL expression 'req.missing'"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, test.options, token("t"), repository(testNamespace, "app", labelled), repository(testNamespace, "lib", labelled),
				repository(testNamespace, "bare", nil), repository("other", "app", labelled),
				receiverOf("generic", func(r *notificationv1.Receiver) {
					r.Spec.Resources, r.Spec.ResourceFilter = test.resources, test.filter
				}))
			l.settle()
			code := l.post(http.Header{"Content-Type": {"application/json; charset=utf-8"}}, `{"ref":"main"}`)
			var asked []string
			for _, name := range []string{"app", "bare", "lib"} {
				if l.asked(testNamespace, name) != "" {
					asked = append(asked, name)
				}
			}
			if l.asked("other", "app") != "" {
				asked = append(asked, "other/app")
			}
			if code != test.code || strings.Join(asked, " ") != test.asked || !strings.Contains(l.Logs(), test.log) {
				t.Errorf("status %d, asked %v, want %d, %s; want %q in the log:\n%s", code, asked, test.code, test.asked, test.log, l.Logs())
			}
		})
	}
}

// receiver 15: the kinds that need no apiVersion.
func TestDefaultAPIVersions(t *testing.T) {
	for kind, want := range map[string]string{
		"Bucket": "source.toolkit.fluxcd.io/v1", "HelmChart": "source.toolkit.fluxcd.io/v1", "HelmRepository": "source.toolkit.fluxcd.io/v1",
		"GitRepository": "source.toolkit.fluxcd.io/v1", "OCIRepository": "source.toolkit.fluxcd.io/v1",
		"ImageRepository": "image.toolkit.fluxcd.io/v1", "ArtifactGenerator": "source.extensions.fluxcd.io/v1beta1",
		"Kustomization": "", "HelmRelease": "", "ImagePolicy": "", "ImageUpdateAutomation": "", "ExternalArtifact": "",
	} {
		r := resource(kind, "x")
		gvk, err := kindOf(&r)
		if (err != nil) != (want == "") || err == nil && (gvk.GroupVersion().String() != want || gvk.Kind != kind) {
			t.Errorf("%s: %v, error %v, want %q", kind, gvk, err, want)
		}
	}
}

// receiver 17
func TestRequestToken(t *testing.T) {
	now := time.Now()
	got := requestToken(now)
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC$`).MatchString(got) {
		t.Errorf("the token is %q", got)
	}
	if got == requestToken(now.Add(time.Microsecond)) {
		t.Error("two calls have one token")
	}
}

// A concrete name without a filter costs one request, whatever the Receiver's Secret or type makes of it.
func TestOneRequest(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	l.settle()
	var seen []string
	l.refusing(func(verb string, obj client.Object) error {
		seen = append(seen, verb+" "+obj.GetName())
		return nil
	})
	equal(t, "status", http.StatusOK, l.post(nil, "{}"))
	equal(t, "requests", []string{"patch app"}, seen)
}

// All resources of a call are asked at the same time, though not more than a server would like.
func TestParallel(t *testing.T) {
	var resources []notificationv1.ReceiverResource
	objects := []client.Object{token("t")}
	for n := range 3 * maxRequests {
		name := fmt.Sprint("app-", n)
		resources = append(resources, resource("GitRepository", name))
		objects = append(objects, repository(testNamespace, name, nil))
	}
	objects = append(objects, receiverOf("generic", func(r *notificationv1.Receiver) { r.Spec.Resources = resources }))
	l := newLab(t, Options{}, objects...)
	l.settle()
	var now, most atomic.Int32
	full := make(chan struct{})
	var once sync.Once
	b := *l.server.backend.Load()
	b.client = slow{b.client, func() {
		defer now.Add(-1)
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		if n == maxRequests {
			once.Do(func() { close(full) })
		}
		select {
		case <-full:
		case <-time.After(5 * time.Second):
		}
	}}
	l.server.backend.Store(&b)
	equal(t, "status", http.StatusOK, l.post(nil, ""))
	equal(t, "requests at a time", maxRequests, int(most.Load()))
}

// A caller that hangs up does not end what it has asked for.
func TestHangUp(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	l.settle()
	begun, gone, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b := *l.server.backend.Load()
	b.client = slow{b.client, func() { close(begun); <-gone }}
	l.server.backend.Store(&b)
	served := l.http.Config.Handler
	l.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go func() {
			<-r.Context().Done()
			close(gone)
		}()
		served.ServeHTTP(w, r)
		close(done)
	})
	conn, err := net.Dial("tcp", l.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", l.get().Status.WebhookPath)
	<-begun
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	if l.Asked() == "" {
		t.Error("the resource was not asked")
	}
}

// One Receiver has a share of what is worked on; more is refused, and what was served makes room.
func TestTooManyCalls(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	path := l.settle().Status.WebhookPath
	var conns []net.Conn
	for range maxCalls {
		conn, err := net.Dial("tcp", l.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", path)
	}
	target, _ := l.server.index.byPath(path)
	await(t, "all calls to be under way", func() bool { return len(target.calls) == maxCalls })
	equal(t, "status", http.StatusServiceUnavailable, l.post(nil, ""))
	for _, conn := range conns {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	await(t, "the calls to end", func() bool { return len(target.calls) == 0 })
	equal(t, "status", http.StatusOK, l.post(nil, ""))
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A panic is an error of its call.
func TestPanic(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("gitlab"), token("t"), repository(testNamespace, "app", nil))
	l.settle()
	for _, in := range []string{"get", "patch"} {
		l.refusing(func(verb string, _ client.Object) error {
			if verb == in {
				panic("while asked to " + in)
			}
			return nil
		})
		equal(t, in, http.StatusInternalServerError, l.post(http.Header{"X-Gitlab-Token": {"t"}}, ""))
		l.refusing(nil)
		if !strings.Contains(l.Logs(), "while asked to "+in) || strings.Contains(l.Logs(), l.get().Status.WebhookPath) {
			t.Errorf("log:\n%s", l.Logs())
		}
	}
	equal(t, "status", http.StatusOK, l.post(http.Header{"X-Gitlab-Token": {"t"}}, ""))
}

// A Secret that is gone, or cannot be read, refuses the call as a wrong one (receiver 11).
func TestSecretGone(t *testing.T) {
	l := newLab(t, Options{}, receiverOf("gitlab"), token("t"), repository(testNamespace, "app", nil))
	l.settle()
	for name, data := range map[string]map[string][]byte{"empty": {"token": nil}, "without": {}} {
		secret := token("")
		secret.Data = data
		if err := l.client.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		for _, given := range []string{"t", ""} {
			equal(t, name, http.StatusBadRequest, l.post(http.Header{"X-Gitlab-Token": {given}}, ""))
		}
	}
	if err := l.client.Delete(t.Context(), token("t")); err != nil {
		t.Fatal(err)
	}
	equal(t, "deleted", http.StatusBadRequest, l.post(http.Header{"X-Gitlab-Token": {"t"}}, ""))
	equal(t, "asked", "", l.Asked())
}

// reliability 014: expressions that would take for ever are cut off, soon, and one after the other.
func TestExpensiveFilter(t *testing.T) {
	objects := []client.Object{token("t"), receiverOf("generic", func(r *notificationv1.Receiver) {
		r.Spec.ResourceFilter = "req.all(x, req.all(y, req.all(z, x + y + z > 0)))"
		r.Spec.Resources[0].Name, r.Spec.Resources[0].MatchLabels = "*", map[string]string{"team": "a"}
	})}
	for n := range 50 {
		objects = append(objects, repository(testNamespace, fmt.Sprint("app-", n), map[string]string{"team": "a"}))
	}
	l := newLab(t, Options{}, objects...)
	l.settle()
	l.server.thinkingTime = 300 * time.Millisecond
	body := "[" + strings.Repeat("1,", 9_999) + "1]"
	start := time.Now()
	equal(t, "status", http.StatusInternalServerError, l.post(http.Header{"Content-Type": {"application/json"}}, body))
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, want := range []string{"make them simpler", "and 40 more"} {
		if !strings.Contains(l.Logs(), want) {
			t.Errorf("want %q in the log:\n%s", want, l.Logs())
		}
	}
}

// One evaluation has an end in steps, and those of one call have one in time.
func TestThinking(t *testing.T) {
	costly, err := compileExpression("req.all(x, req.all(y, x + y > 0))", true, reqVariable)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]any, 10_000)
	for n := range many {
		many[n] = 1.0
	}
	if _, err := costly.holds(t.Context(), map[string]any{reqVariable: many}); err == nil || !strings.Contains(err.Error(), "cost limit exceeded") {
		t.Errorf("error %v", err)
	}
	thoughts := &thinking{turn: make(chan struct{}, 1), left: time.Nanosecond}
	if err := thoughts.do(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return nil }); err != nil {
		t.Error(err)
	}
	if err := thoughts.do(t.Context(), func(context.Context) error { return nil }); err == nil || !strings.Contains(err.Error(), "make them simpler") {
		t.Errorf("error %v", err)
	}
	thoughts.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := thoughts.do(ctx, func(context.Context) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// wire.md 10
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := newLab(t, Options{Registry: registry}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	l.settle()
	l.post(nil, "")
	l.raw("PURGE /elsewhere HTTP/1.1")
	series := func(registry *prometheus.Registry) string {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range families {
			for _, m := range f.Metric {
				var labels []string
				for _, label := range m.Label {
					labels = append(labels, label.GetName()+"="+label.GetValue())
				}
				out = append(out, f.GetName()+" "+strings.Join(labels, " "))
			}
		}
		return strings.Join(out, "\n")
	}
	equal(t, "series", strings.Join([]string{
		"gotk_receiver_http_request_duration_seconds code=200 handler=/hook method=POST service=webhook-receiver",
		"gotk_receiver_http_request_duration_seconds code=404 handler=/hook method=other service=webhook-receiver",
		"gotk_receiver_http_requests_inflight handler=/hook service=webhook-receiver",
		"gotk_receiver_http_response_size_bytes code=200 handler=/hook method=POST service=webhook-receiver",
		"gotk_receiver_http_response_size_bytes code=404 handler=/hook method=other service=webhook-receiver",
	}, "\n"), series(registry))
	if n := testutil.ToFloat64(l.server.metrics.inflight.WithLabelValues("webhook-receiver", "/hook")); n != 0 {
		t.Errorf("%v calls are under way", n)
	}
	// A second Server of the process, as tests have it, counts in the same series.
	New(Options{Registry: registry})

	// --export-http-path-metrics: paths of Receivers, never those that callers make up, and only as long as they are served.
	registry = prometheus.NewRegistry()
	l = newLab(t, Options{Registry: registry, ExportPaths: true}, receiverOf("generic"), token("t"), repository(testNamespace, "app", nil))
	path := l.settle().Status.WebhookPath
	l.post(nil, "")
	l.raw("GET /hook/elsewhere HTTP/1.1")
	got := series(registry)
	if !strings.Contains(got, "handler="+path) || strings.Contains(got, "elsewhere") {
		t.Errorf("series:\n%s", got)
	}
	l.server.index.forget(testNamespace, "r")
	if got := series(registry); strings.Contains(got, path) {
		t.Errorf("series of a path that is gone:\n%s", got)
	}
}

// The annotation goes beside those that are there.
func TestAnnotation(t *testing.T) {
	app := repository(testNamespace, "app", nil)
	app.Annotations = map[string]string{"team": "a", meta.ReconcileRequestAnnotation: "before"}
	l := newLab(t, Options{}, receiverOf("generic"), token("t"), app)
	l.settle()
	equal(t, "status", http.StatusOK, l.post(nil, ""))
	if err := l.client.Get(t.Context(), client.ObjectKeyFromObject(app), app); err != nil {
		t.Fatal(err)
	}
	if app.Annotations["team"] != "a" || app.Annotations[meta.ReconcileRequestAnnotation] == "before" {
		t.Errorf("annotations %v", app.Annotations)
	}
}

// slow is a client that does something before it patches.
type slow struct {
	client.Client
	before func()
}

func (s slow) Patch(ctx context.Context, obj client.Object, p client.Patch, o ...client.PatchOption) error {
	s.before()
	return s.Client.Patch(ctx, obj, p, o...)
}

// reliability 022, 036: ten thousand calls of every wrong sort leave nothing behind.
func TestMemoryStaysFlat(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := newLab(t, Options{Registry: registry, ExportPaths: true}, receiverOf("dockerhub"), token("t"), repository(testNamespace, "app", nil))
	path := l.settle().Status.WebhookPath
	l.server.options.Log = logr.Discard()
	call := func(n int) {
		target, body := fmt.Sprintf("/hook/%064x", n), "{}"
		if n%2 == 0 {
			target, body = path, []string{"", "null", `{"push_data":null}`, strings.Repeat("[", 1000)}[n/2%4]
		}
		w := httptest.NewRecorder()
		l.server.ServeHTTP(w, httptest.NewRequest(fmt.Sprint("M", n), target, strings.NewReader(body)))
		if w.Code != http.StatusBadRequest && w.Code != http.StatusNotFound {
			t.Fatalf("call %d: status %d", n, w.Code)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for n := range 1000 {
		call(n)
	}
	before := heap()
	for n := range 10_000 {
		call(n)
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if n, err := testutil.GatherAndCount(registry); err != nil || n > 10 {
		t.Errorf("%d series, error %v", n, err)
	}
}

// What a caller makes an expression fail with is not repeated at any length.
func TestLongErrors(t *testing.T) {
	l := newLab(t, Options{}, token("t"), repository(testNamespace, "app", nil), receiverOf("generic", func(r *notificationv1.Receiver) {
		r.Spec.ResourceFilter = "int(req.x) == 1"
	}))
	l.settle()
	body := `{"x":"` + strings.Repeat("y", 1<<20) + `"}`
	equal(t, "status", http.StatusInternalServerError, l.post(http.Header{"Content-Type": {"application/json"}}, body))
	if len(l.Logs()) > 2000 || !strings.Contains(l.Logs(), "int(req.x) == 1") {
		t.Errorf("log of %d bytes", len(l.Logs()))
	}
}
