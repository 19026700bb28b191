package loop

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

// A merge patch from one status to another holds what differs, and nothing else.
func TestMergeDiff(t *testing.T) {
	for _, tc := range []struct{ name, from, to, want string }{
		{"equal", `{"a":1,"b":{"c":[1,2]}}`, `{"a":1,"b":{"c":[1,2]}}`, `{}`},
		{"nothing", `{}`, `{}`, `{}`},
		{"a new field", `{}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{"another value", `{"a":1,"b":2}`, `{"a":3,"b":2}`, `{"a":3}`},
		{"a field goes", `{"a":1,"b":2}`, `{"b":2}`, `{"a":null}`},
		{"deep inside", `{"a":{"b":{"c":1,"d":2},"e":3}}`, `{"a":{"b":{"c":4},"e":3}}`, `{"a":{"b":{"c":4,"d":null}}}`},
		{"an object empties", `{"a":{"b":1}}`, `{"a":{}}`, `{"a":{"b":null}}`},
		{"a list is one value", `{"a":[{"b":1},{"c":2}]}`, `{"a":[{"b":1}]}`, `{"a":[{"b":1}]}`},
		{"an object in place of a text", `{"a":"x"}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{"a text in place of an object", `{"a":{"b":1}}`, `{"a":"x"}`, `{"a":"x"}`},
		{"null is absence", `{"a":null,"b":1}`, `{"b":null}`, `{"b":null}`},
		{"null for absence", `{}`, `{"a":null}`, `{}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var from, to map[string]any
			if err := errors.Join(json.Unmarshal([]byte(tc.from), &from), json.Unmarshal([]byte(tc.to), &to)); err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(mergeDiff(from, to))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("patch %s, want %s", got, tc.want)
			}
		})
	}
}

// What a patch makes of the JSON of one object is the JSON of the other.
func TestStatusPatch(t *testing.T) {
	at := metav1.NewTime(now)
	ready := metav1.Condition{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: "R", Message: `a < b & "c"`, ObservedGeneration: 3, LastTransitionTime: at}
	inventory := &meta.Inventory{Entries: []meta.InventoryEntry{{ID: "ns_a__ConfigMap", Version: "v1"}}}
	for _, tc := range []struct {
		name         string
		base, target client.Object
		same         bool
	}{
		{"equal", &kustomizev1.Kustomization{Status: kustomizev1.KustomizationStatus{Inventory: inventory}},
			&kustomizev1.Kustomization{Spec: kustomizev1.KustomizationSpec{Path: "other"}, Status: kustomizev1.KustomizationStatus{Inventory: inventory}}, true},
		{"from nothing", &kustomizev1.Kustomization{}, &kustomizev1.Kustomization{Status: kustomizev1.KustomizationStatus{
			ReconcileRequestStatus: meta.ReconcileRequestStatus{LastHandledReconcileAt: "now"},
			ObservedGeneration:     -1, Conditions: []metav1.Condition{ready}, LastAppliedRevision: "main@sha1:1", Inventory: inventory,
			History: []meta.Snapshot{{Digest: "d", FirstReconciled: at, LastReconciled: at, TotalReconciliations: 2, Metadata: map[string]string{"revision": "1"}}},
		}}, false},
		{"to nothing", &kustomizev1.Kustomization{Status: kustomizev1.KustomizationStatus{
			ObservedGeneration: 2, Conditions: []metav1.Condition{ready}, Inventory: inventory,
		}}, &kustomizev1.Kustomization{}, false},
		{"an inventory empties", &kustomizev1.Kustomization{Status: kustomizev1.KustomizationStatus{Inventory: inventory}},
			&kustomizev1.Kustomization{Status: kustomizev1.KustomizationStatus{Inventory: &meta.Inventory{Entries: []meta.InventoryEntry{}}}}, false},
		{"a release", &helmv2.HelmRelease{Status: helmv2.HelmReleaseStatus{Failures: 3, History: []helmv2.Snapshot{{Name: "old", Version: 1}}}},
			&helmv2.HelmRelease{Status: helmv2.HelmReleaseStatus{
				LastAttemptedReleaseActionDuration: meta.DurationOf(3 * time.Second), InstallFailures: 1,
				History: []helmv2.Snapshot{{Name: "new", Version: 2, FirstDeployed: at, LastDeployed: at, TestHooks: &map[string]*helmv2.TestHookStatus{"t": {LastStarted: at, Phase: "Succeeded"}}}},
			}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.base.SetResourceVersion("7")
			patch, err := statusPatch(tc.base, tc.target)
			if err != nil {
				t.Fatal(err)
			}
			if tc.same != (patch == nil) {
				t.Fatalf("patch: %s", patch)
			}
			if tc.same {
				return
			}
			tc.target.SetResourceVersion("7")
			from, to := statusJSON(t, tc.base), statusJSON(t, tc.target)
			merged, err := jsonpatch.MergePatch(from, patch)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := errors.Join(json.Unmarshal(merged, &got), json.Unmarshal(to, &want)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("patch %s makes\n%s\nwant\n%s", patch, merged, to)
			}
		})
	}
}

// statusJSON is an object without its spec.
func statusJSON(t *testing.T, obj client.Object) []byte {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "spec")
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	return data
}
