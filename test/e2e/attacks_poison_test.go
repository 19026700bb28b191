package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// TestPoisonedStore is reliability 016: objects from a time when the API server took everything for a duration. The
// control plane is one of its own: the definitions it changes are everybody's.
func TestPoisonedStore(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a control plane, and -short asks for tests without one")
	}
	dir := t.TempDir()
	plane := must[*testkit.ControlPlane](t)(testkit.StartControlPlane(t.Context(), filepath.Join(dir, "cluster")))
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := testkit.ApplyCRDs(t.Context(), plane.Config); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := must[client.Client](t)(client.New(plane.Config, client.Options{Scheme: scheme}))
	server := must[*testkit.GitServer](t)(testkit.NewGitServer(filepath.Join(dir, "git"), nil))
	t.Cleanup(server.Close)
	repo := must[*testkit.GitRepo](t)(server.Repo("app"))
	must[string](t)(repo.Commit(testkit.GitCommit{Branch: "main", Files: map[string]*testkit.GitFile{"a": {Content: "a"}}}))

	sources := map[string]map[string]any{
		sourcev1.GitRepositoryKind: {"url": server.URL + "/app.git", "ref": map[string]any{"branch": "main"}},
		sourcev1.OCIRepositoryKind: {"url": "oci://127.0.0.1:1/app", "insecure": true},
		sourcev1.BucketKind:        {"bucketName": "app", "endpoint": "127.0.0.1:1", "insecure": true},

		sourcev1.HelmRepositoryKind: {"url": "http://127.0.0.1:1"},
		sourcev1.HelmChartKind:      {"chart": "app", "sourceRef": map[string]any{"kind": sourcev1.HelmRepositoryKind, "name": "none"}},
	}
	loosen(t, c, "gitrepositories", "ocirepositories", "buckets", "helmrepositories", "helmcharts")
	put := func(kind, name string, durations map[string]any) *unstructured.Unstructured {
		t.Helper()
		spec := maps.Clone(sources[kind])
		maps.Copy(spec, durations)
		o := object(sourcev1.GroupVersion.String(), kind, "default", name, map[string]any{"spec": spec})
		if err := poll(t.Context(), patience, func() bool { return c.Create(t.Context(), o) == nil }); err != nil {
			t.Fatalf("creating %s: %v", name, c.Create(t.Context(), o))
		}
		return o
	}
	healthy := put(sourcev1.GitRepositoryKind, "healthy", map[string]any{"interval": "1s"})
	for _, kind := range slices.Sorted(maps.Keys(sources)) {
		for i, poison := range []any{"1d", "-5s", "1e99h", int64(10), "", true, map[string]any{"a": "b"}} {
			put(kind, fmt.Sprintf("interval-%d", i), map[string]any{"interval": poison})
		}
		put(kind, "timeout", map[string]any{"interval": "1s", "timeout": "99999h"})
		put(kind, "both", map[string]any{"interval": "1d", "timeout": "1d"})
	}
	if err := testkit.ApplyCRDs(t.Context(), plane.Config); err != nil {
		t.Fatal(err)
	}

	sut := must[*testkit.SUT](t)(testkit.StartSUT(t.Context(), testkit.SUTOptions{
		Components: []string{"source-controller"}, Kubeconfig: plane.Kubeconfig, Dir: filepath.Join(dir, "flux"),
	}))
	t.Cleanup(func() {
		if err := sut.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the log of flux:\n%s", sut.LogTail())
		}
	})
	for life := range 2 {
		for commit := range 2 {
			hash := must[string](t)(repo.Commit(testkit.GitCommit{Branch: "main", Files: map[string]*testkit.GitFile{"a": {Content: fmt.Sprint(life, commit)}}}))
			err := poll(t.Context(), pickup, func() bool {
				err := c.Get(t.Context(), client.ObjectKeyFromObject(healthy), healthy)
				revision, _, _ := unstructured.NestedString(healthy.Object, "status", "artifact", "revision")
				return err == nil && strings.HasSuffix(revision, hash)
			})
			if err != nil {
				t.Fatalf("life %d: the healthy source has not got commit %d: %v: %v", life, commit, err, healthy.Object["status"])
			}
		}
		if life == 0 {
			if err := sut.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := sut.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for kind := range sources {
		poisoned := object(sourcev1.GroupVersion.String(), kind, "default", "interval-0", nil)
		err := poll(t.Context(), patience, func() bool {
			return c.Get(t.Context(), client.ObjectKeyFromObject(poisoned), poisoned) == nil && ready(poisoned)["status"] == "False"
		})
		if err != nil || ready(poisoned)["reason"] == meta.ProgressingReason {
			t.Errorf("%s with a poisoned interval: %v: %v", kind, err, poisoned.Object["status"])
		}
	}
}

// loosen takes everything for a duration.
func loosen(t *testing.T, c client.Client, resources ...string) {
	t.Helper()
	for _, resource := range resources {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := c.Get(t.Context(), client.ObjectKey{Name: resource + "." + sourcev1.GroupVersion.Group}, &crd); err != nil {
			t.Fatal(err)
		}
		for _, version := range crd.Spec.Versions {
			properties := version.Schema.OpenAPIV3Schema.Properties["spec"].Properties
			for _, field := range []string{"interval", "timeout"} {
				anything := true
				properties[field] = apiextensionsv1.JSONSchemaProps{XPreserveUnknownFields: &anything}
			}
		}
		crd.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
		crd.ManagedFields, crd.Status = nil, apiextensionsv1.CustomResourceDefinitionStatus{}
		// As the one who applied them: what is applied next takes this back.
		if err := c.Patch(t.Context(), &crd, client.Apply, client.FieldOwner("testkit"), client.ForceOwnership); err != nil {
			t.Fatal(err)
		}
	}
}
