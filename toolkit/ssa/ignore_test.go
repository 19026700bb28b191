package ssa

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// kustomization 75: which objects a rule is for; patterns match whole values.
func TestIgnoreTarget(t *testing.T) {
	o := object(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web-1, namespace: prod, labels: {app: web}, annotations: {tier: front}}")
	for name, tt := range map[string]struct {
		target *meta.Selector
		want   bool
	}{
		"no target":             {nil, true},
		"empty target":          {&meta.Selector{}, true},
		"all fields":            {&meta.Selector{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "prod", Name: "web-1"}, true},
		"pattern":               {&meta.Selector{Kind: "Deploy.*", Name: "web-[0-9]"}, true},
		"anchored at the end":   {&meta.Selector{Name: "web"}, false},
		"anchored at the start": {&meta.Selector{Kind: "ment"}, false},
		"anchored alternatives": {&meta.Selector{Name: "we|b-1"}, false},
		"other group":           {&meta.Selector{Group: "batch"}, false},
		"other version":         {&meta.Selector{Version: "v1beta1"}, false},
		"other namespace":       {&meta.Selector{Namespace: "dev"}, false},
		"labels":                {&meta.Selector{LabelSelector: "app in (web, api)"}, true},
		"other labels":          {&meta.Selector{LabelSelector: "app=api"}, false},
		"annotations":           {&meta.Selector{AnnotationSelector: "tier=front"}, true},
		"other annotations":     {&meta.Selector{AnnotationSelector: "!tier"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := NewIgnore([]meta.IgnoreRule{{Paths: []string{"/spec/replicas"}, Target: tt.target}})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(g.paths(o)) > 0; got != tt.want {
				t.Errorf("selected: %v, want %v", got, tt.want)
			}
		})
	}
}

// kustomization 75: rules that cannot be meant are refused, with the field that is wrong.
func TestIgnoreRefused(t *testing.T) {
	path := []string{"/spec"}
	for want, rules := range map[string][]meta.IgnoreRule{
		`spec.ignore[0].paths: "spec/replicas" is no JSON pointer`:      {{Paths: []string{"spec/replicas"}}},
		`spec.ignore[0].paths: "" is no JSON pointer`:                   {{Paths: []string{""}}},
		`spec.ignore[1].paths: "/metadata/name" would leave`:            {{Paths: path}, {Paths: []string{"/metadata/name"}}},
		`spec.ignore[0].paths: "/kind" would leave`:                     {{Paths: []string{"/kind"}}},
		`spec.ignore[0].paths: a path of 2000 bytes is longer`:          {{Paths: []string{"/" + strings.Repeat("x", 1999)}}},
		`spec.ignore[0].paths: 101 paths, at most 100`:                  {{Paths: make([]string, 101)}},
		`spec.ignore has 101 rules, at most 100`:                        make([]meta.IgnoreRule, 101),
		`spec.ignore[0].target.name: error parsing regexp`:              {{Paths: path, Target: &meta.Selector{Name: "("}}},
		`spec.ignore[0].target.labelSelector: unable to parse`:          {{Paths: path, Target: &meta.Selector{LabelSelector: "a in"}}},
		`spec.ignore[0].target.annotationSelector: found '=', expected`: {{Paths: path, Target: &meta.Selector{AnnotationSelector: "="}}},
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := NewIgnore(rules); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// kustomization 75: what is compared, and what is applied when it has to be.
func TestDisregard(t *testing.T) {
	const desired = `
metadata: {name: a}
spec:
  replicas: 1
  list: [x, y]
  containers:
  - {name: app, image: one}
  - {name: side, image: one}
`
	othersOwn := func(fields string) []metav1.ManagedFieldsEntry {
		return []metav1.ManagedFieldsEntry{
			{Manager: "scaler", Operation: "Apply", FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}},
			{Manager: "kustomize-controller", Operation: "Apply", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:replicas":{}}}`)}},
			{Manager: "kubectl", Operation: "Update", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:replicas":{}}}`)}},
		}
	}
	for name, tt := range map[string]struct {
		path, live string
		managers   []metav1.ManagedFieldsEntry
		want       string // what is applied
		differs    bool   // besides what is ignored
	}{
		"a drifted value is taken": {
			path: "/spec/replicas", live: "{metadata: {name: a}, spec: {replicas: 5, list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
			managers: othersOwn(`{"f:spec":{"f:other":{}}}`),
			want:     "{metadata: {name: a}, spec: {replicas: 5, list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
		},
		"one that another apply sets is left out": {
			path: "/spec/replicas", live: "{metadata: {name: a}, spec: {replicas: 5, list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
			managers: othersOwn(`{"f:spec":{"f:replicas":{}}}`),
			want:     "{metadata: {name: a}, spec: {list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
		},
		"one that somebody removed stays removed": {
			path: "/spec/replicas", live: "{metadata: {name: a}, spec: {list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
			want: "{metadata: {name: a}, spec: {list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
		},
		"an entry with a name is found by it": {
			path: "/spec/containers/0/image", live: "{metadata: {name: a}, spec: {replicas: 1, list: [x, y], containers: [{name: side, image: one}, {name: app, image: two}]}}",
			want:    "{metadata: {name: a}, spec: {replicas: 1, list: [x, y], containers: [{name: app, image: two}, {name: side, image: one}]}}",
			differs: true, // the order
		},
		"an entry that another apply sets": {
			path: "/spec/containers/0/image", live: "{metadata: {name: a}, spec: {replicas: 1, list: [x, y], containers: [{name: app, image: two}, {name: side, image: one}]}}",
			managers: othersOwn(`{"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{"f:image":{}}}}}`),
			want:     "{metadata: {name: a}, spec: {replicas: 1, list: [x, y], containers: [{name: app}, {name: side, image: one}]}}",
		},
		"an entry of a plain list": {
			path: "/spec/list/1", live: "{metadata: {name: a}, spec: {replicas: 1, list: [x, z], containers: [{name: app, image: one}, {name: side, image: one}]}}",
			want: "{metadata: {name: a}, spec: {replicas: 1, list: [x, z], containers: [{name: app, image: one}, {name: side, image: one}]}}",
		},
		"a field that the manifest lacks": {
			path: "/spec/other", live: "{metadata: {name: a}, spec: {replicas: 1, other: 1, list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
			want: desired,
		},
		"a path that leads nowhere": {
			path: "/spec/list/7/deep", live: "{metadata: {name: a}, spec: {replicas: 2, list: [x, y], containers: [{name: app, image: one}, {name: side, image: one}]}}",
			want: desired, differs: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pointer, err := parsePointer(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			live := object(t, tt.live)
			live.SetManagedFields(tt.managers)
			apply, comparedLive, comparedDry, err := disregard(kube.Ownership{Manager: "kustomize-controller"}, [][]string{pointer}, object(t, desired), live, object(t, desired))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(object(t, tt.want).Object, apply.Object); diff != "" {
				t.Errorf("applied (-want +got):\n%s", diff)
			}
			comparedLive.SetManagedFields(nil)
			if got := !cmp.Equal(comparedLive.Object, comparedDry.Object); got != tt.differs {
				t.Errorf("differs: %v, want %v:\n%s", got, tt.differs, cmp.Diff(comparedLive.Object, comparedDry.Object))
			}
		})
	}
}
