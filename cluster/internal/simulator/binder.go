package simulator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// binder does the one thing that is left of a scheduler's work when there is one node with room for everything.
type binder struct {
	client kubernetes.Interface
	queue  workqueue.TypedRateLimitingInterface[podKey]
}

type podKey struct {
	namespace, name string
	uid             types.UID
}

func newBinder(client kubernetes.Interface) *binder {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[podKey](50*time.Millisecond, 30*time.Second)
	return &binder{client: client, queue: workqueue.NewTypedRateLimitingQueue(limiter)}
}

// run binds pods until ctx ends.
func (b *binder) run(ctx context.Context) error {
	unbound := cache.NewListWatchFromClient(b.client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, fields.OneTermEqualSelector("spec.nodeName", ""))
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: unbound,
		ObjectType:    &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    b.consider,
			UpdateFunc: func(_, pod any) { b.consider(pod) },
		},
	})
	for range workers {
		go b.work(ctx)
	}
	informer.RunWithContext(ctx)
	b.queue.ShutDown()
	return nil
}

func (b *binder) consider(object any) {
	if pod, ok := object.(*corev1.Pod); ok && bindable(pod) {
		b.queue.Add(podKey{namespace: pod.Namespace, name: pod.Name, uid: pod.UID})
	}
}

// bindable leaves those pods alone that a real default scheduler would leave alone, too.
func bindable(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.DeletionTimestamp == nil && len(pod.Spec.SchedulingGates) == 0 &&
		pod.Spec.SchedulerName == corev1.DefaultSchedulerName
}

func (b *binder) work(ctx context.Context) {
	for {
		key, shutdown := b.queue.Get()
		if shutdown {
			return
		}
		if err := b.bind(ctx, key); err != nil {
			klog.ErrorS(err, "Bind pod", "pod", klog.KRef(key.namespace, key.name))
			b.queue.AddRateLimited(key)
		} else {
			b.queue.Forget(key)
		}
		b.queue.Done(key)
	}
}

func (b *binder) bind(ctx context.Context, key podKey) error {
	err := b.client.CoreV1().Pods(key.namespace).Bind(ctx, &corev1.Binding{
		// The API server copies the labels to the pod in the same write.
		ObjectMeta: metav1.ObjectMeta{Name: key.name, Namespace: key.namespace, UID: key.uid, Labels: map[string]string{Label: "true"}},
		Target:     corev1.ObjectReference{Kind: "Node", Name: NodeName},
	}, metav1.CreateOptions{})
	// Bound, gated, deleted or replaced by a pod of its name meanwhile: if work is left, another event brings it.
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bind pod: %w", err)
	}
	return nil
}
