package e2e

import (
	"archive/tar"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/hostile"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

const (
	configType = "application/vnd.cncf.flux.config.v1+json"
	layerType  = "application/vnd.cncf.flux.content.v1.tar+gzip"
)

// image is an artifact of one layer.
func image(t *testing.T, layer []byte) v1.Image {
	t.Helper()
	return must[v1.Image](t)(testkit.BuildImage(configType, nil, []testkit.Layer{{MediaType: layerType, Raw: string(layer)}}))
}

// ociAttack is an attack by a registry, which has the image as app:latest, on a source with a login.
func (a *arena) ociAttack(t *testing.T, name string, img v1.Image, lie func(http.ResponseWriter, *http.Request) bool, fails ...string) attack {
	t.Helper()
	r := hostile.NewRegistry()
	t.Cleanup(r.Close)
	must[string](t)(r.Push("app:latest", img))
	r.Lie(lie)
	login := "login-" + label(t.Name()) + "-" + r.Host()[strings.LastIndexByte(r.Host(), ':')+1:]
	config := fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, r.Host(), canaryUser, canaryPassword)
	a.ctl.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: login}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)},
	})
	return attack{name: name, kind: sourcev1.OCIRepositoryKind, fails: fails, spec: map[string]any{
		"url": "oci://" + r.Host() + "/app", "insecure": true, "secretRef": map[string]any{"name": login},
	}}
}

// layers is reliability 004: archives that want to get out or to be more than they look.
func (a *arena) layers(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 1} }
	at := func(name string, layer []byte, fails ...string) attack {
		return a.ociAttack(t, name, image(t, layer), nil, fails...)
	}
	many := make([]tar.Header, 600_000)
	for i := range many {
		many[i] = tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i)}
	}
	up := strings.Repeat("../", 20)
	a.run(t,
		at("leads up", hostile.Tar(file("../evil.yaml")), "leaves the directory"),
		at("absolute", hostile.Tar(file(a.scratch+"/evil.yaml")), "leaves the directory"),
		at("through a link", hostile.Tar(tar.Header{Typeflag: tar.TypeSymlink, Name: "d", Linkname: a.scratch}, file("d/evil"))),
		at("hard link", hostile.Tar(tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: up + a.scratch + "/keep.txt"}, file("h")), "neither a file nor a directory"),
		at("pax path", hostile.Tar(tar.Header{Typeflag: tar.TypeReg, Format: tar.FormatPAX, Name: "../.." + a.scratch + "/evil\u00e9", Size: 1}), "leaves the directory"),
		at("devices", hostile.Tar(tar.Header{Typeflag: tar.TypeFifo, Name: "p"}, tar.Header{Typeflag: tar.TypeChar, Name: "c"}, file("ok")), "neither a file nor a directory"),
		at("bomb of 8 GiB", hostile.Tar(tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: 8 << 30}), "limit"),
		at("600000 files", hostile.Tar(many...), "failed to extract"), // the limit or, on a slow disk, the time
		at("deep", hostile.Tar(file(strings.Repeat("d/", 2000)+"f")), "limit"),
		at("promises too much", hostile.LyingTar(), "layer"),
		at("no archive", []byte("hello"), "layer"),
		at("half an archive", hostile.Tar(file("a"), file("b"))[:60], "layer"),
	)
}

// registries is reliability 020 and 073: a registry that lies, floods, or asks for credentials it has no business with.
func (a *arena) registries(t *testing.T) {
	good := image(t, must[[]byte](t)(testkit.TarGzip(map[string]string{"app.yaml": "a: 1\n"})))
	manifest := string(must[[]byte](t)(good.RawManifest()))
	layers := must[[]v1.Layer](t)(good.Layers())
	layer := must[v1.Hash](t)(layers[0].Digest()).String()
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	at := func(name string, lie func(http.ResponseWriter, *http.Request) bool, fails ...string) attack {
		return a.ociAttack(t, name, good, lie, fails...)
	}
	blob := func(answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return hostile.Replace(http.MethodGet, "/blobs/"+layer, answer)
	}
	semver := func(at attack) attack {
		at.spec["ref"] = map[string]any{"semver": ">=1.0.0"}
		return at
	}
	var visits, stolen atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits.Add(1)
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			stolen.Add(1)
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(elsewhere.Close)
	silent := must[*hostile.Stalled](t)(hostile.NewStalled("", false))
	t.Cleanup(silent.Close)
	realm := func(url string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+url+`",service="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	token := func(answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				answer(w, r)
				return true
			}
			realm("http://"+r.Host+"/token")(w, r)
			return true
		}
	}
	foreign := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":5,"urls":[%q]}]}`,
		manifestType, "sha256:"+strings.Repeat("1", 64), layerType, "sha256:"+strings.Repeat("2", 64), elsewhere.URL+"/secret")
	var index strings.Builder
	index.WriteString(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`)
	for i := range 10_000 {
		if i > 0 {
			index.WriteByte(',')
		}
		fmt.Fprintf(&index, `{"mediaType":%q,"digest":"sha256:%064x","size":100}`, manifestType, i)
	}
	index.WriteString("]}")

	attacks := []attack{
		at("wrong bytes", blob(hostile.Text("application/octet-stream", "hello")), "layer"),
		at("half a blob", blob(func(w http.ResponseWriter, _ *http.Request) {
			content := must[io.ReadCloser](t)(layers[0].Compressed())
			w.Header().Set("Content-Length", fmt.Sprint(must[int64](t)(layers[0].Size())))
			_, _ = io.CopyN(w, content, 40)
			panic(http.ErrAbortHandler)
		}), "layer"),
		at("endless blob", blob(func(w http.ResponseWriter, _ *http.Request) { endless(w, "zeros") }), "layer"),
		at("silent blob", blob(hostile.Hang), "deadline exceeded"),
		at("blob sent to a silent host", blob(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+silent.Addr+"/blob", http.StatusTemporaryRedirect)
		}), "layer"),
		at("blob sent elsewhere", blob(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/blob", http.StatusTemporaryRedirect)
		}), "layer"),
		at("redirects in circles", blob(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusTemporaryRedirect)
		}), "layer"),
		at("foreign layer", hostile.Replace(http.MethodGet, "/manifests/", hostile.Text(manifestType, foreign)), "artifact"),
		at("ten thousand manifests", hostile.Replace(http.MethodGet, "/manifests/", hostile.Text("application/vnd.oci.image.index.v1+json", index.String())), "artifact"),
		at("endless manifest", hostile.Replace(http.MethodGet, "/manifests/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			endless(w, " ")
		}), "artifact"),
		at("manifest of another digest", hostile.Replace(http.MethodGet, "/manifests/sha256:", hostile.Text(manifestType, strings.Replace(manifest, "{", "{ ", 1))), "digest"),
		at("no manifest", hostile.Replace(http.MethodGet, "/manifests/sha256:", http.NotFound), "artifact"),
		semver(at("a million tags", hostile.Replace(http.MethodGet, "/tags/list", func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, `{"name":"app","tags":["latest"`)
			for i := 0; i < 1_000_000 && err == nil; i++ {
				_, err = fmt.Fprintf(w, `,"1.0.%d"`, i)
			}
			_, _ = io.WriteString(w, "]}")
		}), "limit exceeded")),
		semver(at("endless pages of tags", hostile.Replace(http.MethodGet, "/tags/list", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<"+r.URL.Path+"?last=latest>; rel=\"next\"")
			hostile.Text("application/json", `{"name":"app","tags":["latest"]}`)(w, r)
		}), "tag")),
		at("token service that fails", token(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }), "500"),
		at("token service without JSON", token(hostile.Text("application/json", "<html>")), "artifact"),
		at("endless token", token(func(w http.ResponseWriter, _ *http.Request) { endless(w, "x") }), "artifact"),
		at("silent token service", token(hostile.Hang), "deadline exceeded"),
		at("repeats the login", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			_, password, _ := r.BasicAuth()
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"%s and %s"}]}`, r.Header.Get("Authorization"), password)
			return true
		}, "DENIED"),
	}
	for i := range attacks {
		if attacks[i].verdict == nil {
			attacks[i].verdict = noArtifact
		}
	}
	a.run(t, attacks...)
	if stolen.Load() > 0 {
		t.Error("credentials have followed a redirect to another host")
	}
	if n := visits.Load(); n > 40 {
		t.Errorf("the other host was asked %d times", n)
	}
}

// noArtifact: what is refused is not offered either.
func noArtifact(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	if got, ok, _ := unstructured.NestedMap(o.Object, "status", "artifact"); ok {
		t.Errorf("it has the artifact %v", got)
	}
}

// endless writes text until the client goes.
func endless(w io.Writer, text string) {
	chunk := []byte(strings.Repeat(text, 64<<10/len(text)))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// signatures is reliability 021 and 067: without a good signature there is no artifact, and looking for one ends.
func (a *arena) signatures(t *testing.T) {
	good := image(t, must[[]byte](t)(testkit.TarGzip(map[string]string{"app.yaml": "a: 1\n"})))
	key := signtest.NewKey(t, "ecdsa")
	a.secret(t, "cosign", map[string][]byte{"cosign.pub": key.PEM})
	a.secret(t, "empty", map[string][]byte{})
	a.secret(t, "policy", map[string][]byte{"trustpolicy.json": []byte("{}")})
	const (
		manifestType = "application/vnd.oci.image.manifest.v1+json"
		payloadType  = "application/vnd.dev.cosign.simplesigning.v1+json"
	)
	at := func(name, provider, secret string, lie func(http.ResponseWriter, *http.Request) bool, fails ...string) attack {
		at := a.ociAttack(t, name, good, lie, fails...)
		at.spec["verify"] = map[string]any{"provider": provider, "secretRef": map[string]any{"name": secret}}
		at.verdict = unverified
		return at
	}
	signed := func(count int, size int64) func(http.ResponseWriter, *http.Request) bool {
		var m strings.Builder
		fmt.Fprintf(&m, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%064x","size":2},"layers":[`, manifestType, 1)
		for i := range count {
			if i > 0 {
				m.WriteByte(',')
			}
			fmt.Fprintf(&m, `{"mediaType":%q,"digest":"sha256:%064x","size":%d,"annotations":{"dev.cosignproject.cosign/signature":"AAAA"}}`, payloadType, i, size)
		}
		m.WriteString("]}")
		return func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case strings.HasSuffix(r.URL.Path, ".sig"):
				hostile.Text(manifestType, m.String())(w, r)
			case strings.Contains(r.URL.Path, "/blobs/sha256:0000"):
				endless(w, "x")
			default:
				return false
			}
			return true
		}
	}
	referrers := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`)
		for i := range 10_000 {
			fmt.Fprintf(w, `{"mediaType":%q,"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","digest":"sha256:%064x","size":100},`, manifestType, i)
		}
		fmt.Fprintf(w, `{"mediaType":%q,"digest":"sha256:%064x","size":100}]}`, manifestType, 1)
	}
	a.run(t,
		at("none", "cosign", "cosign", nil, "signature"),
		at("registry that fails", "cosign", "cosign", hostile.Replace(http.MethodGet, ".sig", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
		}), "verif"),
		at("ten thousand", "cosign", "cosign", signed(10_000, 200), "verif"),
		at("payload of a gigabyte", "cosign", "cosign", signed(1, 1<<30), "verif"),
		at("endless payload", "cosign", "cosign", signed(1, 200), "verif"),
		at("ten thousand referrers", "cosign", "cosign", hostile.Replace(http.MethodGet, "/referrers/", referrers), "verif"),
		at("ten thousand referrers, notation", "notation", "policy", hostile.Replace(http.MethodGet, "/referrers/", referrers), "polic"),
		at("no Secret", "cosign", "nowhere", nil, "nowhere"),
		at("no key", "cosign", "empty", nil, "empty"),
	)
}

// unverified: what has no good signature is said to have none, and is not offered.
func unverified(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	noArtifact(t, o)
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range list {
		if c, ok := c.(map[string]any); ok && c["type"] == sourcev1.SourceVerifiedCondition && c["status"] == "False" {
			return
		}
	}
	t.Errorf("SourceVerified is not False: %v", list)
}
