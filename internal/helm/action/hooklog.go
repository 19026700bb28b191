package action

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/seed-79636ae9/flux/toolkit/health"
)

// Limits of what is shown of the log of a hook, which ends in a condition.
const (
	hookLogLines = 10
	hookLogRead  = 4 << 10 // bytes read
	hookLogShown = 600     // bytes shown
	hookLogTime  = 5 * time.Second
	hookPods     = 10
	// shortSecret is what is too short to be found in a text without hiding half of it.
	shortSecret = 4
	maxSecrets  = 1000
)

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// withLog adds to the error of a hook the last lines that it has logged, as far as the API server gives them to the HelmRelease. What is a
// secret in the release is left out of them.
func (w *waits) withLog(err error) error {
	var unhealthy *health.Error
	if !errors.As(err, &unhealthy) || !unhealthy.Stalled || len(unhealthy.Unhealthy) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(w.ctx, hookLogTime)
	defer cancel()
	pod := w.hookPod(ctx, unhealthy.Unhealthy[0].Check)
	if pod == nil {
		return err
	}
	r := w.requests.within(ctx)
	req := r.to(http.MethodGet, pods, pod.Namespace, pod.Name).SubResource("log").Param("container", failedContainer(pod)).
		Param("tailLines", strconv.Itoa(hookLogLines)).Param("limitBytes", strconv.Itoa(hookLogRead))
	text, logErr := req.Do(ctx).Raw()
	if logErr != nil {
		return err
	}
	shown := tidy(w.masked(string(text)), hookLogShown)
	if shown == "" {
		return err
	}
	return fmt.Errorf("%w: log of Pod/%s/%s: %s", err, pod.Namespace, pod.Name, shown)
}

// hookPod finds the Pod of a hook that was created last.
func (w *waits) hookPod(ctx context.Context, c health.Check) *corev1.Pod {
	r := w.requests.within(ctx)
	var list corev1.PodList
	switch c.GroupKind() {
	case podKind:
		list.Items = make([]corev1.Pod, 1)
		if _, err := r.decode(r.to(http.MethodGet, pods, c.Namespace, c.Name), &list.Items[0]); err != nil {
			return nil
		}
	case jobKind:
		req := r.to(http.MethodGet, pods, c.Namespace, "").
			Param("labelSelector", batchv1.JobNameLabel+"="+c.Name).Param("limit", strconv.Itoa(hookPods))
		if _, err := r.decode(req, &list); err != nil || len(list.Items) == 0 {
			return nil
		}
	default:
		return nil
	}
	last := slices.MaxFunc(list.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return &last
}

// failedContainer is the container of a Pod that failed, or its first.
func failedContainer(pod *corev1.Pod) string {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return s.Name
		}
	}
	if len(pod.Spec.Containers) > 0 {
		return pod.Spec.Containers[0].Name
	}
	return ""
}

// secretsOf are the values in a Secret.
func secretsOf(info *resource.Info) []string {
	if gvk := info.Mapping.GroupVersionKind; gvk.Group != "" || gvk.Kind != "Secret" {
		return nil
	}
	o, ok := info.Object.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	var out []string
	plain, _, _ := unstructured.NestedStringMap(o.Object, "stringData")
	for _, v := range plain {
		out = append(out, v)
	}
	encoded, _, _ := unstructured.NestedStringMap(o.Object, "data")
	for _, v := range encoded {
		out = append(out, v)
		if b, err := base64.StdEncoding.DecodeString(v); err == nil {
			out = append(out, string(b))
		}
	}
	return out
}

// masked replaces what is secret in a text. A secret may have several lines, which a log shows one by one.
func (w *waits) masked(text string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.secrets[:min(len(w.secrets), maxSecrets)] {
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= shortSecret {
				text = strings.ReplaceAll(text, line, "***")
			}
		}
	}
	return text
}
