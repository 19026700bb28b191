package helm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// kindsServed answers discovery with a few kinds, or with an error.
type kindsServed struct{ err error }

func (k kindsServed) ServerGroupsAndResourcesWithContext(context.Context) ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	if k.err != nil {
		return nil, nil, k.err
	}
	group := func(name, version string) *metav1.APIGroup {
		v := metav1.GroupVersionForDiscovery{GroupVersion: strings.TrimPrefix(name+"/"+version, "/"), Version: version}
		return &metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
	}
	return []*metav1.APIGroup{group("", "v1"), group("rbac.authorization.k8s.io", "v1")}, []*metav1.APIResourceList{
		{GroupVersion: "v1", APIResources: []metav1.APIResource{{Name: "configmaps", Kind: "ConfigMap", Namespaced: true}, {Name: "namespaces", Kind: "Namespace"}}},
		{GroupVersion: "rbac.authorization.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "clusterroles", Kind: "ClusterRole"}}},
	}, nil
}

// helmrelease 72, 82: the order of the manifest, each object once, CustomResourceDefinitions last; objects that only the server can
// name are left out; a kind that is not served is listed all the same.
func TestInventoryOf(t *testing.T) {
	const manifest = `---
# Source: demo/templates/b.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
---
# Source: demo/templates/a.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: other}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:a", namespace: ignored}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: space}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: ns}}
---
apiVersion: v1
kind: Pod
metadata: {generateName: x-}
---
apiVersion: example.com/v2
kind: Unknown
metadata: {name: u}
`
	mapper := kube.NewMapper(kindsServed{}, 0, clock.RealClock{})
	got, err := inventoryOf(t.Context(), manifest, []action.CRD{{Name: "things.example.com", Version: "v1"}}, "ns", mapper)
	if err != nil {
		t.Fatal(err)
	}
	want := &meta.Inventory{Entries: []meta.InventoryEntry{
		{ID: "ns_b__ConfigMap", Version: "v1"}, {ID: "other_a__ConfigMap", Version: "v1"},
		{ID: "_system__a_rbac.authorization.k8s.io_ClusterRole", Version: "v1"}, {ID: "_space__Namespace", Version: "v1"},
		{ID: "ns_u_example.com_Unknown", Version: "v2"}, {ID: "_things.example.com_apiextensions.k8s.io_CustomResourceDefinition", Version: "v1"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := inventoryOf(t.Context(), "", nil, "ns", mapper); err != nil || got.Entries == nil || len(got.Entries) > 0 {
		t.Errorf("nothing is listed as %v, %v", got, err)
	}
}

// helmrelease 82: a list that cannot be made is an error that names the object, never a shorter list.
func TestInventoryOfFails(t *testing.T) {
	boom := errors.New("boom")
	_, err := inventoryOf(t.Context(), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", nil, "ns", kube.NewMapper(kindsServed{boom}, 0, clock.RealClock{}))
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "ConfigMap/a") {
		t.Errorf("error: %v", err)
	}
	if _, err := inventoryOf(t.Context(), "kind: ConfigMap\n", nil, "ns", kube.NewMapper(kindsServed{}, 0, clock.RealClock{})); err == nil {
		t.Error("what is no object is passed over")
	}
}
