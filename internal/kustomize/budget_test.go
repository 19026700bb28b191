package kustomize

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// reliability 151: what counts as too much.
func TestBudget(t *testing.T) {
	configMaps := func(n int) []ssa.ID {
		var out []ssa.ID
		for i := range n {
			out = append(out, ssa.ID{Namespace: "ns", Name: fmt.Sprint("a", i), Kind: "ConfigMap"})
		}
		return out
	}
	namespace := append(configMaps(1), ssa.ID{Name: "prod", Kind: "Namespace"})
	for name, tt := range map[string]struct {
		limit, kinds string
		doomed       []ssa.ID
		size         int
		want         string
	}{
		"no budget":                   {"", "", configMaps(10), 10, ""},
		"none":                        {"none", "None", namespace, 2, ""},
		"as many as allowed":          {"3", "", configMaps(3), 10, ""},
		"one more":                    {"3", "", configMaps(4), 10, "more than 3"},
		"nothing is allowed":          {"0", "", configMaps(1), 10, "more than 0"},
		"nothing is deleted":          {"0,0%", "ConfigMap", nil, 10, ""},
		"the share that is allowed":   {"30%", "", configMaps(3), 10, ""},
		"a larger share":              {"30%", "", configMaps(4), 13, "more than 30%"},
		"both":                        {" 2, 50% ", "", configMaps(6), 10, "more than 2, more than 50%"},
		"the first of both":           {"2,50%", "", configMaps(3), 10, "more than 2"},
		"a protected kind":            {"10", "Namespace,Secret", namespace, 10, "of the protected kind Namespace"},
		"in any case":                 {"", "namespace", namespace, 10, "of the protected kind Namespace"},
		"protected kinds, not theirs": {"", "Secret", namespace, 10, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := ParseBudget(tt.limit, tt.kinds)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "excess", tt.want, b.excess(tt.doomed, tt.size))
		})
	}
	for _, limit := range []string{"x", "-1", "101%", "5,6", "5%,6%", "%", "1.5"} {
		if _, err := ParseBudget(limit, ""); err == nil {
			t.Errorf("the limit %q was accepted", limit)
		}
	}
}

// reliability 151: the message stays readable however much is to go.
func TestBounded(t *testing.T) {
	var ids []ssa.ID
	for i := range 1000 {
		ids = append(ids, ssa.ID{Name: fmt.Sprint("n", i), Kind: "Namespace"})
	}
	lines := strings.Split(bounded(ids), "\n")
	expect(t, "lines", maxListed+1, len(lines))
	expect(t, "first", "Namespace/n0", lines[0])
	expect(t, "last", "and 980 more", lines[maxListed])
}

// An annotation is no change of the spec, so its edge is an own one.
func TestSteeringEvents(t *testing.T) {
	obj := func(key, value string) client.Object {
		return &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app", Annotations: map[string]string{key: value}}}
	}
	self := []types.NamespacedName{{Namespace: "ns", Name: "app"}}
	expect(t, "approved", self, onSteering(obj("x", "y"), obj(kustomizev1.ApproveAnnotation, "r/d")))
	expect(t, "limit changed", self, onSteering(obj(kustomizev1.PruneLimitAnnotation, "1"), obj(kustomizev1.PruneLimitAnnotation, "2")))
	expect(t, "limit removed", self, onSteering(obj(kustomizev1.PruneLimitAnnotation, "1"), obj("x", "y")))
	expect(t, "something else", []types.NamespacedName(nil), onSteering(obj("x", "y"), obj("x", "z")))
	expect(t, "created", []types.NamespacedName(nil), onSteering(nil, obj(kustomizev1.ApproveAnnotation, "r/d")))
}
