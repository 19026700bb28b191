package health

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

func pod(statuses ...corev1.ContainerStatus) *corev1.Pod {
	return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: statuses}}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func ended(reason string, code int32) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, Message: "password=hunter2"}}
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

// kustomization 92: what keeps a pod from being ready, without what its containers print.
func TestPodTrouble(t *testing.T) {
	unschedulable := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available",
	}}}}
	evicted := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on memory."}}
	initial := &corev1.Pod{Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{Name: "init", State: ended("Error", 3)}}}}
	for name, test := range map[string]struct {
		pod             *corev1.Pod
		stopped, unwell string
	}{
		"image":             {pod(corev1.ContainerStatus{Name: "m", State: waiting("ImagePullBackOff", `Back-off pulling image "x:1"`)}), `container 'm' is waiting: ImagePullBackOff: Back-off pulling image "x:1"`, ""},
		"missing secret":    {pod(corev1.ContainerStatus{Name: "m", State: waiting("CreateContainerConfigError", `secret "s" not found`)}), `container 'm' is waiting: CreateContainerConfigError: secret "s" not found`, ""},
		"crash loop":        {pod(corev1.ContainerStatus{Name: "m", State: waiting("CrashLoopBackOff", "back-off 5m0s"), LastTerminationState: ended("Error", 1)}), "container 'm' is waiting: CrashLoopBackOff after Error (exit code 1)", ""},
		"out of memory":     {pod(corev1.ContainerStatus{Name: "m", State: running(), RestartCount: 4, LastTerminationState: ended("OOMKilled", 137)}), "container 'm' was restarted 4 times, last after OOMKilled (exit code 137)", "container 'm' runs and is not ready"},
		"ended":             {pod(corev1.ContainerStatus{Name: "m", State: ended("Error", 2)}), "container 'm' has ended: Error (exit code 2)", ""},
		"init container":    {initial, "container 'init' has ended: Error (exit code 3)", ""},
		"unschedulable":     {unschedulable, "Unschedulable: 0/3 nodes are available", ""},
		"evicted":           {evicted, "Evicted: The node was low on memory.", ""},
		"only starting":     {pod(corev1.ContainerStatus{Name: "m", State: waiting("ContainerCreating", "")}), "", ""},
		"only unready":      {pod(corev1.ContainerStatus{Name: "m", State: running()}), "", "container 'm' runs and is not ready"},
		"well":              {pod(corev1.ContainerStatus{Name: "m", State: running(), Ready: true, LastTerminationState: ended("Error", 1)}), "", ""},
		"done":              {pod(corev1.ContainerStatus{Name: "m", State: ended("Completed", 0)}), "", ""},
		"nothing known yet": {pod(), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff([]string{test.stopped, test.unwell}, []string{stopped(test.pod), unready(test.pod)}); diff != "" {
				t.Errorf("trouble (-want +got):\n%s", diff)
			}
		})
	}
}

// kustomization 92: an event is told without what a probe or hook has printed.
func TestEventText(t *testing.T) {
	for _, test := range []struct{ reason, message, want string }{
		{"FailedScheduling", "0/3 nodes are available", ": 0/3 nodes are available"},
		{"Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", ": Readiness probe failed: HTTP probe failed with statuscode: 503"},
		{"Unhealthy", "Readiness probe failed: password=hunter2", ": Readiness probe failed"},
		{"FailedPostStartHook", `failed - error: command exited with 1, message: "password=hunter2"`, ""},
	} {
		if got := eventText(&corev1.Event{Reason: test.reason, Message: test.message}); got != test.want {
			t.Errorf("%s %q: %q, want %q", test.reason, test.message, got, test.want)
		}
	}
}

// kustomization 92: the cause is one bounded line without credentials.
func TestTidy(t *testing.T) {
	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"two\nlines\t of  text", 100, "two lines of text"},
		{"failed to pull https://user:hunter2@host.test/x", 100, "failed to pull https://host.test/x"},
		{"ééééé", 9, "ééé..."},
		{"exact", 5, "exact"},
	} {
		if got := tidy(test.text, test.limit); got != test.want {
			t.Errorf("tidy(%q, %d) = %q, want %q", test.text, test.limit, got, test.want)
		}
	}
}

// kustomization 92: one blocker is explained, a failed one first; of many objects the rest is counted.
func TestErrorIsBounded(t *testing.T) {
	var list []Report
	for i := range 1000 {
		list = append(list, Report{
			Check:   Check{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Kind: "Deployment"}, Namespace: "apps", Name: fmt.Sprintf("web-%d", i)},
			Verdict: kube.Verdict{Status: kube.InProgress},
		})
	}
	text := (&Error{Unhealthy: list, Cause: "why"}).Error()
	if want := "timeout waiting for: [Deployment/apps/web-0 status: 'InProgress', "; !strings.HasPrefix(text, want) {
		t.Errorf("it does not begin with %q: %s", want, text)
	}
	if want := "Deployment/apps/web-24 status: 'InProgress', and 975 more]: why"; !strings.HasSuffix(text, want) {
		t.Errorf("it does not end with %q: %s", want, text)
	}
	list[0].Verdict.Status = kube.NotFound
	if got := blocker(list); got != &list[1] {
		t.Errorf("the blocker is %v, want the first that exists", got)
	}
	list[7].Verdict.Status = kube.Failed
	if got := blocker(list); got != &list[7] {
		t.Errorf("the blocker is %v, want the failed one", got)
	}
	if got := blocker(list[:1]); got != nil {
		t.Errorf("the blocker is %v, though nothing exists", got)
	}
}

func TestPodSelector(t *testing.T) {
	for name, test := range map[string]struct{ object, want string }{
		"a Deployment": {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}, matchExpressions: [{key: tier, operator: In, values: [x]}]}}}", "app=a,tier in (x)"},
		// An empty selector selects all pods of the namespace.
		"a Job without one":   {"{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {selector: {}}}", ""},
		"a custom resource":   {"{apiVersion: x.y/v1, kind: Z, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}}}", ""},
		"a broken expression": {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchExpressions: [{key: a, operator: Odd}]}}}", ""},
	} {
		if got := podSelector(object(t, test.object)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
