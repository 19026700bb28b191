package helmrepo

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/seed-79636ae9/flux/api/crds"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

func key() types.NamespacedName { return types.NamespacedName{Namespace: "apps", Name: "repo"} }

// lab is one HelmRepository, its controller and its server. Only the API server is not real.
type lab struct {
	*looptest.Bench
	t       *testing.T
	client  client.Client
	clock   *testclock.FakeClock
	store   *artifact.Store
	storage string
	server  *indexServer
	url     string
	// whole is how many times the index was sent.
	whole atomic.Int32
}

func newScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), storage: t.TempDir(), server: &indexServer{}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		l.server.ServeHTTP(answer, r)
		if answer.Code == http.StatusOK {
			l.whole.Add(1)
		}
		w.Header().Set("ETag", answer.Header().Get("ETag"))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(front.Close)
	l.url = front.URL + "/charts"
	l.server.set([]byte(demoIndex))
	l.client = fake.NewClientBuilder().WithScheme(newScheme(t)).WithStatusSubresource(&sourcev1.HelmRepository{}).Build()
	l.open(Options{})
	return l
}

// open starts the controller, as after a start of the process with these flags.
func (l *lab) open(o Options) {
	l.t.Helper()
	l.close()
	store, err := artifact.OpenStore(l.storage, artifact.StoreOptions{AdvertisedAddr: "storage.test", Digest: o.Digest, Clock: l.clock})
	if err != nil {
		l.t.Fatal(err)
	}
	l.store = store
	l.t.Cleanup(l.close)
	o.TempDir = l.t.TempDir()
	l.Bench = looptest.New(l.t, Controller("source-controller", l.client, store, o), loop.Options{
		Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1,
	})
}

func (l *lab) close() {
	if l.store == nil {
		return
	}
	if err := l.store.Close(); err != nil {
		l.t.Error(err)
	}
	l.store = nil
}

func (l *lab) create(change ...func(*sourcev1.HelmRepository)) {
	l.t.Helper()
	obj := &sourcev1.HelmRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: key().Name, Generation: 1, UID: "one"},
		Spec:       sourcev1.HelmRepositorySpec{URL: l.url},
	}
	obj.SetObservedGeneration(-1)
	for _, f := range change {
		f(obj)
	}
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) get() *sourcev1.HelmRepository {
	l.t.Helper()
	obj := &sourcev1.HelmRepository{}
	if err := l.client.Get(l.t.Context(), key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

func (l *lab) edit(change func(*sourcev1.HelmRepository)) {
	l.t.Helper()
	obj := l.get()
	change(obj)
	obj.Generation++
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) request(token string) {
	l.t.Helper()
	obj := l.get()
	obj.Annotations = map[string]string{meta.ReconcileRequestAnnotation: token}
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// run makes one request and returns the Ready condition as "Status Reason: message", and when the next one is due.
func (l *lab) run() (string, time.Duration) {
	l.t.Helper()
	result, err := l.Run(l.t.Context(), key())
	if err != nil {
		result.RequeueAfter = 0
	}
	return l.condition(meta.ReadyCondition), result.RequeueAfter
}

// good makes one request that has to end well.
func (l *lab) good() {
	l.t.Helper()
	if ready, _ := l.run(); !strings.HasPrefix(ready, "True Succeeded: ") {
		l.t.Fatalf("Ready = %s", ready)
	}
}

func (l *lab) condition(conditionType string) string {
	l.t.Helper()
	c := status.Find(l.get().Status.Conditions, conditionType)
	if c == nil {
		return "-"
	}
	return string(c.Status) + " " + c.Reason + ": " + c.Message
}

// sent returns how many times the index was sent since the last call.
func (l *lab) sent() int { return int(l.whole.Swap(0)) }

// helmrepository 6-10, 12-14, 18-22, 54, 55, 59, 60: the life of a repository.
func TestLife(t *testing.T) {
	const first = "sha256:7bb3d8c40403beab6165d5a65003c778b8bc96d93f40e69c744dbd3cc820c68a"
	l := newLab(t)
	l.create()
	ready, next := l.run()
	expect(t, "Ready", "True Succeeded: stored artifact: revision '"+first+"'", ready)
	expect(t, "the next run without an interval", time.Minute, next)
	expect(t, "events", []string{"info NewArtifact: stored fetched index of size 550B from '" + l.url + "'"}, l.Lines())
	obj := l.get()
	want := &meta.Artifact{
		Path: "helmrepository/apps/repo/index-7bb3d8c40403beab6165d5a65003c778b8bc96d93f40e69c744dbd3cc820c68a.yaml", Revision: first,
		Digest: "sha256:fb192c4de69c5ad6d0d697eacb304d7431cf26d4c304877169b81478f50f9aef", Size: ptr.To[int64](550),
	}
	want.URL, want.LastUpdateTime = "http://storage.test/"+want.Path, obj.Status.Artifact.LastUpdateTime
	expect(t, "artifact", want, obj.Status.Artifact)
	expect(t, "status.url", "http://storage.test/helmrepository/apps/repo/index.yaml", obj.Status.URL)
	answer := httptest.NewRecorder()
	l.store.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/helmrepository/apps/repo/index.yaml", nil))
	if answer.Body.Len() != 550 {
		t.Errorf("the fixed name serves:\n%s", answer.Body)
	}

	// Nothing new: a question, no download, no write, no word.
	l.sent()
	version := l.get().ResourceVersion
	l.good()
	expect(t, "downloads without news", 0, l.sent())
	expect(t, "resourceVersion", version, l.get().ResourceVersion)
	expect(t, "events without news", []string(nil), l.Lines())

	// helmrepository 62: a request takes nobody's word for it.
	l.request("1")
	l.good()
	expect(t, "downloads of a request", 1, l.sent())
	expect(t, "events of a request", []string{"trace ArtifactUpToDate: artifact up-to-date with remote revision: '" + first + "' (local)"}, l.Lines())
	expect(t, "digest after a request", want.Digest, l.get().Status.Artifact.Digest)

	l.server.set([]byte(demoIndex + "# more\n"))
	l.good()
	second := l.get().Status.Artifact
	if second.Revision == first || second.Digest != want.Digest {
		t.Errorf("artifact = %+v", second)
	}
	// Equal content is no news.
	expect(t, "events", []string(nil), l.Lines())

	// helmrepository 60: the old index stays until there is a new one.
	l.edit(func(o *sourcev1.HelmRepository) {
		o.Spec.URL = l.url + "/elsewhere"
		o.Spec.Interval = meta.DurationOf(time.Hour)
	})
	l.server.set([]byte("entries: {}\n"))
	ready, _ = l.run()
	expect(t, "Ready", "False IndexationFailed: failed to load Helm repository from index YAML: failed to load index: no API version specified", ready)
	expect(t, "FetchFailed", ready, strings.Replace(l.condition(sourcev1.FetchFailedCondition), "True ", "False ", 1))
	expect(t, "artifact", second, l.get().Status.Artifact)
	l.Lines()
	l.server.set([]byte(demoIndex + "# more\n"))
	l.good()
	expect(t, "events of the recovery", []string{
		"info Succeeded: stored fetched index of size 550B from '" + l.url + "/elsewhere'",
		"trace ArtifactUpToDate: artifact up-to-date with remote revision: '" + second.Revision + "' (local)",
	}, l.Lines())

	// helmrepository 33
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Run(t.Context(), key()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(l.storage, "helmrepository/apps/repo")); !os.IsNotExist(err) {
		t.Errorf("the artifacts are still there: %v", err)
	}
}

// helmrepository 20: an outdated artifact is told until the new one is stored.
func TestOutdated(t *testing.T) {
	l := newLab(t)
	w := words()
	expect(t, "ArtifactOutdated", "new index revision 'sha256:abc'", w.Outdated(nil, "sha256:abc"))
	l.create()
	l.good()
	l.server.set([]byte(strings.Replace(demoIndex, "1.1.0", "1.2.0", 2)))
	l.good()
	expect(t, "ArtifactOutdated", "-", l.condition(sourcev1.ArtifactOutdatedCondition))
	if lines := l.Lines(); len(lines) != 2 || !strings.HasPrefix(lines[1], "info NewArtifact: ") {
		t.Errorf("events = %q", lines)
	}
}

// helmrepository 13: another algorithm for digests rebuilds nothing, and counts for what is new.
func TestDigestAlgorithm(t *testing.T) {
	l := newLab(t)
	l.create()
	l.good()
	was := l.get().Status.Artifact
	l.open(Options{Digest: artifact.SHA512})
	l.good()
	expect(t, "artifact", was, l.get().Status.Artifact)
	l.server.set([]byte(demoIndex + "# more\n"))
	l.good()
	if is := l.get().Status.Artifact; !strings.HasPrefix(is.Revision, "sha512:") || !strings.HasSuffix(is.Path, "/index-"+strings.TrimPrefix(is.Revision, "sha512:")+".yaml") {
		t.Errorf("artifact = %+v", is)
	}
}

// A server's word that nothing has changed counts only for the index that is stored, of the URL that is asked.
func TestConditionalRuns(t *testing.T) {
	l := newLab(t)
	l.create()
	l.good()
	l.sent()
	l.open(Options{})
	l.good()
	expect(t, "downloads after a start", 1, l.sent())
	l.good()
	expect(t, "downloads then", 0, l.sent())

	l.edit(func(o *sourcev1.HelmRepository) { o.Spec.URL = l.url + "/elsewhere" })
	l.good()
	expect(t, "downloads for another URL", 1, l.sent())

	// helmrepository 36: what storage has lost is fetched again.
	if err := l.store.Remove(l.get().Status.Artifact); err != nil {
		t.Fatal(err)
	}
	l.good()
	expect(t, "downloads of what was lost", 1, l.sent())

	// What could not be read is not what is stored, however often the server says that it has not changed.
	good := l.get().Status.Artifact
	l.server.set([]byte("entries: {}\n"))
	for range 3 {
		if ready, _ := l.run(); !strings.HasPrefix(ready, "False IndexationFailed: ") {
			t.Errorf("Ready = %s", ready)
		}
	}
	expect(t, "artifact", good, l.get().Status.Artifact)
	l.sent()
	l.server.set([]byte(demoIndex))
	l.good()
	expect(t, "downloads after the recovery", 1, l.sent())
}

// helmrepository 51: an artifact without a digest is stored again.
func TestArtifactWithoutDigest(t *testing.T) {
	l := newLab(t)
	l.create()
	l.good()
	obj := l.get()
	want := obj.Status.Artifact.Digest
	obj.Status.Artifact.Digest = ""
	if err := l.client.Status().Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	l.good()
	expect(t, "digest", want, l.get().Status.Artifact.Digest)
}

// helmrepository 5, 41: addresses that only a change of the spec can mend.
func TestStalled(t *testing.T) {
	for url, want := range map[string]string{
		"http://a b/%zz":     `URLInvalid: invalid Helm repository URL: parse "http://a b/%zz": invalid character " " in host name`,
		"oci://example.com/": "URLInvalid: invalid Helm repository URL: scheme 'oci' belongs to a repository of type 'oci': set spec.type",
		"ftp://example.com":  "Failed: failed to construct Helm client: scheme 'ftp' is not http or https",
	} {
		l := newLab(t)
		l.create(func(o *sourcev1.HelmRepository) { o.Spec.URL = url })
		ready, next := l.run()
		expect(t, url, "False "+want, ready)
		expect(t, url, "True "+want, l.condition(meta.StalledCondition))
		expect(t, url, time.Duration(0), next)
	}
}

// helmrepository 29, 44: Secrets come later than what needs them.
func TestAuthenticationFailed(t *testing.T) {
	l := newLab(t)
	l.create(func(o *sourcev1.HelmRepository) { o.Spec.SecretRef = &meta.LocalObjectReference{Name: "login"} })
	ready, _ := l.run()
	expect(t, "Ready", `False AuthenticationFailed: failed to get secret 'apps/login': secrets "login" not found`, ready)
	expect(t, "Stalled", "-", l.condition(meta.StalledCondition))
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "login"}, Data: map[string][]byte{"username": []byte("me")}}
	if err := l.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	ready, _ = l.run()
	expect(t, "Ready", "False AuthenticationFailed: invalid secret 'apps/login': key 'password': key is required beside 'username'", ready)
	secret.Data["password"] = []byte("s3cr3t")
	if err := l.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	l.good()
}

// helmrepository 1-4, 35: a registry has no index; what there was of one goes when the type changes.
func TestOCI(t *testing.T) {
	l := newLab(t)
	l.create()
	l.good()
	l.Lines()
	l.edit(func(o *sourcev1.HelmRepository) { o.Spec.Type = "oci"; o.Spec.URL = "oci://example.com/charts" })
	if _, err := l.Run(t.Context(), key()); err != nil {
		t.Fatal(err)
	}
	obj := l.get()
	expect(t, "status", sourcev1.HelmRepositoryStatus{}, obj.Status)
	expect(t, "finalizers", []string(nil), obj.Finalizers)
	if _, err := os.Stat(filepath.Join(l.storage, "helmrepository/apps/repo")); !os.IsNotExist(err) {
		t.Errorf("the artifacts are still there: %v", err)
	}
	version := obj.ResourceVersion
	if result, err := l.Run(t.Context(), key()); err != nil || result.RequeueAfter != 0 {
		t.Errorf("result %+v, error %v", result, err)
	}
	expect(t, "resourceVersion", version, l.get().ResourceVersion)

	l.edit(func(o *sourcev1.HelmRepository) { o.Spec.Type = ""; o.Spec.URL = l.url })
	l.good()
}

// helmrepository 54
func TestHumanSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 326: "326B", 999: "999B", 1000: "1kB", 1014: "1.014kB", 123456: "123.5kB", 52428800: "52.43MB", 1 << 62: "4.612EB"} {
		expect(t, "size", want, humanSize(n))
	}
	obj := &sourcev1.HelmRepository{Spec: sourcev1.HelmRepositorySpec{URL: "http://me:s3cr3t@example.com"}}
	obj.Status.Artifact = &meta.Artifact{}
	expect(t, "without a size", "stored fetched index of unknown size from 'http://example.com'", words().News(obj))
}

// helmrepository 37, 50: an index beyond the limit has no revision, and the next try may find a smaller one.
func TestTooLarge(t *testing.T) {
	l := newLab(t)
	l.create()
	l.good()
	was := l.get().Status.Artifact
	limits := DefaultLimits()
	limits.IndexBytes = int64(len(demoIndex))
	l.open(Options{Limits: limits})
	l.server.set([]byte(demoIndex + "#"))
	ready, _ := l.run()
	want := "False Failed: failed to fetch Helm repository index: failed to cache index to temporary file: the index is larger than 350 bytes: raise --helm-index-max-size if it is meant to be"
	expect(t, "Ready", want, ready)
	expect(t, "Stalled", "-", l.condition(meta.StalledCondition))
	expect(t, "artifact", was, l.get().Status.Artifact)
	l.server.set([]byte(demoIndex))
	l.good()
}

// helmrepository 56: nobody who reads the status needs the fixed name, so that it fails nothing.
func TestFixedNameFails(t *testing.T) {
	l := newLab(t)
	if err := os.MkdirAll(filepath.Join(l.storage, "helmrepository/apps/repo/index.yaml/in-the-way"), 0o750); err != nil {
		t.Fatal(err)
	}
	l.create()
	l.good()
	if lines := l.Lines(); len(lines) != 2 || !strings.HasPrefix(lines[0], "trace SymlinkUpdateFailed: failed to update status URL symlink: ") {
		t.Errorf("events = %q", lines)
	}
	expect(t, "status.url", "", l.get().Status.URL)
}

// helmrepository 30, 58: there is no proxy to name, and who may refer to the object is not asked.
func TestFieldsWithoutEffect(t *testing.T) {
	crd, err := crds.Bytes("helmrepositories.source.toolkit.fluxcd.io")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(crd), "accessFrom:") || strings.Contains(string(crd), "proxySecretRef:") {
		t.Error("want a schema with accessFrom and without proxySecretRef")
	}
	l := newLab(t)
	l.create(func(o *sourcev1.HelmRepository) { o.Spec.AccessFrom = &meta.AccessFrom{} })
	l.good()
}
