package replay

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// storedRelease is what Helm stores of a release with a hook.
const storedRelease = `{
	"name": "app", "namespace": "apps", "version": 3, "apply_method": "ssa", "config": {"replicas": 2}, "manifest": "---\nkind: A\n",
	"info": {"first_deployed": "2026-01-02T03:04:05Z", "last_deployed": "2026-01-02T03:04:05Z", "status": "deployed", "description": "Install complete"},
	"chart": {"metadata": {"name": "demo", "version": "1.0.0", "appVersion": "1.0", "apiVersion": "v2"}, "templates": [{"name": "a", "data": "YQ=="}]},
	"hooks": [{"name": "job", "kind": "Job", "path": "demo/templates/job.yaml", "manifest": "kind: Job", "events": ["pre-install"], "last_run": {"phase": "Succeeded"}}]
}`

func releaseOf(t *testing.T, text string) map[string]any {
	t.Helper()
	var release map[string]any
	if err := json.Unmarshal([]byte(text), &release); err != nil {
		t.Fatal(err)
	}
	return release
}

func storageSecret(t *testing.T, release map[string]any) *unstructured.Unstructured {
	t.Helper()
	secret := &unstructured.Unstructured{Object: map[string]any{}}
	secret.SetGroupVersionKind(secrets())
	secret.SetName("sh.helm.release.v1.app.v3")
	if err := encodeRelease(secret, release); err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestReleaseRoundTrip(t *testing.T) {
	secret := storageSecret(t, releaseOf(t, storedRelease))
	if !isHelmStorage(secret) {
		t.Error("the Secret is not of Helm's type")
	}
	want := map[string]string{"owner": "helm", "name": "app", "version": "3", "status": "deployed"}
	if d := cmp.Diff(want, secret.GetLabels()); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
	got, err := decodeRelease(secret)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(releaseOf(t, storedRelease), got); d != "" {
		t.Errorf("the release changed (-want +got):\n%s", d)
	}
}

func TestDecodeReleaseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, data string }{
		{"no release", ""}, {"no base64", "%"}, {"no second base64", "JQ=="}, {"no gzip", "YWJjZA=="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			secret := &unstructured.Unstructured{Object: map[string]any{"kind": "Secret"}}
			secret.SetName("sh.helm.release.v1.app.v3")
			if tt.data != "" {
				secret.Object["data"] = map[string]any{"release": tt.data}
			}
			_, err := decodeRelease(secret)
			if err == nil || !strings.Contains(err.Error(), "sh.helm.release.v1.app.v3") {
				t.Errorf("got %v, want an error that names the Secret", err)
			}
		})
	}
}

func TestShowRelease(t *testing.T) {
	want := releaseOf(t, `{
		"name": "app", "namespace": "apps", "version": 3, "apply_method": "ssa", "config": {"replicas": 2}, "manifest": "---\nkind: A\n",
		"info": {"first_deployed": "2026-01-02T03:04:05Z", "last_deployed": "2026-01-02T03:04:05Z", "status": "deployed", "description": "Install complete"},
		"chart": {"name": "demo", "version": "1.0.0", "appVersion": "1.0"},
		"hooks": [{"name": "job", "kind": "Job", "path": "demo/templates/job.yaml", "events": ["pre-install"], "last_run": {"phase": "Succeeded"}}],
		"keys": ["apply_method", "chart", "config", "hooks", "info", "manifest", "name", "namespace", "version"]
	}`)
	got, err := asJSON(showRelease(releaseOf(t, storedRelease)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	bare := releaseOf(t, storedRelease)
	delete(bare, "hooks")
	if d := cmp.Diff([]any{}, showRelease(bare)["hooks"]); d != "" {
		t.Errorf("a release without hooks shows an empty list (-want +got):\n%s", d)
	}
}

// A recording names a release's cluster-scoped objects once, however often it looked.
func TestClusterScoped(t *testing.T) {
	var got []string
	for _, name := range []string{"crds-create", "crds-create-replace", "create-namespace", "install"} {
		r, err := Read(recordings + "/helmrelease/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range r.clusterScoped() {
			got = append(got, id.Kind+"/"+id.name)
		}
	}
	want := []string{"CustomResourceDefinition/things.example.com", "CustomResourceDefinition/parts.example.com", "Namespace/hr-created-ns"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestStorageKey(t *testing.T) {
	name, version, err := storageKey("sh.helm.release.v1.app.v2.v12")
	if name != "app.v2" || version != 12 || err != nil {
		t.Errorf("got %q %d %v", name, version, err)
	}
	for _, bad := range []string{"app", "sh.helm.release.v1.app", "sh.helm.release.v1..v1", "sh.helm.release.v1.app.vx"} {
		if _, _, err := storageKey(bad); err == nil {
			t.Errorf("%q was taken for a storage Secret", bad)
		}
	}
}
