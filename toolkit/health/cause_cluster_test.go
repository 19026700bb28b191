package health

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// podOf awaits the pod of a deployment.
func (l *lab) podOf(name string) *unstructured.Unstructured {
	l.t.Helper()
	pods := l.resource(schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	for deadline := time.Now().Add(30 * time.Second); ; {
		list, err := pods.List(l.t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			l.t.Fatal(err)
		}
		if len(list.Items) > 0 {
			return &list.Items[0]
		}
		if time.Now().After(deadline) {
			l.t.Fatal("the deployment has no pod")
		}
	}
}

// kustomization 92: the words of 2.9, and then what keeps the first object from being healthy, as far as the owner may see it.
func TestCause(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := l.apply(deployment("stuck", "example.com/never:1"), true)
	pod := l.podOf("stuck")
	l.apply("{apiVersion: v1, kind: Event, metadata: {name: pull}, type: Warning, reason: Failed, message: 'pull of https://u:hunter2@example.com failed', lastTimestamp: '2026-01-02T00:00:00Z', involvedObject: {apiVersion: v1, kind: Pod, namespace: "+
		l.ns+", name: "+pod.GetName()+", uid: "+string(pod.GetUID())+"}}", false)

	failed := func() *Error {
		t.Helper()
		err := l.waiter.Wait(t.Context(), l.owner, []Check{c}, time.Minute)
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("the wait ended with %v", err)
		}
		return e
	}
	want := "failed early due to stalled resources: [Deployment/" + l.ns + "/stuck status: 'Failed']: Progress deadline exceeded; Pod/" + l.ns + "/" + pod.GetName() +
		`: container 'm' is waiting: ImagePullBackOff: simulated: image example.com/never:1 is never pulled; event Failed: pull of https://example.com failed`
	if got := failed().Error(); got != want {
		t.Errorf("error: %s\nwant:  %s", got, want)
	}

	clients, err := kube.NewClients(kube.ClientsOptions{Config: l.waiter.Client.Config()})
	if err != nil {
		t.Fatal(err)
	}
	own := l.waiter.Client
	if l.waiter.Client, err = clients.For(t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: "nobody"}); err != nil {
		t.Fatal(err)
	}
	if got := failed(); got.Cause != "" {
		t.Errorf("an account without rights is told %q", got.Cause)
	}
	l.waiter.Client = own

	// When several objects are late, the cause says which one it is about.
	absent := Check{GroupVersionKind: c.GroupVersionKind, Namespace: l.ns, Name: "absent"}
	l.waiter.KeepWaiting = true
	err = l.waiter.Wait(t.Context(), l.owner, []Check{absent, c}, time.Millisecond)
	if want := "stuck status: 'Failed']: Deployment/" + l.ns + "/stuck: Progress deadline exceeded; Pod/"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error: %v\nwant %s in it", err, want)
	}
}
