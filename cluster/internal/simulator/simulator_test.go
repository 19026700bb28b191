package simulator

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
)

func TestStages(t *testing.T) {
	stages, err := localStages()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, stage := range stages[internalversion.StageResourceRef{APIGroup: "v1", Kind: "Pod"}] {
		names = append(names, stage.Name)
	}
	// The order counts: the first that matches is played.
	want := []string{"start", "crash-again", "complete", "delete"}
	if len(names) != len(want) {
		t.Fatalf("the stages of a pod are %v, want %v", names, want)
	}
	for i := range want {
		if names[i] != want[i] {
			t.Errorf("the stages of a pod are %v, want %v", names, want)
		}
	}
	if len(stages[internalversion.StageResourceRef{APIGroup: "v1", Kind: "Node"}]) != 1 {
		t.Error("a node has not the one stage that makes it ready")
	}
}

func TestBindable(t *testing.T) {
	now := metav1.Now()
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"a new pod":               {func(*corev1.Pod) {}, true},
		"a bound pod":             {func(p *corev1.Pod) { p.Spec.NodeName = "x" }, false},
		"a gated pod":             {func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "x"}} }, false},
		"a pod that is deleted":   {func(p *corev1.Pod) { p.DeletionTimestamp = &now }, false},
		"another scheduler's pod": {func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" }, false},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{SchedulerName: corev1.DefaultSchedulerName}}
		test.change(pod)
		if got := bindable(pod); got != test.want {
			t.Errorf("%s is bindable: %t, want %t", name, got, test.want)
		}
	}
}
