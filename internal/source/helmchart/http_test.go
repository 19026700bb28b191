package helmchart

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/helmrepo"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
)

// webShop is a server with a Helm repository at /charts/, behind a login once there is one.
type webShop struct {
	*httptest.Server
	files    map[string]string
	password string
	requests atomic.Int32
}

func newWebShop(t *testing.T) *webShop {
	s := &webShop{files: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if _, password, _ := r.BasicAuth(); password != s.password {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		content, ok := s.files[strings.TrimPrefix(r.URL.Path, "/charts/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, content)
	}))
	t.Cleanup(s.Close)
	return s
}

// web gives the lab a real HTTP, and a HelmRepository with its index in the store.
func (l *lab) web(t *testing.T, s *webShop, secret string) {
	t.Helper()
	indexes, err := helmrepo.NewCache(helmrepo.CacheOptions{})
	l.must(err)
	l.controller = Controller("source-controller", l.store, Options{
		Cached: l.client, Reader: l.client, Artifacts: l.opener, TempDir: l.temp, HTTP: NewHTTP(l.client, l.opener, indexes, helmrepo.DefaultLimits()),
	})
	l.Bench = looptest.New(t, l.controller, loop.Options{Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1})
	obj := &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"}, Spec: sourcev1.HelmRepositorySpec{URL: s.URL + "/charts"}}
	if secret != "" {
		obj.Spec.SecretRef = &meta.LocalObjectReference{Name: secret}
	}
	l.must(l.client.Create(t.Context(), obj))
	l.index(s.files["index.yaml"])
}

// index makes a text the artifact of the HelmRepository.
func (l *lab) index(text string) {
	l.t.Helper()
	var obj sourcev1.HelmRepository
	l.must(l.client.Get(l.t.Context(), types.NamespacedName{Namespace: "apps", Name: "repo"}, &obj))
	a, err := l.store.Put(l.t.Context(), artifact.Name{Kind: sourcev1.HelmRepositoryKind, Namespace: "apps", Object: "repo", File: "index.yaml"}, copying(text))
	l.must(err)
	a.Revision = a.Digest
	obj.Status.Artifact = a
	l.must(l.client.Status().Update(l.t.Context(), &obj))
}

func copying(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func entry(version, url string) string {
	return "  - {apiVersion: v2, name: demo, version: " + version + ", created: \"2026-01-01T00:00:00Z\", urls: [" + url + "]}\n"
}

const indexHead = "apiVersion: v1\ngenerated: \"2026-01-01T00:00:00Z\"\nentries:\n  demo:\n"

// helmchart 11, 12, 14, 15: a repository as it is, with a range of versions.
func TestWebRepository(t *testing.T) {
	l, s := newLab(t), newWebShop(t)
	s.files["index.yaml"] = indexHead + entry("1.0.0", "demo-1.0.0.tgz") + entry("1.10.0", s.URL+"/charts/files/demo-1.10.0.tgz") + entry("2.0.0-rc.1", "x.tgz")
	s.files["demo-1.0.0.tgz"] = string(packed(t, files("demo", "demo", "1.0.0", nil)))
	s.files["files/demo-1.10.0.tgz"] = string(packed(t, files("demo", "demo", "1.10.0", nil)))
	l.web(t, s, "login")
	s.password = "right"
	l.must(l.client.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "login"},
		Data: map[string][]byte{"username": []byte("user"), "password": []byte("wrong")}}))
	l.chart()
	l.step()
	l.ready("False AuthenticationFailed: chart pull error: failed to download chart for remote reference: failed to fetch " + s.URL + "/charts/files/demo-1.10.0.tgz : 401 Unauthorized")
	expect(t, "FetchFailed", strings.Replace(l.condition(meta.ReadyCondition), "False", "True", 1), l.condition(sourcev1.FetchFailedCondition))

	s.password = "wrong"
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.10.0'")
	before := s.requests.Load()
	l.step()
	expect(t, "requests of a run without news", before, s.requests.Load())

	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.Version = "~1.0.0" })
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'")

	for version, want := range map[string]string{
		"9.9.9": "no 'demo' chart with version matching '9.9.9' found", "nonsense": "",
	} {
		l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.Version = version })
		l.step()
		want = "False InvalidChartReference: invalid chart reference: failed to get chart version for remote reference: " + want
		if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, want) {
			t.Errorf("%s: Ready is %s, want %s", version, got, want)
		}
	}

	t.Log("helmchart 45: what the index names is not there.")
	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.Version = "2.0.0-rc.1" })
	l.step()
	l.ready("False ChartPullError: chart pull error: failed to download chart for remote reference: failed to fetch " + s.URL + "/charts/x.tgz : 404 Not Found")

	t.Log("helmchart 12: an index that cannot be read is tried again.")
	l.index("nonsense: [")
	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.Version = "*" })
	l.step()
	if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, "False ChartPullError: chart pull error: failed to get chart version for remote reference: could not load repository index: ") {
		t.Errorf("Ready is %s", got)
	}
	expect(t, "Stalled", "-", l.condition(meta.StalledCondition))

	t.Log("helmchart 8: the index has left the storage.")
	var obj sourcev1.HelmRepository
	l.must(l.client.Get(t.Context(), types.NamespacedName{Namespace: "apps", Name: "repo"}, &obj))
	l.must(l.store.Remove(obj.Status.Artifact))
	l.step()
	l.ready("False NoSourceArtifact: no artifact available for HelmRepository source 'repo'")
}

// helmchart 37, 64: the index of a repository that no HelmRepository stands for is fetched, once.
func TestWebDependency(t *testing.T) {
	l, s := newLab(t), newWebShop(t)
	s.files["index.yaml"] = indexHead + entry("1.0.0", "demo-1.0.0.tgz") + entry("1.1.0", "demo-1.1.0.tgz")
	for _, version := range []string{"1.0.0", "1.1.0"} {
		s.files["demo-"+version+".tgz"] = string(packed(t, files("demo", "demo", version, nil)))
	}
	l.web(t, s, "")
	l.must(l.client.Delete(t.Context(), &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"}}))
	chart := "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n" +
		"- {name: demo, version: 1.0.0, alias: a, repository: '" + s.URL + "/charts'}\n- {name: demo, version: 1.1.0, alias: b, repository: '" + s.URL + "/charts/'}\n"
	l.git(first, files("parent", "parent", "1.0.0", map[string]string{"parent/Chart.yaml": chart}))
	l.chart(of(sourcev1.GitRepositoryKind, "app", "parent"))
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'parent' chart with version '1.0.0'")
	expect(t, "requests: the index and two charts", int32(3), s.requests.Load())
}
