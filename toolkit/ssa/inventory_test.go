package ssa

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// wire 9, kustomization 78
func TestID(t *testing.T) {
	for _, tc := range []struct {
		text string
		id   ID
	}{
		{"ns_a__ConfigMap", ID{"ns", "a", "", "ConfigMap"}},
		{"_ns__Namespace", ID{"", "ns", "", "Namespace"}},
		{"ns_web_apps_Deployment", ID{"ns", "web", "apps", "Deployment"}},
		{"ns_team__viewer_rbac.authorization.k8s.io_Role", ID{"ns", "team:viewer", rbacGroup, "Role"}},
		{"_system__node_rbac.authorization.k8s.io_ClusterRole", ID{"", "system:node", rbacGroup, "ClusterRole"}},
		{"ns_a_b_rbac.authorization.k8s.io_Role", ID{"ns", "a_b", rbacGroup, "Role"}},
	} {
		got, err := ParseID(tc.text)
		if err != nil || got != tc.id {
			t.Errorf("ParseID(%q) = %+v, %v", tc.text, got, err)
		}
		if got := tc.id.String(); got != tc.text {
			t.Errorf("%+v is written %q", tc.id, got)
		}
	}
	for _, text := range []string{"", "a", "a_b", "a_b_c", "___", "a__g_K_", "ns__apps_Deployment", "_a__"} {
		if id, err := ParseID(text); err == nil {
			t.Errorf("ParseID(%q) = %+v", text, id)
		}
	}
	if got := (ID{Name: "a", Kind: "Namespace"}).Subject(); got != "Namespace/a" {
		t.Errorf("subject: %s", got)
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"ns_a__ConfigMap", "_system__node_rbac.authorization.k8s.io_ClusterRole", "___", "a_b_c_d_e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if id.Name == "" || id.Kind == "" {
			t.Errorf("%q: %+v", s, id)
		}
		again, err := ParseID(id.String())
		if err != nil || again != id {
			t.Errorf("%q: %+v, then %+v, %v", s, id, again, err)
		}
	})
}

// kustomization 79, 80; reliability, design rule 1
func TestInventory(t *testing.T) {
	old := Inventory{{"a", "v1"}, {"b", "v1beta1"}}
	set := Inventory{{"b", "v1"}, {"c", "v1"}}
	if diff := cmp.Diff(Inventory{{"a", "v1"}, {"b", "v1"}, {"c", "v1"}}, old.Union(set)); diff != "" {
		t.Errorf("union (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Inventory{{"a", "v1"}}, old.Minus(set)); diff != "" {
		t.Errorf("stale, versions ignored (-want +got):\n%s", diff)
	}
	if old.Equal(set) || !old.Equal(Inventory{{"a", "v1"}, {"b", "v1beta1"}}) {
		t.Error("Equal")
	}
	inv := Inventory{{"ns_a__ConfigMap", "v1"}, {"ns_b__ConfigMap", "v1"}, {"ns_w_apps_Deployment", "v1"}, {"nonsense", "v1"}}
	want := []schema.GroupVersionKind{{Version: "v1", Kind: "ConfigMap"}, {Group: "apps", Version: "v1", Kind: "Deployment"}}
	if diff := cmp.Diff(want, inv.Kinds()); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

// kustomization 64, 65
func TestOrder(t *testing.T) {
	// Recording target-namespace among them: RoleBinding before ConfigMap.
	want := strings.Fields(`
		0:CustomResourceDefinition/c 0:Namespace/n 0:ClusterRole/r
		1:ClusterClass/x 1:RuntimeClass/x 1:PriorityClass/x 1:StorageClass/x 1:VolumeSnapshotClass/x 1:IngressClass/x 1:GatewayClass/x 1:OtherClass/x
		2:Tenant/t
		3:ClusterRoleBinding/b 3:ResourceQuota/q 3:ServiceAccount/s 3:Role/r 3:RoleBinding/b 3:ConfigMap/a/z 3:ConfigMap/b/a 3:ConfigMap/b/b
		3:Secret/s 3:Service/s 3:LimitRange/l 3:Deployment/d 3:StatefulSet/s 3:CronJob/c 3:PodDisruptionBudget/p
		3:Alpha/x 3:Zeta/x 3:MutatingWebhookConfiguration/m 3:ValidatingWebhookConfiguration/v`)
	groups := map[string]string{
		"CustomResourceDefinition": "apiextensions.k8s.io/v1", "ClusterRole": rbacGroup + "/v1", "ClusterRoleBinding": rbacGroup + "/v1",
		"Role": rbacGroup + "/v1", "RoleBinding": rbacGroup + "/v1", "Tenant": "example.com/v1", "Alpha": "example.com/v1", "Zeta": "example.com/v1",
		"OtherClass": "example.com/v1",
	}
	var objects []*unstructured.Unstructured
	for i := len(want) - 1; i >= 0; i-- {
		_, subject, _ := strings.Cut(want[i], ":")
		parts := strings.Split(subject, "/")
		u := &unstructured.Unstructured{}
		u.SetKind(parts[0])
		u.SetAPIVersion("v1")
		if g := groups[parts[0]]; g != "" {
			u.SetAPIVersion(g)
		}
		if len(parts) == 3 {
			u.SetNamespace(parts[1])
		}
		u.SetName(parts[len(parts)-1])
		objects = append(objects, u)
	}
	custom := ParseStageKinds(" example.com/Tenant, ,Pod")
	if diff := cmp.Diff([]schema.GroupKind{{Group: "example.com", Kind: "Tenant"}, {Kind: "Pod"}}, custom); diff != "" {
		t.Errorf("stage kinds (-want +got):\n%s", diff)
	}
	var got []string
	for stage, list := range staged(objects, custom) {
		for _, o := range list {
			got = append(got, string(rune('0'+stage))+":"+IDOf(o).Subject())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
