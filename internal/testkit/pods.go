package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// RunPods plays scheduler and kubelet for every Pod until ctx ends: a Pod that restarts always
// becomes Running and Ready, any other Succeeded; an image containing "fails" makes it Failed, one
// containing "never" leaves it Pending for ever. Pods are not bound to a node.
func RunPods(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating a client for the Pods: %w", err)
	}
	settle := func(obj any) {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.DeletionTimestamp != nil {
			return
		}
		status := podStatus(pod, time.Now())
		if status == nil {
			return
		}
		patch, err := json.Marshal(map[string]any{"status": status})
		if err == nil {
			_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: "pod-stand-in"}, "status")
		}
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			slog.Warn("the pod stand-in could not patch a Pod", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		}
	}
	pods := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", "", fields.OneTermEqualSelector("status.phase", string(corev1.PodPending)))
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: pods,
		ObjectType:    &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    settle,
			UpdateFunc: func(_, obj any) { settle(obj) },
		},
	})
	informer.RunWithContext(ctx)
	return nil
}

// podStatus is the status that a Pending Pod gets, or nil when it stays as it is.
func podStatus(pod *corev1.Pod, now time.Time) *corev1.PodStatus {
	fails := false
	for _, c := range pod.Spec.Containers {
		if strings.Contains(c.Image, "never") {
			return nil
		}
		fails = fails || strings.Contains(c.Image, "fails")
	}
	at := metav1.NewTime(now)
	status := &corev1.PodStatus{StartTime: &at}
	ready := corev1.ConditionFalse
	switch {
	case fails:
		status.Phase = corev1.PodFailed
	case pod.Spec.RestartPolicy == corev1.RestartPolicyAlways || pod.Spec.RestartPolicy == "":
		status.Phase, ready = corev1.PodRunning, corev1.ConditionTrue
	default:
		status.Phase = corev1.PodSucceeded
	}
	for _, condition := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		value := ready
		if condition == corev1.PodScheduled || condition == corev1.PodInitialized {
			value = corev1.ConditionTrue
		}
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: condition, Status: value, LastTransitionTime: at})
	}
	for _, c := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, containerStatus(c, status.Phase, at))
	}
	return status
}

func containerStatus(c corev1.Container, phase corev1.PodPhase, at metav1.Time) corev1.ContainerStatus {
	status := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: phase == corev1.PodRunning}
	switch phase {
	case corev1.PodRunning:
		started := true
		status.Started = &started
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: at}
	case corev1.PodFailed:
		status.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", StartedAt: at, FinishedAt: at}
	default:
		status.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 0, Reason: "Completed", StartedAt: at, FinishedAt: at}
	}
	return status
}
