package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/cli"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// TestRoleSplit is reliability 042: in an installation of one Deployment per component each has the rights that its work takes,
// and the one that talks to strangers writes its own kinds, events and leases only.
func TestRoleSplit(t *testing.T) {
	t.Parallel()
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	namespace := testkit.Namespace(t, config)
	installRoles(t, must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(config)), namespace)
	c := must[client.Client](t)(client.New(config, client.Options{}))
	grant(t, c, namespace)

	dir := t.TempDir()
	git := must[*testkit.GitServer](t)(testkit.NewGitServer(filepath.Join(dir, "git"), nil))
	t.Cleanup(git.Close)
	must[string](t)(must[*testkit.GitRepo](t)(git.Repo("app")).Commit(testkit.GitCommit{Branch: "main", Files: map[string]*testkit.GitFile{
		"app/a.yaml":               {Content: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\n"},
		"chart/Chart.yaml":         {Content: "apiVersion: v2\nname: chart\nversion: 1.0.0\n"},
		"chart/templates/all.yaml": {Content: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: released}\n"},
	}}))
	proxies := map[string]*apiproxy.Proxy{}
	for _, component := range []string{"source-controller", "kustomize-controller", "helm-controller"} {
		proxies[component] = startAs(t, config, component, namespace, filepath.Join(dir, component))
	}

	source := object(sourcev1.GroupVersion.String(), sourcev1.GitRepositoryKind, namespace, "app", map[string]any{"spec": map[string]any{
		"url": git.URL + "/app.git", "interval": "1m", "ref": map[string]any{"branch": "main"},
	}})
	app := object(kustomizev1.GroupVersion.String(), kustomizev1.KustomizationKind, namespace, "app", map[string]any{"spec": map[string]any{
		"interval": "1m", "path": "./app", "prune": true, "wait": true, "targetNamespace": namespace, "sourceRef": map[string]any{"kind": sourcev1.GitRepositoryKind, "name": "app"},
	}})
	release := object(helmv2.GroupVersion.String(), helmv2.HelmReleaseKind, namespace, "release", map[string]any{"spec": map[string]any{
		"interval": "1m", "chart": map[string]any{
			"metadata": map[string]any{"labels": map[string]any{shard: namespace}},
			"spec":     map[string]any{"chart": "./chart", "sourceRef": map[string]any{"kind": sourcev1.GitRepositoryKind, "name": "app"}},
		},
	}})
	made, released := object("v1", "ConfigMap", namespace, "made", nil), object("v1", "ConfigMap", namespace, "released", nil)
	for _, o := range []*unstructured.Unstructured{source, app, release} {
		o.SetLabels(map[string]string{shard: namespace})
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, o *unstructured.Unstructured, so func(error) bool) {
		t.Helper()
		if err := poll(t.Context(), patience, func() bool { return so(c.Get(t.Context(), client.ObjectKeyFromObject(o), o)) }); err != nil {
			t.Fatalf("%s: %v", what, o.Object["status"])
		}
	}
	for _, o := range []struct{ owner, object *unstructured.Unstructured }{{app, made}, {release, released}} {
		until("not ready: "+o.owner.GetKind(), o.owner, func(err error) bool { return err == nil && ready(o.owner)["status"] == "True" })
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o.object), o.object); err != nil {
			t.Error(err)
		}
		if err := c.Delete(t.Context(), o.owner); err != nil {
			t.Fatal(err)
		}
		until("the object is not deleted with its "+o.owner.GetKind(), o.object, apierrors.IsNotFound)
	}
	if err := c.Delete(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	until("the source is not gone", source, apierrors.IsNotFound)

	for component, proxy := range proxies {
		for _, q := range proxy.Requests(0) {
			if q.Code == http.StatusForbidden {
				t.Errorf("%s may not %s %s/%s %s", component, q.Verb, q.Group, q.Resource, q.Subresource)
			}
			writes := slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, q.Method)
			own := strings.HasSuffix(q.Group, ".toolkit.fluxcd.io") || q.Resource == "events" || q.Resource == "leases"
			if component == "source-controller" && writes && !own {
				t.Errorf("%s wrote: %s %s/%s %s", component, q.Verb, q.Group, q.Resource, q.Name)
			}
		}
	}
}

// grant binds the roles of a split installation to its service accounts.
func grant(t *testing.T, c client.Client, namespace string) {
	t.Helper()
	objects, err := manifests.Render(manifests.Options{
		Namespace: namespace, Version: "v2.9.0", Registry: manifests.DefaultRegistry, Profile: manifests.Split, Components: cli.Components(), ClusterDomain: "cluster.local", LogLevel: "info",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if !slices.Contains([]string{"ClusterRoleBinding", "Role", "RoleBinding", "ServiceAccount"}, o.GetKind()) {
			continue
		}
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if o.GetNamespace() == "" {
			t.Cleanup(func() {
				if err := c.Delete(context.Background(), o); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// startAs starts a component with the identity that its Deployment would have, and returns what sees its requests.
func startAs(t *testing.T, config *rest.Config, component, namespace, dir string) *apiproxy.Proxy {
	t.Helper()
	proxy := must[*apiproxy.Proxy](t)(apiproxy.New(config, apiproxy.Options{}))
	t.Cleanup(proxy.Close)
	path := dir + ".kubeconfig"
	if err := proxy.WriteKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	file, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range file.AuthInfos {
		user.Impersonate = "system:serviceaccount:" + namespace + ":" + component
		user.ImpersonateGroups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}
	}
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	sut := must[*testkit.SUT](t)(testkit.StartSUT(t.Context(), testkit.SUTOptions{
		Components: []string{component}, Kubeconfig: path, Dir: dir, Env: []string{"RUNTIME_NAMESPACE=" + namespace},
		Flags: []string{"--watch-label-selector=" + shard + "=" + namespace, "--requeue-dependency=1s"},
	}))
	t.Cleanup(func() {
		if err := sut.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", component, sut.LogTail())
		}
	})
	return proxy
}
