package image

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/image/policy"
	"github.com/seed-79636ae9/flux/internal/image/repository"
	"github.com/seed-79636ae9/flux/internal/image/tags"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// reflectorLab is an ImageRepository and an ImagePolicy, both "apps/app", with a real registry and a real database, whose
// controllers run when told; only the API server is not real.
type reflectorLab struct {
	t        testing.TB
	client   client.Client
	clock    *testclock.FakeClock
	registry *testkit.Registry
	database *tags.Database
	scanner  *repository.Scanner
	picker   *policy.Picker
	scans    *looptest.Bench
	choices  *looptest.Bench
	server   *httptest.Server

	mu       sync.Mutex // guards what follows
	requests []string
	user     string // the only one who is let in; empty: everybody
	hook     func(*http.Request)
}

var appKey = types.NamespacedName{Namespace: "apps", Name: "app"}

// newReflectorLab starts the lab, with what change makes of the options of its registries.
func newReflectorLab(t testing.TB, change ...func(*repository.Options)) *reflectorLab {
	t.Helper()
	l := &reflectorLab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), registry: testkit.NewRegistry()}
	t.Cleanup(l.registry.Close)
	l.server = httptest.NewServer(l)
	t.Cleanup(l.server.Close)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{imagev1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&imagev1.ImageRepository{}, &imagev1.ImagePolicy{}).Build()
	l.openDatabase(t.TempDir())
	options := repository.Options{Reader: l.client}
	for _, f := range change {
		f(&options)
	}
	registries := repository.NewRegistries(options)
	l.scanner = &repository.Scanner{Registries: registries, Tags: l.database, Clock: l.clock}
	l.picker = &policy.Picker{
		Client: l.client, Reader: l.client, Registries: registries, Tags: l.database, Graph: depend.NewGraph(),
		RequeueDependency: 30 * time.Second, Clock: l.clock,
	}
	loopOptions := loop.Options{Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1, MaxParked: 100, JitterPercent: 50}
	l.scans = looptest.New(t, l.scanner.Controller(ReflectorName), loopOptions)
	l.choices = looptest.New(t, l.picker.Controller(ReflectorName), loopOptions)
	return l
}

func (l *reflectorLab) openDatabase(dir string) {
	l.t.Helper()
	var err error
	if l.database, err = tags.Open(tags.Options{Dir: dir, CompressFrom: 64 << 10}); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := l.database.Close(); err != nil {
			l.t.Error(err)
		}
	})
}

// ServeHTTP implements http.Handler.
func (l *reflectorLab) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.requests = append(l.requests, r.Method+" "+r.URL.Path)
	user, _, _ := r.BasicAuth()
	denied := l.user != "" && user != l.user
	hook := l.hook
	l.mu.Unlock()
	if hook != nil {
		hook(r)
	}
	if denied {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	l.registry.ServeHTTP(w, r)
}

func (l *reflectorLab) host() string { return l.server.Listener.Addr().String() }

// serveTLS moves the registry behind a certificate of an authority, whose PEM it returns.
func (l *reflectorLab) serveTLS() []byte {
	l.t.Helper()
	ca, err := testkit.NewCA()
	if err != nil {
		l.t.Fatal(err)
	}
	cert, key, err := ca.Issue("registry")
	if err != nil {
		l.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		l.t.Fatal(err)
	}
	l.server.Close()
	l.server = httptest.NewUnstartedServer(l)
	l.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	l.server.StartTLS()
	l.t.Cleanup(l.server.Close)
	return ca.PEM
}

// protect lets in this user alone.
func (l *reflectorLab) protect(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.user = user
}

// seen returns the requests since the last call.
func (l *reflectorLab) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.requests
	l.requests = nil
	return out
}

// listed is how many times tags were listed since the last call of seen.
func (l *reflectorLab) listed() int {
	count := 0
	for _, r := range l.seen() {
		if strings.HasSuffix(r, "/tags/list") {
			count++
		}
	}
	return count
}

func picture(t testing.TB, content string) v1.Image {
	t.Helper()
	img, err := testkit.BuildImage("application/vnd.oci.image.config.v1+json", nil, []testkit.Layer{{
		MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Files: map[string]string{"t": content},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// push gives the image tags, and returns its digest.
func (l *reflectorLab) push(tags ...string) string {
	l.t.Helper()
	img := picture(l.t, tags[0])
	if err := l.registry.Push("app:"+tags[0], img, tags[1:]...); err != nil {
		l.t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		l.t.Fatal(err)
	}
	return digest.String()
}

func (l *reflectorLab) untag(tag string) {
	l.t.Helper()
	if err := l.registry.Untag("app:" + tag); err != nil {
		l.t.Fatal(err)
	}
}

func (l *reflectorLab) create(objs ...client.Object) {
	l.t.Helper()
	for _, obj := range objs {
		if err := l.client.Create(l.t.Context(), obj); err != nil {
			l.t.Fatal(err)
		}
	}
}

// repository creates the ImageRepository.
func (l *reflectorLab) repository(change ...func(*imagev1.ImageRepository)) {
	l.t.Helper()
	obj := &imagev1.ImageRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: appKey.Namespace, Name: appKey.Name, Generation: 1, UID: "repository"},
		Spec:       imagev1.ImageRepositorySpec{Image: l.host() + "/app", Interval: "10m", Provider: imagev1.GenericProvider, Insecure: true},
	}
	obj.SetObservedGeneration(-1)
	for _, f := range change {
		f(obj)
	}
	l.create(obj)
}

// policy creates the ImagePolicy, by default one that wants the highest version.
func (l *reflectorLab) policy(change ...func(*imagev1.ImagePolicy)) {
	l.t.Helper()
	obj := &imagev1.ImagePolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: appKey.Namespace, Name: appKey.Name, Generation: 1, UID: "policy"},
		Spec: imagev1.ImagePolicySpec{
			ImageRepositoryRef: meta.NamespacedObjectReference{Name: appKey.Name},
			Policy:             imagev1.ImagePolicyChoice{SemVer: &imagev1.SemVerPolicy{Range: "*"}},
		},
	}
	obj.SetObservedGeneration(-1)
	for _, f := range change {
		f(obj)
	}
	l.create(obj)
}

func secretOf(name string, data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: appKey.Namespace, Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		s.Data[key] = []byte(value)
	}
	return s
}

// loginOf is a Secret with a login for the registry.
func (l *reflectorLab) loginOf(name, user string) *corev1.Secret {
	return secretOf(name, map[string]string{".dockerconfigjson": fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":"canary-password"}}}`, l.host(), user)})
}

// scan makes a run of the ImageRepository, and returns its Ready condition.
func (l *reflectorLab) scan() string {
	l.t.Helper()
	ready, _ := l.scanAgain()
	return ready
}

// scanAgain also returns when it is looked at again; negative: after a pause.
func (l *reflectorLab) scanAgain() (string, time.Duration) {
	l.t.Helper()
	result, err := l.scans.Run(l.t.Context(), appKey)
	return l.ready(&imagev1.ImageRepository{}), after(result, err)
}

// choose makes a run of the ImagePolicy, and returns its Ready condition.
func (l *reflectorLab) choose() string {
	l.t.Helper()
	ready, _ := l.chooseAgain()
	return ready
}

func (l *reflectorLab) chooseAgain() (string, time.Duration) {
	l.t.Helper()
	result, err := l.choices.Run(l.t.Context(), appKey)
	return l.ready(&imagev1.ImagePolicy{}), after(result, err)
}

func after(result reconcile.Result, err error) time.Duration {
	if err != nil {
		return -1
	}
	return result.RequeueAfter
}

func (l *reflectorLab) get(obj client.Object) {
	l.t.Helper()
	if err := l.client.Get(l.t.Context(), appKey, obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *reflectorLab) getRepository() *imagev1.ImageRepository {
	l.t.Helper()
	obj := &imagev1.ImageRepository{}
	l.get(obj)
	return obj
}

func (l *reflectorLab) getPolicy() *imagev1.ImagePolicy {
	l.t.Helper()
	obj := &imagev1.ImagePolicy{}
	l.get(obj)
	return obj
}

// tag is what the policy has chosen.
func (l *reflectorLab) tag() string {
	l.t.Helper()
	if ref := l.getPolicy().Status.LatestRef; ref != nil {
		return ref.Tag
	}
	return ""
}

// ready returns the Ready condition as "Status Reason: message", the address of the registry as HOST.
func (l *reflectorLab) ready(obj loop.Object) string { return l.condition(obj, meta.ReadyCondition) }

func (l *reflectorLab) condition(obj loop.Object, conditionType string) string {
	l.t.Helper()
	l.get(obj)
	c := status.Find(obj.GetConditions(), conditionType)
	if c == nil {
		return "-"
	}
	return l.hide(string(c.Status) + " " + c.Reason + ": " + c.Message)
}

func (l *reflectorLab) hide(text string) string { return strings.ReplaceAll(text, l.host(), "HOST") }

// lines are the events of a controller since the last call.
func (l *reflectorLab) lines(b *looptest.Bench) []string {
	var out []string
	for _, line := range b.Lines() {
		out = append(out, l.hide(line))
	}
	return out
}

// edit changes an object; a change of the spec is a new generation.
func (l *reflectorLab) edit(change func(*imagev1.ImageRepository)) {
	l.t.Helper()
	obj := l.getRepository()
	change(obj)
	obj.Generation++
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *reflectorLab) editPolicy(change func(*imagev1.ImagePolicy)) {
	l.t.Helper()
	obj := l.getPolicy()
	change(obj)
	obj.Generation++
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// request asks for a run of an object.
func (l *reflectorLab) request(obj client.Object, token string) {
	l.t.Helper()
	l.get(obj)
	obj.SetAnnotations(map[string]string{meta.ReconcileRequestAnnotation: token})
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// rescan asks for a scan, which has to be good.
func (l *reflectorLab) rescan() {
	l.t.Helper()
	l.request(&imagev1.ImageRepository{}, fmt.Sprint(l.clock.Now().UnixNano(), len(l.seen())))
	l.clock.Step(time.Second)
	if ready := l.scan(); !strings.HasPrefix(ready, "True ") {
		l.t.Fatalf("Ready = %s", ready)
	}
}

func expectLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func expectText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
}
