package manifests

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the recorded manifests")
	flag.Parse()
	os.Exit(m.Run())
}

func own(group string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}}
}

func source() Component {
	const group = "source.toolkit.fluxcd.io"
	return Component{
		Name: "source-controller", Group: group, CRDs: []string{"buckets." + group, "gitrepositories." + group},
		Rules: []rbacv1.PolicyRule{own(group)}, Artifacts: true, Critical: true, GraceSeconds: 10, CPURequest: "50m",
	}
}

func kustomize() Component {
	const group = "kustomize.toolkit.fluxcd.io"
	return Component{
		Name: "kustomize-controller", Group: group, CRDs: []string{"kustomizations." + group},
		Rules: []rbacv1.PolicyRule{own(group)}, Applies: true, Critical: true, GraceSeconds: 60, CPURequest: "100m",
	}
}

func helm() Component {
	const group = "helm.toolkit.fluxcd.io"
	return Component{
		Name: "helm-controller", Group: group, CRDs: []string{"helmreleases." + group},
		Rules: []rbacv1.PolicyRule{own(group)}, Applies: true, Critical: true, GraceSeconds: 600, CPURequest: "100m",
	}
}

// notification stands for a component this build does not have, so that its Services and flags are rendered too.
func notification() Component {
	return Component{
		Name: "notification-controller", Group: "notification.toolkit.fluxcd.io",
		Rules:  []rbacv1.PolicyRule{own("notification.toolkit.fluxcd.io")},
		Events: true, GraceSeconds: 10, CPURequest: "100m",
	}
}

func options(p Profile) Options {
	return Options{
		Namespace: "flux-system", Version: "v2.9.0", Registry: DefaultRegistry, Profile: p, Components: []Component{source(), kustomize(), helm()},
		ClusterDomain: "cluster.local", LogLevel: "info", NetworkPolicy: true, WatchAllNamespaces: true,
	}
}

// A component that writes to /data finds it writable, in a Deployment of its own as well as in that of all.
func TestDataVolume(t *testing.T) {
	for _, profile := range []Profile{Single, Split} {
		for name, with := range map[string]bool{"with": true, "without": false} {
			o := options(profile)
			o.Components = []Component{kustomize(), {Name: "image-reflector-controller", Data: with}}
			objects, err := Render(o)
			if err != nil {
				t.Fatal(err)
			}
			mounted := 0
			for _, u := range objects {
				text := fmt.Sprint(u.Object["spec"])
				if u.GetKind() == "Deployment" && strings.Contains(text, "mountPath:/data") && strings.Contains(text, "name:data") {
					mounted++
				}
			}
			if want := map[bool]int{true: 1}[with]; mounted != want {
				t.Errorf("%s, %s: %d Deployments have the volume, want %d", profile, name, mounted, want)
			}
		}
	}
}

// TestRender compares whole manifests, CRDs aside, with recorded ones (wire 3, 11, 19; cli 54).
func TestRender(t *testing.T) {
	everything := options(Split)
	everything.Namespace, everything.Registry, everything.Version = "gitops", "registry.example.com/mirror/", "v2.9.1-0.20260102+dirty"
	everything.Components = []Component{source(), kustomize(), helm(), notification(), {
		Name: "source-watcher", Artifacts: true, Gates: map[string]string{"kustomize-controller": "ExternalArtifact", "helm-controller": "ExternalArtifact"},
	}}
	everything.ImagePullSecret, everything.TolerationKeys = "pull", []string{"dedicated", "spot"}
	everything.ClusterDomain, everything.LogLevel, everything.WatchAllNamespaces = "example.org.", "debug", false
	single := options(Single)
	single.Components = append(single.Components, notification())
	plain := options(Split)
	plain.NetworkPolicy = false
	for name, o := range map[string]Options{"single": options(Single), "single-events": single, "split": plain, "split-everything": everything} {
		t.Run(name, func(t *testing.T) {
			objects, err := Render(o)
			if err != nil {
				t.Fatal(err)
			}
			objects = slices.DeleteFunc(objects, func(u *unstructured.Unstructured) bool { return u.GetKind() == "CustomResourceDefinition" })
			got, err := YAML(o, objects)
			if err != nil {
				t.Fatal(err)
			}
			path := "testdata/" + name + ".yaml"
			if flag.Lookup("update").Value.String() == "true" {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s: run the tests with -update to accept (-want +got):\n%s", path, diff)
			}
		})
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	o := options(Single)
	render := func() []byte {
		objects, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		text, err := YAML(o, objects)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := render()
	for range 5 {
		if !bytes.Equal(first, render()) {
			t.Fatal("equal options render different manifests")
		}
	}
}

// TestDefinitions proves that every object, CRDs included, can be found by its labels again: uninstall and check
// know an installation by them (cli 59, 61).
func TestDefinitions(t *testing.T) {
	o := options(Single)
	objects, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	var crds []string
	for _, obj := range objects {
		for k, want := range map[string]string{"app.kubernetes.io/part-of": "flux", "app.kubernetes.io/instance": "flux-system", "app.kubernetes.io/version": "v2.9.0"} {
			if got := obj.GetLabels()[k]; got != want {
				t.Errorf("%s %s has label %s=%q, want %q", obj.GetKind(), obj.GetName(), k, got, want)
			}
		}
		if obj.GetKind() == "CustomResourceDefinition" {
			crds = append(crds, obj.GetName())
			if obj.GetAnnotations()["kustomize.toolkit.fluxcd.io/substitute"] != "disabled" { // kustomization 59
				t.Errorf("variables would be substituted in CRD %s", obj.GetName())
			}
		}
	}
	if want := slices.Concat(source().CRDs, kustomize().CRDs, helm().CRDs); !cmp.Equal(want, crds) {
		t.Errorf("CRDs %v, want %v", crds, want)
	}
	first, rest := Stages(objects)
	if len(first) != len(crds)+1 || len(rest) != len(objects)-len(first) {
		t.Errorf("%d objects come first, want the namespace and %d CRDs", len(first), len(crds))
	}
}

func TestRenderRefuses(t *testing.T) {
	none, unknown, lacking := options(Single), options("triple"), options(Single)
	none.Components = nil
	lacking.Components = []Component{{Name: "x", CRDs: []string{"things.example.com"}}}
	for name, o := range map[string]Options{"no components": none, "unknown profile": unknown, "CRD that is not embedded": lacking} {
		if _, err := Render(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
