package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/seed-79636ae9/flux/api/crds"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// sourceInterval and applyInterval only matter for what no event tells: a remote repository, and a cluster that lost a watch.
	sourceInterval = time.Minute
	applyInterval  = 10 * time.Minute
	retryInterval  = 30 * time.Second
	applyTimeout   = 3 * time.Minute

	crdTimeout = 30 * time.Second
)

func gitRepositories() schema.GroupVersionResource {
	return sourcev1.GroupVersion.WithResource("gitrepositories")
}

func ociRepositories() schema.GroupVersionResource {
	return sourcev1.GroupVersion.WithResource("ocirepositories")
}

func kustomizations() schema.GroupVersionResource {
	return kustomizev1.GroupVersion.WithResource("kustomizations")
}

func namespaces() schema.GroupVersionResource {
	return corev1.SchemeGroupVersion.WithResource("namespaces")
}

func definitions() schema.GroupVersionResource {
	return apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")
}

// objects works on the objects of one cluster.
type objects struct{ client dynamic.Interface }

func connect(kubeconfig string) (*objects, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	return connectWith(config)
}

func connectWith(config *rest.Config) (*objects, error) {
	config = rest.CopyConfig(config)
	// One client on the same machine: the server's own fairness is the limiter.
	config.QPS, config.UserAgent = -1, "flux-up"
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return &objects{client: client}, nil
}

// apply puts a typed object into the cluster by server-side apply.
func (o *objects) apply(ctx context.Context, gvr schema.GroupVersionResource, gvk schema.GroupVersionKind, obj metav1.Object) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", gvk.Kind, obj.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(gvk)
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	_, err = o.client.Resource(gvr).Namespace(obj.GetNamespace()).Apply(ctx, obj.GetName(), u, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", gvk.Kind, obj.GetName(), err)
	}
	return nil
}

// installCRDs applies all CRDs and returns when the API server serves them.
func (o *objects) installCRDs(ctx context.Context) error {
	all, err := crds.All()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, crdTimeout, fmt.Errorf("not served after %s", crdTimeout))
	defer cancel()
	for _, crd := range all {
		if err := o.apply(ctx, definitions(), apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"), crd); err != nil {
			return err
		}
	}
	for _, crd := range all {
		err := o.until(ctx, definitions(), "", crd.Name, func(u *unstructured.Unstructured) (bool, error) {
			return established(u), nil
		})
		if err != nil {
			return fmt.Errorf("wait for CRD %s: %w", crd.Name, err)
		}
	}
	return nil
}

func established(u *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == string(apiextensionsv1.Established) {
			return m["status"] == string(apiextensionsv1.ConditionTrue)
		}
	}
	return false
}

// until watches one object until done says so, through reconnects, or ctx ends.
func (o *objects) until(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, done func(*unstructured.Unstructured) (bool, error)) error {
	resource := o.client.Resource(gvr).Namespace(namespace)
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = selector
			return resource.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			return resource.Watch(ctx, options)
		},
	}
	_, err := watchtools.UntilWithSync(ctx, source, &unstructured.Unstructured{}, nil, func(e watch.Event) (bool, error) {
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok || e.Type == watch.Deleted {
			return false, nil
		}
		return done(u)
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (o *objects) createNamespace(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	return o.apply(ctx, namespaces(), corev1.SchemeGroupVersion.WithKind("Namespace"), ns)
}

// followRepository makes the controllers follow repo. Both objects carry token as a request to reconcile now.
func (o *objects) followRepository(ctx context.Context, repo repository, token string) error {
	named := metav1.ObjectMeta{Name: Name, Namespace: Namespace, Annotations: map[string]string{meta.ReconcileRequestAnnotation: token}}
	source := &sourcev1.GitRepository{
		ObjectMeta: named,
		Spec: sourcev1.GitRepositorySpec{
			URL: repo.url, Interval: meta.DurationOf(sourceInterval),
			Ref: &sourcev1.GitRepositoryRef{Branch: repo.branch},
		},
	}
	if err := o.apply(ctx, gitRepositories(), sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind), source); err != nil {
		return err
	}
	applier := &kustomizev1.Kustomization{
		ObjectMeta: named,
		Spec: kustomizev1.KustomizationSpec{
			SourceRef: kustomizev1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: Name},
			Path:      repo.path,
			Interval:  meta.DurationOf(applyInterval), RetryInterval: meta.DurationOf(retryInterval), Timeout: meta.DurationOf(applyTimeout),
			Prune: true, Wait: true,
		},
	}
	return o.apply(ctx, kustomizations(), kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind), applier)
}

// request asks all objects of a resource whose spec.url is url to reconcile now: what the local servers took in is an event, and
// nobody needs to wait for an interval.
func (o *objects) request(ctx context.Context, gvr schema.GroupVersionResource, url, token string) error {
	list, err := o.client.Resource(gvr).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list %s: %w", gvr.Resource, err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{meta.ReconcileRequestAnnotation: token}}})
	if err != nil {
		return err
	}
	var errs []error
	for _, item := range list.Items {
		if found, _, _ := unstructured.NestedString(item.Object, "spec", "url"); found != url {
			continue
		}
		_, err := o.client.Resource(gvr).Namespace(item.GetNamespace()).Patch(ctx, item.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("request a reconcile of %s/%s: %w", item.GetNamespace(), item.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// newToken is a request to reconcile, in the form that 2.9 gives it (cli 14).
func newToken(now time.Time) string { return now.Format(time.RFC3339Nano) }
