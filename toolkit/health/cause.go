package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Limits of a cause, which is made of other people's texts and ends in a condition.
const (
	maxCause   = 900 // bytes of the whole
	maxPart    = 300 // bytes of each part
	maxPods    = 50  // read to find one that is in trouble
	maxEvents  = 50  // read to find the last one
	causeTime  = 5 * time.Second
	maxSubject = 25 // objects named in an Error; the rest is counted
)

// cause tells why the first of the objects is not healthy: its own message, the trouble of one of its pods, and the last
// Warning about either. It reads as the owner, and what the owner may not see adds nothing.
func (x *wait) cause(ctx context.Context, unhealthy []Report) string {
	first := blocker(unhealthy)
	if first == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, causeTime)
	defer cancel()
	o, err := x.get(ctx, first.Check)
	if err != nil {
		return ""
	}
	parts := []string{x.message(ctx, o)}
	about := []types.UID{o.GetUID()}
	if pod, trouble := x.pod(ctx, o); pod != nil {
		parts = append(parts, "Pod/"+pod.Namespace+"/"+pod.Name+": "+trouble)
		about = append(about, pod.UID)
	}
	if warning := x.warning(ctx, o.GetNamespace(), about); warning != "" {
		parts = append(parts, warning)
	}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	if len(parts) == 0 {
		return ""
	}
	for i, p := range parts {
		parts[i] = tidy(p, maxPart)
	}
	text := strings.Join(parts, "; ")
	if len(unhealthy) > 1 {
		text = first.Check.Subject() + ": " + text
	}
	return tidy(text, maxCause)
}

// blocker is the object worth explaining: one that has failed, else the first that exists.
func blocker(unhealthy []Report) *Report {
	var first *Report
	for i, r := range unhealthy {
		switch {
		case r.Verdict.Status == kube.Failed:
			return &unhealthy[i]
		case first == nil && r.Verdict.Status != kube.NotFound:
			first = &unhealthy[i]
		}
	}
	return first
}

// message is what the object itself says. A controller that cannot create pods says so in a condition that kstatus
// does not look at, and what holds of an expression tells less than the object's own Ready condition.
func (x *wait) message(ctx context.Context, o *unstructured.Unstructured) string {
	if m := conditionMessage(o, "ReplicaFailure", "True"); m != "" {
		return m
	}
	if x.Evaluator.Covers(o.GroupVersionKind().GroupKind()) {
		if m := conditionMessage(o, "Ready", "False"); m != "" {
			return m
		}
	}
	return x.Evaluator.Assess(ctx, o).Message
}

func conditionMessage(o *unstructured.Unstructured, conditionType, status string) string {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == conditionType && c["status"] == status {
			m, _ := c["message"].(string)
			return m
		}
	}
	return ""
}

// pod finds a pod of a workload that is in trouble, the newest first, and names the trouble.
func (x *wait) pod(ctx context.Context, o *unstructured.Unstructured) (*corev1.Pod, string) {
	var found []unstructured.Unstructured
	if o.GetKind() == "Pod" && o.GroupVersionKind().Group == "" {
		found = []unstructured.Unstructured{*o}
	} else if selector := podSelector(o); selector != "" {
		found = x.list(ctx, o.GetNamespace(), "Pod", kube.ListQuery{Labels: selector, Limit: maxPods})
	}
	var pods []*corev1.Pod
	for _, u := range found {
		var pod corev1.Pod
		if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod) == nil {
			pods = append(pods, &pod)
		}
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	for _, trouble := range []func(*corev1.Pod) string{stopped, unready} {
		for _, pod := range pods {
			if text := trouble(pod); text != "" {
				return pod, text
			}
		}
	}
	return nil, ""
}

// podSelector is the label selector of a built-in workload, empty for anything else.
func podSelector(o *unstructured.Unstructured) string {
	if g := o.GroupVersionKind().Group; g != "apps" && g != "batch" {
		return ""
	}
	content, ok, err := unstructured.NestedMap(o.Object, "spec", "selector")
	if !ok || err != nil || len(content) == 0 {
		return ""
	}
	var selector metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &selector); err != nil {
		return ""
	}
	parsed, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		return ""
	}
	return parsed.String()
}

// list reads core objects, none if the owner may not.
func (x *wait) list(ctx context.Context, namespace, kind string, q kube.ListQuery) []unstructured.Unstructured {
	res, err := x.Client.Mapper.Resource(ctx, corev1.SchemeGroupVersion.WithKind(kind))
	if err != nil || namespace == "" {
		return nil
	}
	found, err := x.Client.List(ctx, kube.Ref{Resource: res, Namespace: namespace}, q)
	if err != nil {
		return nil
	}
	return found
}

// stopped names what keeps a pod from running. What a container wrote when it ended is left out: it may hold anything.
func stopped(pod *corev1.Pod) string {
	for _, c := range containers(pod) {
		last := c.LastTerminationState.Terminated
		switch w, t := c.State.Waiting, c.State.Terminated; {
		case w != nil && w.Reason == "CrashLoopBackOff" && last != nil:
			return fmt.Sprintf("container '%s' is waiting: %s after %s", c.Name, w.Reason, exit(last))
		case w != nil && !slices.Contains([]string{"", "ContainerCreating", "PodInitializing"}, w.Reason):
			return fmt.Sprintf("container '%s' is waiting: %s: %s", c.Name, w.Reason, w.Message)
		case t != nil && t.ExitCode != 0:
			return fmt.Sprintf("container '%s' has ended: %s", c.Name, exit(t))
		case last != nil && last.ExitCode != 0 && !c.Ready:
			return fmt.Sprintf("container '%s' was restarted %d times, last after %s", c.Name, c.RestartCount, exit(last))
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason + ": " + c.Message
		}
	}
	if pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "" {
		return pod.Status.Reason + ": " + pod.Status.Message
	}
	return ""
}

// unready names a container that runs and is not ready.
func unready(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Running != nil && !c.Ready {
			return fmt.Sprintf("container '%s' runs and is not ready", c.Name)
		}
	}
	return ""
}

func containers(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}

func exit(t *corev1.ContainerStateTerminated) string {
	return fmt.Sprintf("%s (exit code %d)", t.Reason, t.ExitCode)
}

// warning is the last Warning event about one of the objects.
func (x *wait) warning(ctx context.Context, namespace string, about []types.UID) string {
	var last *corev1.Event
	for _, uid := range about {
		selector := fields.Set{"involvedObject.uid": string(uid), "type": corev1.EventTypeWarning}.AsSelector().String()
		for _, u := range x.list(ctx, namespace, "Event", kube.ListQuery{Fields: selector, Limit: maxEvents}) {
			var e corev1.Event
			if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &e) != nil {
				continue
			}
			if last == nil || happened(&e).After(happened(last)) {
				last = &e
			}
		}
	}
	if last == nil {
		return ""
	}
	return "event " + last.Reason + eventText(last)
}

func happened(e *corev1.Event) time.Time {
	out := e.LastTimestamp.Time
	if e.EventTime.After(out) {
		out = e.EventTime.Time
	}
	if e.Series != nil && e.Series.LastObservedTime.After(out) {
		out = e.Series.LastObservedTime.Time
	}
	return out
}

// eventText is ": message", without what a command of the container has printed, which may hold anything.
func eventText(e *corev1.Event) string {
	switch e.Reason {
	case "FailedPostStartHook", "FailedPreStopHook":
		return ""
	case "Unhealthy":
		probe, output, _ := strings.Cut(e.Message, ": ")
		for _, known := range []string{"HTTP probe failed", "Get ", "dial tcp", "command timed out", "timeout:", "service unhealthy"} {
			if strings.HasPrefix(output, known) {
				return ": " + e.Message
			}
		}
		return ": " + probe
	}
	return ": " + e.Message
}

// tidy makes foreign text one line of at most limit bytes, without the credentials of URLs in it.
func tidy(text string, limit int) string {
	text = strings.Join(strings.Fields(secret.Redact(strings.ToValidUTF8(text, "?"))), " ")
	if len(text) <= limit {
		return text
	}
	cut := limit - len("...")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}
