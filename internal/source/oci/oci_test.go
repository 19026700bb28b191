package oci

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// ocirepository 2, 3
func TestConditions(t *testing.T) {
	table := Controller("source-controller", nil, nil, Options{}).Conditions
	expect(t, "failures by precedence", []string{
		sourcev1.StorageOperationFailedCondition, sourcev1.FetchFailedCondition, sourcev1.ArtifactOutdatedCondition,
	}, table.Failures)
	expect(t, "what stays", []string{sourcev1.ArtifactInStorageCondition, sourcev1.SourceVerifiedCondition}, table.Sticky)
}

// An artifact from its first look to its replacement.
func TestLife(t *testing.T) {
	l := newLab(t)
	first := l.push("latest", files("one"))
	l.create()

	// ocirepository 1, 14, 18, 27, 35, 37, 38, 50-52: one look at the tag, and all that follows by its digest.
	a := l.good()
	revision := "latest@" + first.DigestStr()
	expect(t, "revision", revision, a.Revision)
	expect(t, "path", "ocirepository/apps/app/"+first.DigestStr()+".tar.gz", a.Path)
	expect(t, "metadata", map[string]string{oci.SourceAnnotation: "https://git.example.com/app", oci.RevisionAnnotation: "main@sha1:1"}, a.Metadata)
	expect(t, "Ready", "True Succeeded: stored artifact for digest '"+revision+"'", l.condition(meta.ReadyCondition))
	expect(t, "ArtifactInStorage", "True Succeeded: stored artifact for digest '"+revision+"'", l.condition(sourcev1.ArtifactInStorageCondition))
	expect(t, "status.url", "http://storage.test/ocirepository/apps/app/latest.tar.gz", l.get().Status.URL)
	events := l.Events()
	expect(t, "events", []event.Event{{
		Severity: event.Info, Reason: "NewArtifact", Metadata: map[string]string{"revision": revision, "digest": a.Digest},
		Message: "stored artifact with revision '" + revision + "' from 'oci://" + l.host() + "/app', origin source 'https://git.example.com/app', origin revision 'main@sha1:1'",
	}}, events)
	for agent := range l.agents {
		if !strings.HasPrefix(agent, "flux/v2 ") {
			t.Errorf("user agent %q", agent)
		}
	}
	tagged := slices.DeleteFunc(l.seen(), func(r string) bool { return !strings.HasSuffix(r, "/latest") })
	expect(t, "requests by tag", []string{"HEAD /v2/app/manifests/latest"}, tagged)

	// ocirepository 56: nothing new costs one request, and writes nothing.
	version := l.get().ResourceVersion
	l.good()
	expect(t, "requests without news", []string{"HEAD /v2/app/manifests/latest"}, l.seen())
	expect(t, "resourceVersion", version, l.get().ResourceVersion)

	// ocirepository 31
	l.request("now")
	l.good()
	expect(t, "events of a request without news", []string{"trace ArtifactUpToDate: artifact up-to-date with remote revision: '" + revision + "' (local)"}, l.lines())

	second := l.push("latest", files("two"))
	b := l.good()
	expect(t, "revision", "latest@"+second.DigestStr(), b.Revision)
	expect(t, "ArtifactOutdated", "-", l.condition(sourcev1.ArtifactOutdatedCondition))
}

// ocirepository 30: what is new and cannot be fetched is told, and stays told.
func TestOutdated(t *testing.T) {
	l := newLab(t)
	l.push("latest", files("one"))
	l.create()
	was := l.good()
	broken := l.push("latest", testkit.Layer{MediaType: oci.ContentLayer, Raw: "no archive"})
	expect(t, "Ready", "False OCIArtifactLayerOperationFailed: failed to extract layer contents from artifact: requires gzip-compressed body: gzip: invalid header", l.run())
	expect(t, "ArtifactOutdated", "True NewRevision: new revision 'latest@"+broken.DigestStr()+"' for 'HOST/app:latest'", l.condition(sourcev1.ArtifactOutdatedCondition))
	expect(t, "artifact", was, l.get().Status.Artifact)
}

// ocirepository 29, 32-38, 55, 57, 70
func TestLayers(t *testing.T) {
	l := newLab(t)
	chart := testkit.Layer{MediaType: oci.HelmChartLayer, Raw: "the bytes of a chart"}
	l.push("latest", files("one"), chart)
	l.create()
	plain := l.good()
	if l.get().Status.ObservedLayerSelector != nil || l.get().Status.ObservedIgnore != nil {
		t.Errorf("observed: %+v", l.get().Status)
	}
	l.lines()

	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.LayerSelector = &sourcev1.OCILayerSelector{} })
	l.seen()
	same := l.good()
	if pulls := l.seen(); len(pulls) < 3 {
		t.Errorf("a selector that is empty, not missing, pulled nothing: %q", pulls)
	}
	expect(t, "digest of the same content", plain.Digest, same.Digest)
	expect(t, "events about the same content", []string(nil), l.lines())
	expect(t, "observedLayerSelector", &sourcev1.OCILayerSelector{}, l.get().Status.ObservedLayerSelector)

	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.LayerSelector.Operation = sourcev1.OCILayerExtract })
	l.seen()
	l.good()
	expect(t, "requests when a default is spelled out", []string{"HEAD /v2/app/manifests/latest"}, l.seen())

	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.Ignore = ptr.To("*.yaml") })
	ignoring := l.good()
	if ignoring.Digest == plain.Digest {
		t.Error("the ignore rules of the spec changed nothing")
	}
	expect(t, "observedIgnore", ptr.To("*.yaml"), l.get().Status.ObservedIgnore)

	l.edit(func(s *sourcev1.OCIRepositorySpec) {
		s.LayerSelector = &sourcev1.OCILayerSelector{MediaType: oci.HelmChartLayer, Operation: sourcev1.OCILayerCopy}
	})
	copied := l.good()
	expect(t, "bytes of the copy", "the bytes of a chart", l.stored(copied))
	expect(t, "digest of the copy", fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("the bytes of a chart"))), copied.Digest)
	expect(t, "file of the copy", plain.Path, copied.Path)

	l.edit(func(s *sourcev1.OCIRepositorySpec) {
		s.LayerSelector = &sourcev1.OCILayerSelector{MediaType: "text/plain"}
	})
	expect(t, "Ready", "False OCIArtifactLayerOperationFailed: failed to find layer with media type 'text/plain' in artifact", l.run())
	l.push("latest")
	expect(t, "Ready", "False OCIArtifactLayerOperationFailed: no layers found in artifact", l.run())
}

// ocirepository 68: nothing leaves the directory; symbolic links are dropped (33).
func TestUnsafeLayer(t *testing.T) {
	for what, build := range hostile() {
		if what == "endless answers" || what == "bomb" || strings.HasPrefix(what, "link, then") {
			continue
		}
		t.Run(what, func(t *testing.T) {
			server := httptest.NewServer(build(t))
			defer server.Close()
			l := newLab(t)
			l.create(func(obj *sourcev1.OCIRepository) {
				obj.Spec.URL = "oci://" + strings.TrimPrefix(server.URL, "http://") + "/app"
			})
			if ready := l.run(); !strings.HasPrefix(ready, "False OCIArtifactLayerOperationFailed: failed to extract layer contents from artifact: unsafe archive") {
				t.Errorf("Ready = %s", ready)
			}
		})
	}
}

// ocirepository 6, 11, 15, 16, 19: what the reference says, and how each defect is judged.
func TestReferences(t *testing.T) {
	l := newLab(t)
	digest := l.push("1.2.3", files("one")).DigestStr()
	l.create()
	for _, test := range []struct {
		name  string
		ref   sourcev1.OCIRepositoryRef
		ready string
	}{
		{"semver", sourcev1.OCIRepositoryRef{SemVer: "1.x"}, "True Succeeded: stored artifact for digest '1.2.3@" + digest + "'"},
		{"digest", sourcev1.OCIRepositoryRef{Digest: digest}, "True Succeeded: stored artifact for digest '" + digest + "'"},
		{"no match", sourcev1.OCIRepositoryRef{SemVer: "2.x"}, "False ReadOperationFailed: failed to determine the artifact tag for 'oci://HOST/app': no match found for semver: 2.x"},
		{"bad range", sourcev1.OCIRepositoryRef{SemVer: ">>"}, "False ReadOperationFailed: failed to determine the artifact tag for 'oci://HOST/app': semver '>>' parse error: improper constraint: \">>\""},
		{"bad filter", sourcev1.OCIRepositoryRef{SemVer: "*", SemverFilter: "("}, "False ReadOperationFailed: failed to determine the artifact tag for 'oci://HOST/app': semverFilter parse error: error parsing regexp: missing closing ): `(`"},
		{"bad digest", sourcev1.OCIRepositoryRef{Digest: "sha256:1"}, "False OCIArtifactPullFailed: failed to determine artifact digest: wrong number of hex digits for sha256: 1"},
		{"absent digest", sourcev1.OCIRepositoryRef{Digest: "sha256:" + strings.Repeat("0", 64)}, "False OCIArtifactPullFailed: failed to pull artifact from 'oci://HOST/app': GET http://HOST/v2/app/manifests/sha256:" + strings.Repeat("0", 64) + ": MANIFEST_UNKNOWN: Unknown manifest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.edit(func(s *sourcev1.OCIRepositorySpec) { s.Ref = &test.ref })
			expect(t, "Ready", test.ready, l.run())
			if fetch := l.condition(sourcev1.FetchFailedCondition); (fetch == "-") != strings.HasPrefix(test.ready, "True") {
				t.Errorf("FetchFailed = %s", fetch)
			}
		})
	}
	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.URL += ":1.2.3" })
	if ready := l.run(); !strings.HasPrefix(ready, "False URLInvalid: URL validation failed for 'oci://HOST/app:1.2.3': ") {
		t.Errorf("Ready = %s", ready)
	}
	if l.condition(meta.StalledCondition) == "-" || l.condition(sourcev1.FetchFailedCondition) == "-" {
		t.Error("a bad URL does not stall")
	}
}

// ocirepository 20, 21, 69, 72; secrets of the spec and of the service account make one keychain.
func TestCredentials(t *testing.T) {
	l := newLab(t)
	l.push("latest", files("one"))
	l.protect("wanted")
	l.create(func(obj *sourcev1.OCIRepository) { obj.Spec.ServiceAccountName = "account" })
	expect(t, "Ready", "False AuthenticationFailed: failed to get credential: serviceaccount 'apps/account' not found", l.run())
	account := &corev1.ServiceAccount{
		ObjectMeta:       metav1.ObjectMeta{Name: "account"},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "elsewhere"}, {Name: "older"}, {Name: "late"}},
	}
	l.add(account)
	l.lines()
	if ready := l.run(); !strings.HasPrefix(ready, "False AuthenticationFailed: failed to get credential: image pull secret of serviceaccount 'apps/account': failed to get secret 'apps/elsewhere'") {
		t.Errorf("Ready = %s", ready)
	}
	for _, line := range l.lines() {
		if strings.HasPrefix(line, "trace") {
			t.Errorf("event %s", line)
		}
	}
	l.add(
		secretOf("elsewhere", map[string][]byte{oci.DockerConfigKey: login("registry.example.com", "nobody", "password")}),
		secretOf("older", map[string][]byte{corev1.DockerConfigKey: []byte(`{"` + l.host() + `":{"username":"wanted","password":"password"}}`)}),
		secretOf("late", map[string][]byte{oci.DockerConfigKey: login(l.host(), "late", "password")}),
		secretOf("first", map[string][]byte{oci.DockerConfigKey: login(l.host(), "first", "password")}),
		secretOf("empty", map[string][]byte{"username": []byte("user")}),
	)
	l.good()

	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.SecretRef = &meta.LocalObjectReference{Name: "first"} })
	if ready := l.run(); !strings.HasPrefix(ready, "False OCIArtifactPullFailed: ") {
		t.Errorf("with a secret of another user: Ready = %s", ready)
	}
	l.protect("first")
	l.good()

	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.SecretRef = &meta.LocalObjectReference{Name: "empty"} })
	expect(t, "Ready", "False AuthenticationFailed: failed to get credential: invalid secret 'apps/empty': key '.dockerconfigjson': key is required", l.run())
	l.lines()
	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.SecretRef = &meta.LocalObjectReference{Name: "absent"} })
	l.run()
	if lines := l.lines(); !slices.Contains(lines, "trace AuthenticationFailed: auth secret 'absent' not found (local)") {
		t.Errorf("events %q", lines)
	}
}

// cloud signs in to its registry.
type cloud struct {
	host, user string
	calls      []auth.Request
}

func (c *cloud) Name() string { return "aws" }

func (c *cloud) CheckRegistry(host string) error {
	if host != c.host {
		return auth.ErrUnsupported
	}
	return nil
}

func (c *cloud) Registry(_ context.Context, call *auth.Call, _ string) (auth.Login, error) {
	c.calls = append(c.calls, call.Request)
	return auth.Login{Username: c.user, Password: "password", Expires: time.Now().Add(time.Hour)}, nil
}

// ocirepository 22, 23, 72: a cloud is asked when no Secret says more, and for a service account when the gate allows it.
func TestProviders(t *testing.T) {
	aws := &cloud{user: "cloud"}
	authenticator, err := auth.New(auth.Options{Clouds: []auth.Cloud{aws}})
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(o *Options) { o.Auth = authenticator })
	aws.host = l.host()
	l.push("latest", files("one"))
	l.protect("cloud")
	l.add(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "account"}})
	l.create(func(obj *sourcev1.OCIRepository) { obj.Spec.ServiceAccountName = "account" })
	if ready := l.run(); !strings.HasPrefix(ready, "False OCIArtifactPullFailed: ") || len(aws.calls) > 0 {
		t.Errorf("generic: Ready = %s after %d requests to the cloud", ready, len(aws.calls))
	}
	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.Provider = "aws" })
	if ready := l.run(); !strings.HasPrefix(ready, "False FeatureGateDisabled: ") {
		t.Errorf("service account without the gate: Ready = %s", ready)
	}
	expect(t, "FetchFailed", "-", l.condition(sourcev1.FetchFailedCondition))
	if l.condition(meta.StalledCondition) == "-" {
		t.Error("a closed gate does not stall")
	}
	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.ServiceAccountName = "" })
	l.good()
	if len(aws.calls) != 1 || aws.calls[0].Kind != "OCIRepository" || aws.calls[0].Namespace != "apps" {
		t.Errorf("requests to the cloud: %+v", aws.calls)
	}

	l.add(secretOf("secret", map[string][]byte{oci.DockerConfigKey: login(l.host(), "secret", "password")}))
	l.protect("secret")
	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.SecretRef = &meta.LocalObjectReference{Name: "secret"} })
	l.good()
	expect(t, "requests to the cloud", 1, len(aws.calls))

	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.SecretRef, s.Provider = nil, "gcp" })
	if ready := l.run(); !strings.HasPrefix(ready, "False AuthenticationFailed: failed to get credential from 'gcp': ") {
		t.Errorf("a cloud that nobody knows: Ready = %s", ready)
	}
}

// ocirepository 24, 26, 61: TLS and proxy come from Secrets, and what is wrong with them is a failed authentication.
func TestConnection(t *testing.T) {
	l := newLab(t)
	l.push("latest", files("one"))
	var through []string
	target, err := url.Parse(l.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through = append(through, r.Method+" "+r.URL.Host)
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	l.add(
		secretOf("proxy", map[string][]byte{"address": []byte(proxy.URL)}),
		secretOf("bad", map[string][]byte{"address": []byte("ftp://x"), "ca.crt": []byte("none")}),
		secretOf("empty", map[string][]byte{}),
	)
	// A name that only the proxy knows.
	l.create(func(obj *sourcev1.OCIRepository) {
		obj.Spec.URL, obj.Spec.Insecure = "oci://registry.invalid/app", true
		obj.Spec.ProxySecretRef = &meta.LocalObjectReference{Name: "proxy"}
	})
	l.good()
	if len(through) == 0 || slices.ContainsFunc(through, func(r string) bool { return !strings.Contains(r, "registry.invalid") }) {
		t.Errorf("through the proxy went %q", through)
	}
	for _, test := range []struct {
		name  string
		edit  func(*sourcev1.OCIRepositorySpec)
		ready string
	}{
		{"proxy", func(s *sourcev1.OCIRepositorySpec) { s.ProxySecretRef.Name = "bad" }, "False AuthenticationFailed: failed to configure proxy options: invalid secret 'apps/bad': key 'address': scheme 'ftp' is not one of http, https and socks5"},
		{"authority", func(s *sourcev1.OCIRepositorySpec) {
			s.ProxySecretRef, s.CertSecretRef = nil, &meta.LocalObjectReference{Name: "bad"}
		}, "False AuthenticationFailed: failed to configure TLS: invalid secret 'apps/bad': key 'ca.crt': no PEM certificate found"},
		{"nothing", func(s *sourcev1.OCIRepositorySpec) { s.CertSecretRef.Name = "empty" }, "False AuthenticationFailed: failed to configure TLS: invalid secret 'apps/empty': key 'ca.crt': key is required, or 'tls.crt' and 'tls.key'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.edit(test.edit)
			expect(t, "Ready", test.ready, l.run())
		})
	}
}

// A hanging registry is known by its host (reliability 069).
func TestHosted(t *testing.T) {
	repo, err := oci.ParseRepository("oci://registry.example.com:5000/app", false)
	if err != nil {
		t.Fatal(err)
	}
	var hosted frame.Hosted = &upstream{repo: repo}
	expect(t, "host", "registry.example.com:5000", hosted.Host())
}

// Equal references of several objects cost one look while nobody waits for the answer, and a look each when somebody does.
func TestSharedReference(t *testing.T) {
	l := newLab(t, func(o *Options) { o.Pool = oci.NewPool(nil) })
	l.push("latest", files("one"))
	l.create()
	l.good()
	l.seen()
	l.good()
	expect(t, "requests of an interval within seconds", []string(nil), l.seen())
	is := l.push("latest", files("two"))
	l.request("now")
	expect(t, "revision", "latest@"+is.DigestStr(), l.good().Revision)
	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.Timeout = meta.DurationOf(time.Minute) })
	l.seen()
	l.good()
	expect(t, "requests of a new generation", []string{"HEAD /v2/app/manifests/latest"}, l.seen())
}

// ocirepository 56: whose look may be answered with what another object was told.
func TestFresh(t *testing.T) {
	created := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	type answer struct {
		Now   bool
		Since time.Time
	}
	for name, test := range map[string]struct {
		generation, observed int64
		artifact, requested  bool
		want                 answer
	}{
		"new":                  {1, -1, false, false, answer{false, created.Add(time.Second)}},
		"new, requested":       {1, -1, false, true, answer{true, time.Time{}}},
		"unchanged":            {2, 2, true, false, answer{}},
		"unchanged, requested": {2, 2, true, true, answer{true, time.Time{}}},
		"changed":              {2, 1, true, false, answer{true, time.Time{}}},
		"without an artifact":  {2, 2, false, false, answer{true, time.Time{}}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &sourcev1.OCIRepository{ObjectMeta: metav1.ObjectMeta{Generation: test.generation, CreationTimestamp: metav1.NewTime(created)}}
			obj.Status.ObservedGeneration = test.observed
			if test.artifact {
				obj.Status.Artifact = &meta.Artifact{}
			}
			now, since := fresh(obj, test.requested)
			if got := (answer{now, since}); got != test.want {
				t.Errorf("fresh() = %v, want %v", got, test.want)
			}
		})
	}
}
