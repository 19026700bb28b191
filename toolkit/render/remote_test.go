package render

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// host is a server that counts what is asked of it.
type host struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
}

func newHost(t *testing.T, files map[string]string) *host {
	h := &host{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, r.URL.Path)
		h.mu.Unlock()
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		content, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, content)
	}))
	t.Cleanup(h.Close)
	return h
}

// remoteUses are the ways a kustomization can name another host. URL is replaced; the host serves every file a way
// needs.
var remoteUses = map[string]map[string]string{
	"resource":             {"kustomization.yaml": "resources: [URL/cm.yaml]\n"},
	"base of a base":       {"kustomization.yaml": "resources: [b]\n", "b/kustomization.yaml": "bases: [URL/cm.yaml]\n"},
	"patch":                {"kustomization.yaml": "resources: [a.yaml]\npatches: [{path: URL/patch.yaml}]\n"},
	"json patch":           {"kustomization.yaml": "resources: [a.yaml]\npatchesJson6902: [{path: URL/json.yaml, target: {version: v1, kind: ConfigMap, name: a}}]\n"},
	"strategic patch":      {"kustomization.yaml": "resources: [a.yaml]\npatchesStrategicMerge: [URL/patch.yaml]\n"},
	"crd":                  {"kustomization.yaml": "resources: [a.yaml]\ncrds: [URL/crd.json]\n"},
	"openapi":              {"kustomization.yaml": "resources: [a.yaml]\nopenapi: {path: URL/crd.json}\n"},
	"configuration":        {"kustomization.yaml": "resources: [a.yaml]\nconfigurations: [URL/config.yaml]\n"},
	"replacement":          {"kustomization.yaml": "resources: [a.yaml]\nreplacements: [{path: URL/replacement.yaml}]\n"},
	"config file":          {"kustomization.yaml": "configMapGenerator: [{name: a, files: [URL/text.txt, 'k=URL/text.txt']}]\n"},
	"secret env":           {"kustomization.yaml": "secretGenerator: [{name: a, envs: [URL/env]}]\n"},
	"transformer":          {"kustomization.yaml": "resources: [a.yaml]\ntransformers: [URL/transformer.yaml]\n"},
	"inline transformer":   {"kustomization.yaml": "resources: [a.yaml]\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: p}\n  Path: URL/patch.yaml\n"},
	"transformer file":     {"kustomization.yaml": "resources: [a.yaml]\ntransformers: [t.yaml]\n", "t.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\npath: URL/patch.yaml\n"},
	"generator file":       {"kustomization.yaml": "generators: [g.yaml]\n", "g.yaml": "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: g}\nname: a\nfiles: [k=URL/text.txt]\n"},
	"composed transformer": {"kustomization.yaml": "resources: [a.yaml]\ntransformers: [t]\n", "t/kustomization.yaml": "resources: [p.yaml]\npatches: [{patch: '[{\"op\": \"add\", \"path\": \"/path\", \"value\": \"URL/patch.yaml\"}]', target: {kind: PatchTransformer}}]\n", "t/p.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata:\n  name: p\n  annotations: {config.kubernetes.io/local-config: 'true'}\n"},
}

func hostFiles() map[string]string {
	return map[string]string{
		"/cm.yaml": configMap("remote"), "/text.txt": "text", "/env": "a=b\n", "/config.yaml": "namePrefix: []\n", "/crd.json": `{"definitions": {}}`,
		"/patch.yaml":       "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {patched: remotely}}\n",
		"/json.yaml":        "- {op: add, path: /metadata/labels, value: {patched: remotely}}\n",
		"/replacement.yaml": "source: {kind: ConfigMap, name: a, fieldPath: metadata.name}\ntargets:\n- select: {kind: ConfigMap}\n  fieldPaths: [data.name]\n  options: {create: true}\n",
		"/transformer.yaml": "apiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: l}\nlabels: {patched: remotely}\nfieldSpecs: [{path: metadata/labels, create: true}]\n",
	}
}

func treeWith(t *testing.T, files map[string]string, url string) string {
	all := map[string]string{"a.yaml": configMap("a")}
	for name, content := range files {
		all[name] = strings.ReplaceAll(content, "URL", url)
	}
	return writeTree(t, all)
}

// reliability 018, kustomization 35: refused means refused before any connection.
func TestRemoteRefused(t *testing.T) {
	uses := map[string]map[string]string{
		"metadata address": {"kustomization.yaml": "resources: ['http://169.254.169.254/latest']\n"},
		"git over ssh":     {"kustomization.yaml": "resources: ['git::ssh://git@URL/x/y']\n"},
		"github":           {"kustomization.yaml": "resources: ['github.com/x/y']\n"},
		"scp":              {"kustomization.yaml": "components: ['git@github.com:x/y.git']\n"},
		"git transformers": {"kustomization.yaml": "transformers: ['https://URL/x/y.git']\n"},
		"credentials":      {"kustomization.yaml": "resources: ['https://user:hunter2@example.com/x/y']\n"},
	}
	for name, files := range remoteUses {
		uses[name] = files
	}
	for name, files := range uses {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, hostFiles())
			_, err := buildDir(t, treeWith(t, files, h.URL), Spec{}, Options{NoRemoteBases: true, Git: fetcherFunc(func(Repository) (string, error) {
				t.Error("asked for a repository")
				return "", errors.New("no")
			})})
			if err == nil || !strings.Contains(err.Error(), "kustomize build failed: ") || !strings.Contains(err.Error(), errRefused.Error()) {
				t.Errorf("error %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a password: %v", err)
			}
			if len(h.requests) > 0 {
				t.Errorf("requests were made: %v", h.requests)
			}
		})
	}
}

func TestRemoteAllowed(t *testing.T) {
	for name, files := range remoteUses {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, hostFiles())
			res, err := buildDir(t, treeWith(t, files, h.URL), Spec{}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Objects) != 1 || !res.Remote || len(h.requests) != 1 {
				t.Fatalf("%d objects, remote %v, requests %v", len(res.Objects), res.Remote, h.requests)
			}
			y := yamlOf(t, res)
			switch {
			case strings.Contains(name, "patch"), strings.Contains(name, "transformer"):
				if !strings.Contains(y, "patched: remotely") {
					t.Errorf("not patched:\n%s", y)
				}
			case name == "config file":
				if !strings.Contains(y, "k: text") || !strings.Contains(y, "text.txt: text") {
					t.Errorf("keys of the files:\n%s", y)
				}
			case name == "replacement":
				if !strings.Contains(y, "name: a") {
					t.Errorf("not replaced:\n%s", y)
				}
			}
		})
	}
}

func TestRemoteFailures(t *testing.T) {
	big := hostFiles()
	big["/cm.yaml"] = strings.Repeat("#", 2000)
	big["/self.yaml"] = "a: &a [*a]\n"
	h := newHost(t, big)
	for _, c := range []struct {
		name, entry string
		limits      Limits
		want        string
	}{
		{"not found", "URL/none.yaml", Limits{}, "fetch URL/none.yaml: HTTP Error: status code 404 (Not Found)"},
		{"too large", "URL/cm.yaml", Limits{FileBytes: 1000}, "fetch URL/cm.yaml: the file has more than 1000 bytes"},
		{"too slow", "URL/slow", Limits{RemoteTimeout: 50 * time.Millisecond}, "fetch URL/slow: context deadline exceeded"},
		{"bomb", "URL/self.yaml", Limits{}, "read URL/self.yaml: a YAML alias stands inside"},
		{"git without fetcher", "https://127.0.0.1:1/x/y.git//z?ref=v1", Limits{}, "bases in Git repositories are not supported"},
		{"git on disk", "file:///srv/repo", Limits{}, "cannot be a repository on the disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := buildDir(t, treeWith(t, map[string]string{"kustomization.yaml": "resources: ['" + c.entry + "']\n"}, h.URL), Spec{}, Options{Limits: c.limits})
			if want := strings.ReplaceAll(c.want, "URL", h.URL); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
	t.Run("too many", func(t *testing.T) {
		var entries strings.Builder
		for i := range 5 {
			fmt.Fprintf(&entries, "- URL/env?%d\n", i)
		}
		_, err := buildDir(t, treeWith(t, map[string]string{"kustomization.yaml": "configMapGenerator:\n- name: a\n  envs:\n" + strings.ReplaceAll(entries.String(), "- ", "  - ")}, h.URL), Spec{}, Options{Limits: Limits{Remotes: 3}})
		if err == nil || !strings.Contains(err.Error(), "more than 3 remote files") {
			t.Errorf("error %v", err)
		}
	})
}

type fetcherFunc func(Repository) (string, error)

func (f fetcherFunc) Fetch(_ context.Context, r Repository) (string, func(), error) {
	dir, err := f(r)
	return dir, func() {}, err
}

func TestRemoteRepository(t *testing.T) {
	repo := writeTree(t, map[string]string{"deploy/kustomization.yaml": "resources: [../base, c.yaml]\n", "deploy/c.yaml": configMap("c"), "base/kustomization.yaml": "resources: [b.yaml]\n", "base/b.yaml": configMap("b")})
	h := newHost(t, nil)
	var asked []Repository
	_, err := buildDir(t, treeWith(t, map[string]string{"kustomization.yaml": "namePrefix: x-\nresources: ['URL/org/repo//deploy?ref=v1&submodules=0', 'git@example.com:org/repo.git/base']\n"}, h.URL),
		Spec{}, Options{Git: fetcherFunc(func(r Repository) (string, error) {
			asked = append(asked, r)
			return repo, nil
		})})
	if err == nil || !strings.Contains(err.Error(), "may not add resource with an already registered id: ConfigMap.v1.[noGrp]/b.[noNs]") {
		t.Fatalf("error %v, want that of the same object twice", err)
	}
	if strings.Contains(err.Error(), ".flux-remote/") && !strings.Contains(err.Error(), "git@example.com:org/repo.git/base") {
		t.Errorf("the error does not name the base: %v", err)
	}
	want := []Repository{{URL: h.URL + "/org/repo", Ref: "v1", Path: "deploy"}, {URL: "git@example.com:org/repo.git", Path: "base", Submodules: true}}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
	res, err := buildDir(t, treeWith(t, map[string]string{"kustomization.yaml": "namePrefix: x-\nresources: ['github.com/org/repo/deploy?version=v2']\n"}, ""),
		Spec{}, Options{Git: fetcherFunc(func(r Repository) (string, error) { return repo, nil })})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ConfigMap//x-b", "ConfigMap//x-c"}, ids(res)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

// recordingDecrypter decrypts what starts with "ENC " and remembers what it was asked for.
type recordingDecrypter struct {
	uses []FileUse
	err  error
}

func (d *recordingDecrypter) File(_ context.Context, use FileUse, content []byte) ([]byte, error) {
	d.uses = append(d.uses, use)
	if d.err != nil {
		return nil, d.err
	}
	return []byte(strings.TrimPrefix(string(content), "ENC ")), nil
}

func (d *recordingDecrypter) Object(_ context.Context, obj *unstructured.Unstructured) (bool, error) {
	v, found, _ := unstructured.NestedString(obj.Object, "data", "enc")
	if !found {
		return false, nil
	}
	return true, unstructured.SetNestedField(obj.Object, strings.TrimPrefix(v, "ENC "), "data", "enc")
}

// kustomization 45, 47, 51: files before the build, objects after it, substitution last.
func TestDecrypt(t *testing.T) {
	tree := writeTree(t, map[string]string{
		"deploy/kustomization.yaml": "resources: [../base, cm.yaml]\nsecretGenerator:\n- name: s\n  files: [a.txt, key=b.txt]\n  envs: [env]\nconfigMapGenerator:\n- name: plain\n  files: [c.txt]\n",
		"deploy/a.txt":              "ENC a", "deploy/b.txt": "ENC b", "deploy/c.txt": "ENC c", "deploy/env": "ENC x=y\n",
		"deploy/cm.yaml":          "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {enc: 'ENC ${var}'}\n",
		"base/kustomization.yaml": "resources: [b.yaml]\npatches: [{path: p.yaml}]\n", "base/b.yaml": configMap("b"),
		"base/p.yaml": "ENC {apiVersion: v1, kind: ConfigMap, metadata: {name: b, labels: {secret: label}}}",
	})
	vars := &Substitution{Load: func(context.Context) (map[string]string, error) { return map[string]string{"var": "value"}, nil }}
	d := &recordingDecrypter{}
	res, err := buildDir(t, tree, Spec{Path: "deploy"}, Options{Decrypt: d, Variables: vars})
	if err != nil {
		t.Fatal(err)
	}
	wantUses := []FileUse{{Path: "deploy/a.txt", Key: "a.txt"}, {Path: "deploy/b.txt", Key: "key"}, {Path: "deploy/env", Key: "env", Env: true}, {Path: "base/p.yaml"}}
	if diff := cmp.Diff(wantUses, d.uses); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	y := yamlOf(t, res)
	for _, want := range []string{"secret: label", "enc: value", "a.txt: YQ==", "key: Yg==", "x: eQ==", "c.txt: ENC c"} {
		if !strings.Contains(y, want) {
			t.Errorf("no %q in:\n%s", want, y)
		}
	}
	_, err = buildDir(t, tree, Spec{Path: "deploy"}, Options{Decrypt: &recordingDecrypter{err: errors.New("no key")}})
	if err == nil || err.Error() != "no key" {
		t.Errorf("error %v, want the text of the decrypter alone", err)
	}
}
