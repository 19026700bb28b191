package replay

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

const suspendedRelease = `
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: app
spec:
  interval: 1m
  suspend: true
  chartRef:
    kind: HelmChart
    name: demo
`

// TestHelmStorageSteps plays a sequence made by hand against an API server: a stored release is changed and copied, and the
// snapshot shows both as the recorder showed them, found without being asked for.
func TestHelmStorageSteps(t *testing.T) {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	lab, err := NewLab(config, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	const first, second, manager = "sh.helm.release.v1.app.v3", "sh.helm.release.v1.app.v4", "helm-controller"
	r := &Recording{
		Name: "helmrelease/storage-steps", Namespace: "replay-helm-storage-steps",
		Input: map[string]json.RawMessage{
			"manifest-1": asInput(t, suspendedRelease),
			"manifest-2": asInput(t, render(storageSecret(t, releaseOf(t, storedRelease)).Object)),
		},
		Steps: []Step{
			{Apply: "manifest-1"},
			{Apply: "manifest-2", FieldManager: manager},
			{EditHelmRelease: first, FieldManager: manager, With: map[string]any{"info.status": "superseded", "info.description": nil}},
			{CreateHelmRelease: second, From: first, FieldManager: manager, With: map[string]any{"info.status": "pending-upgrade", "namespace": "${NS}"}},
			{Snapshot: "end"},
		},
	}
	shown := func(name, namespace, version, status string, managers ...any) map[string]any {
		release := showRelease(releaseOf(t, storedRelease))
		release["namespace"], release["version"] = namespace, json.Number(version)
		release["info"] = map[string]any{"first_deployed": "<time>", "last_deployed": "<time>", "status": status}
		return map[string]any{
			"apiVersion": "v1", "kind": "Secret", "name": name, "namespace": r.Namespace, "type": helmStorageType, "release": release,
			"labels": map[string]any{"owner": "helm", "name": "app", "version": version, "status": status}, "managers": managers,
		}
	}
	end, err := asJSON(map[string]any{
		"objects": []any{map[string]any{
			"kind": "HelmRelease", "name": "app", "generation": 1, "managers": []any{"replayer Apply"}, "status": map[string]any{"observedGeneration": -1},
		}},
		"cluster": []any{
			shown(first, "apps", "3", "superseded", "helm-controller Apply", "helm-controller Update"),
			shown(second, r.Namespace, "4", "pending-upgrade", "helm-controller Update"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Observed = map[string]map[string]any{"end": end}
	t.Cleanup(func() {
		if err := lab.Clean(context.Background(), r); err != nil {
			t.Error(err)
		}
	})
	diffs, err := lab.Play(t.Context(), r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diffs {
		t.Error(d)
	}
}

func asInput(t *testing.T, text string) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
