package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/internal/preview"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// cli 2, 43, 44, reliability 055: a real API server finds no difference in what was applied, and what somebody changed; the values of
// a Secret are not shown.
func TestDiffOfApplied(t *testing.T) {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	namespace := testkit.Namespace(t, config)
	kubeconfig := testkit.Kubeconfig(t)
	dir := t.TempDir()
	manifests := func(password string) {
		t.Helper()
		for name, text := range map[string]string{
			"app.yaml": "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: app}\nspec: {path: ./app, prune: true, targetNamespace: " + namespace + "}\n",
			"app/web.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: web}}\n" +
				"  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: web, ports: [{containerPort: 80}]}]}\n",
			"app/creds.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: creds}\nstringData: {password: " + password + "}\n",
		} {
			if err := os.MkdirAll(filepath.Join(dir, "app"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	diff := func(code int, parts ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		c := Config{
			Program: "flux", Version: "v2.9.0", Kinds: Kinds(), Clock: clock.RealClock{}, Getenv: func(string) string { return "" },
			Streams: Streams{In: strings.NewReader(""), Out: &out, Err: &errs},
		}
		got := run(t.Context(), c, []string{
			"diff", "kustomization", "app", "--path", filepath.Join(dir, "app"), "--kustomization-file", filepath.Join(dir, "app.yaml"),
			"--ignore-not-found", "--kubeconfig", kubeconfig, "--namespace", namespace,
		})
		if got != code {
			t.Fatalf("it exits with %d, want %d: %s%s", got, code, &out, &errs)
		}
		for _, part := range parts {
			if !strings.Contains(out.String(), part) {
				t.Errorf("it lacks %q: %s", part, &out)
			}
		}
		return out.String() + errs.String()
	}
	manifests("0ld-passw0rd")
	diff(1, "► Secret/"+namespace+"/creds created", "► Deployment/"+namespace+"/web created")

	clients, err := kube.NewClients(kube.ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	o := previewOptions{Factory: &Factory{namespace: namespace}, path: filepath.Join(dir, "app"), file: filepath.Join(dir, "app.yaml")}
	obj, err := o.described("app")
	if err != nil {
		t.Fatal(err)
	}
	built, err := preview.Build(t.Context(), obj, preview.Options{Path: o.path})
	if err != nil {
		t.Fatal(err)
	}
	set, err := ssa.Normalise(built.Sets[0].Objects)
	if err != nil {
		t.Fatal(err)
	}
	applier := &ssa.Applier{Client: clients.Own(), Lens: kube.NewLens(kustomize.Ownership(nil))}
	if _, err := applier.Apply(t.Context(), ssa.Request{Owner: kube.Owner{Namespace: namespace, Name: "app"}, Objects: set}); err != nil {
		t.Fatal(err)
	}
	if said := diff(0); said != "" {
		t.Errorf("what was applied differs: %s", said)
	}
	manifests("n3w-passw0rd")
	said := diff(1, "► Secret/"+namespace+"/creds drifted", "data.password", "*** (before)", "*** (after)")
	if strings.Contains(said, "passw0rd") || strings.Contains(said, "cGFzc3cwcmQ") || strings.Contains(said, "web") {
		t.Errorf("it says %s", said)
	}
}
