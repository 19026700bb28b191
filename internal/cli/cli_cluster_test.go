package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/ops"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// TestManifestsAreAccepted has a real API server judge what install would apply, in both profiles (cli 48).
func TestManifestsAreAccepted(t *testing.T) {
	config := testkit.Cluster(t)
	namespace := testkit.Namespace(t, config)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, profile := range []manifests.Profile{manifests.Single, manifests.Split} {
		objects, err := manifests.Render(manifests.Options{
			Namespace: namespace, Version: "v2.9.0", Registry: manifests.DefaultRegistry, Profile: profile, Components: Components(),
			ClusterDomain: "cluster.local", LogLevel: "info", NetworkPolicy: true, WatchAllNamespaces: true,
			ImagePullSecret: "pull", TolerationKeys: []string{"spot"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range objects {
			gvr, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
			body, err := obj.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Resource(gvr).Namespace(obj.GetNamespace()).Patch(t.Context(), obj.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{
				FieldManager: "flux-test", Force: ptr.To(true), DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
			})
			if err != nil {
				t.Errorf("%s: %s %s: %v", profile, obj.GetKind(), obj.GetName(), err)
			}
		}
	}
}

// TestStory types the commands of a first hour against real controllers.
func TestStory(t *testing.T) {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	namespace := testkit.Namespace(t, config)
	kubeconfig := testkit.Kubeconfig(t)
	git, err := testkit.NewGitServer(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer git.Close()
	repo, err := git.Repo("app")
	if err != nil {
		t.Fatal(err)
	}
	commit := func(message, data string) {
		t.Helper()
		_, err := repo.Commit(testkit.GitCommit{Branch: "main", Message: message, Files: map[string]*testkit.GitFile{
			"deploy/settings.yaml": {Content: "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\n  namespace: " + namespace + "\n" + data},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	commit("Begin", "data: {a: one}\n")
	// Controllers that look at this namespace alone leave other tests of the cluster in peace.
	sut, err := testkit.StartSUT(t.Context(), testkit.SUTOptions{
		Kubeconfig: kubeconfig, Dir: t.TempDir(), Flags: []string{"--watch-all-namespaces=false"}, Env: []string{"RUNTIME_NAMESPACE=" + namespace},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sut.Stop(); err != nil {
			t.Error(err)
		}
	}()
	t.Setenv("HOME", t.TempDir())
	flux := func(line string) (stdout, stderr string, code int) {
		t.Helper()
		var out, errs bytes.Buffer
		c := Config{
			Program: "flux", Version: "v2.9.0", Kinds: Kinds(), Components: Components(), Clock: clock.RealClock{},
			Streams: Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, Getenv: func(string) string { return "" },
		}
		args := append(split(line), "--kubeconfig", kubeconfig, "--namespace", namespace, "--timeout", "1m")
		code = run(t.Context(), c, args)
		t.Logf("$ flux %s\n%s%s[exit %d]", line, &out, &errs, code)
		return out.String(), errs.String(), code
	}
	ok := func(line string, parts ...string) {
		t.Helper()
		stdout, stderr, code := flux(line)
		if code != 0 {
			t.Fatalf("flux %s: exit code %d: %s", line, code, stderr)
		}
		for _, part := range parts {
			if !strings.Contains(stdout+stderr, part) {
				t.Errorf("flux %s: output lacks %q:\n%s%s", line, part, stdout, stderr)
			}
		}
	}
	ok("create source git app --url "+git.URL+"/app.git --branch main --interval 10m", "✔ GitRepository source created", "✔ fetched revision main@sha1:")
	ok("create kustomization app --source app --path ./deploy --prune --interval 10m", "✔ Kustomization app is ready", "✔ applied revision main@sha1:")
	ok("get all", "gitrepository/app", "kustomization/app", "Applied revision: main@sha1:")
	ok("get kustomizations app --show-source", "GitRepository/"+namespace+"/app")
	ok("tree kustomization app", "└── ConfigMap/"+namespace+"/settings")
	ok("trace configmap settings", "Managed by Flux", "Kustomization: app", "GitRepository: app", "Branch:        main")
	ok("events --for Kustomization/app", "ReconciliationSucceeded", "GitRepository/app")

	commit("Change", "data: {a: two}\n")
	ok("reconcile kustomization app --with-source", "✔ fetched revision main@sha1:", "✔ applied revision main@sha1:")

	commit("Break", "data: [not, a, map]\n")
	if _, stderr, code := flux("reconcile kustomization app --with-source"); code != 1 || !strings.Contains(stderr, "✗ Kustomization reconciliation failed: ") {
		t.Errorf("a broken manifest ends with %d: %s", code, stderr)
	}
	ok("get kustomizations --status-selector ready=false", "app")

	ok("suspend kustomization app", "✔ kustomization suspended")
	if _, stderr, code := flux("reconcile kustomization app"); code != 1 || !strings.Contains(stderr, "resource is suspended") {
		t.Errorf("a suspended object is reconciled: %d, %s", code, stderr)
	}
	commit("Mend", "data: {a: three}\n")
	ok("reconcile source git app", "✔ fetched revision main@sha1:")
	ok("resume kustomization app", "✔ Kustomization app reconciliation completed", "✔ applied revision main@sha1:")
	ok("stats", "Kustomization", "GitRepository")

	exported, _, _ := flux("export kustomization app")
	path := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(path, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(exported, "path: ./deploy") || strings.Contains(exported, "status:") {
		t.Errorf("export prints:\n%s", exported)
	}
	ok("delete kustomization app --silent", "✔ kustomization deleted")
	ok("delete source git app --silent", "✔ source git deleted")
	// The controllers must outlive the finalizers, or the namespace stays for ever.
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	client := &ops.Client{Dynamic: objects, Clock: clock.RealClock{}}
	for _, k := range []string{"Kustomization", "GitRepository"} {
		described, _ := Kinds().Named(k)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := client.Until(ctx, described, namespace, "app", func(kind.Object) (bool, error) { return false, nil })
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s app is not deleted: %v", k, err)
		}
	}
}
