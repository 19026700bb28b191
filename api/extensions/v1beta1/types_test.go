package v1beta1_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
)

// artifactgenerator 3: the interval is fixed. artifactgenerator 61: only conditions carry the generation.
func TestReconcilable(t *testing.T) {
	var obj meta.Reconcilable = &v1beta1.ArtifactGenerator{}
	if got := obj.GetObservedGeneration(); got != -1 {
		t.Errorf("GetObservedGeneration() = %d before the first verdict, want -1", got)
	}
	conditions := []metav1.Condition{{Type: "Other", ObservedGeneration: 7}, {Type: meta.ReadyCondition, ObservedGeneration: 3}}
	obj.SetConditions(conditions)
	obj.SetObservedGeneration(5)
	obj.SetLastHandledReconcileRequest("token")
	if diff := cmp.Diff(conditions, obj.GetConditions()); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if got := obj.GetObservedGeneration(); got != 3 {
		t.Errorf("GetObservedGeneration() = %d, want that of Ready", got)
	}
	if got := obj.GetLastHandledReconcileRequest(); got != "token" {
		t.Errorf("GetLastHandledReconcileRequest() = %q", got)
	}
	if got := obj.GetInterval(); got != time.Hour {
		t.Errorf("GetInterval() = %s", got)
	}
}

// artifactgenerator 4: an annotation pauses, whatever the case of its value.
func TestSuspended(t *testing.T) {
	for value, want := range map[string]bool{"disabled": true, "Disabled": true, "DISABLED": true, "": false, "enabled": false, "disabled ": false} {
		obj := &v1beta1.ArtifactGenerator{}
		obj.Annotations = map[string]string{v1beta1.ReconcileAnnotation: value}
		if got := obj.IsSuspended(); got != want {
			t.Errorf("IsSuspended() = %t with %q", got, value)
		}
	}
	if (&v1beta1.ArtifactGenerator{}).IsSuspended() {
		t.Error("IsSuspended() without annotations")
	}
}

func TestAddToScheme(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1beta1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{v1beta1.ArtifactGeneratorKind, v1beta1.ArtifactGeneratorKind + "List"} {
		if !s.Recognizes(v1beta1.GroupVersion.WithKind(kind)) {
			t.Errorf("the scheme does not know %s", kind)
		}
	}
}
