package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// Sync says how far the cluster has followed the repository.
type Sync struct {
	// Ready is true when everything in Revision is applied and healthy.
	Ready    bool   `json:"ready"`
	Revision string `json:"revision,omitempty"`
	Message  string `json:"message"`
	// Suspended is true when the source or the Kustomization is.
	Suspended bool `json:"suspended,omitempty"`
}

// verdict is what the status of the two objects says about one request.
type verdict struct {
	Sync
	// failed tells a failure from work in progress.
	failed bool
}

// judge reads the status of the source and the Kustomization. With answered, only what they say after the latest request counts: the
// first one of flux up, or one that a push or a person has put in its place.
func judge(source *sourcev1.GitRepository, applier *kustomizev1.Kustomization, answered bool) verdict {
	v := verdict{Sync: Sync{Message: "waiting for the controllers", Suspended: source.Spec.Suspend || applier.Spec.Suspend}}
	if v.Suspended {
		v.Message = "suspended"
	}
	if artifact := source.Status.Artifact; artifact != nil {
		v.Revision = artifact.Revision
	}
	if !v.read(source.Generation, source.Status.ObservedGeneration, source.Status.Conditions, !answered || handled(source, source.Status.LastHandledReconcileAt)) {
		return v
	}
	if !v.read(applier.Generation, applier.Status.ObservedGeneration, applier.Status.Conditions, !answered || handled(applier, applier.Status.LastHandledReconcileAt)) {
		return v
	}
	if applier.Status.LastAppliedRevision != v.Revision {
		v.Message = "applying " + v.Revision
		return v
	}
	v.Ready = true
	return v
}

// passing tells the reasons of Ready=False that stand for work yet to come.
func passing(reason string) bool {
	switch reason {
	case meta.DependencyNotReadyReason, meta.ProgressingReason, meta.ArtifactFailedReason, meta.HealthCheckCanceledReason:
		return true
	}
	return false
}

// handled tells whether an object's last request was answered.
func handled(o metav1.Object, last string) bool {
	request := o.GetAnnotations()[meta.ReconcileRequestAnnotation]
	return request != "" && request == last
}

// read takes in one object's conditions and returns true when it is ready.
func (v *verdict) read(generation, observed int64, conditions []metav1.Condition, handled bool) bool {
	ready := apimeta.FindStatusCondition(conditions, meta.ReadyCondition)
	if ready == nil || !handled {
		return false
	}
	v.Message = ready.Message
	switch ready.Status {
	case metav1.ConditionTrue:
		return observed == generation
	case metav1.ConditionFalse:
		v.failed = !passing(ready.Reason)
	}
	return false
}

// awaitSync returns when the latest request of both objects is fulfilled, or at the first failure: the controllers go on trying, but whoever waits
// wants to know.
func (o *objects) awaitSync(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sources, appliers := make(chan *unstructured.Unstructured), make(chan *unstructured.Unstructured)
	ended := make(chan error, 2)
	forward := func(to chan<- *unstructured.Unstructured) func(*unstructured.Unstructured) (bool, error) {
		return func(u *unstructured.Unstructured) (bool, error) {
			select {
			case to <- u:
			case <-ctx.Done():
			}
			return false, nil
		}
	}
	go func() { ended <- o.until(ctx, gitRepositories(), Namespace, Name, forward(sources)) }()
	go func() { ended <- o.until(ctx, kustomizations(), Namespace, Name, forward(appliers)) }()
	var source sourcev1.GitRepository
	var applier kustomizev1.Kustomization
	for {
		var err error
		select {
		case u := <-sources:
			err = decode(u, &source)
		case u := <-appliers:
			err = decode(u, &applier)
		case err = <-ended:
		}
		if err != nil {
			return fmt.Errorf("wait for the first sync: %w", err)
		}
		v := judge(&source, &applier, true)
		switch {
		case v.Ready:
			return nil
		case v.failed:
			return errors.New(v.Message)
		}
	}
}

func decode[T any](u *unstructured.Unstructured, into *T) error {
	var fresh T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &fresh); err != nil {
		return fmt.Errorf("decode %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	*into = fresh
	return nil
}

// syncTimeout bounds the question of status for the state of the sync.
const syncTimeout = 3 * time.Second

// readSync asks the cluster of a kubeconfig how far it is.
func readSync(ctx context.Context, kubeconfig string) (Sync, error) {
	o, err := connect(kubeconfig)
	if err != nil {
		return Sync{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	u, err := o.client.Resource(gitRepositories()).Namespace(Namespace).Get(ctx, Name, metav1.GetOptions{})
	if err != nil {
		return Sync{}, fmt.Errorf("read the source: %w", err)
	}
	var source sourcev1.GitRepository
	if err := decode(u, &source); err != nil {
		return Sync{}, err
	}
	if u, err = o.client.Resource(kustomizations()).Namespace(Namespace).Get(ctx, Name, metav1.GetOptions{}); err != nil {
		return Sync{}, fmt.Errorf("read the Kustomization: %w", err)
	}
	var applier kustomizev1.Kustomization
	if err := decode(u, &applier); err != nil {
		return Sync{}, err
	}
	return judge(&source, &applier, false).Sync, nil
}
