package event

import (
	"maps"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	recordutil "k8s.io/client-go/tools/record/util"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Writer records Kubernetes events. Write returns at once; KubernetesWriter is the implementation.
type Writer interface {
	Write(e *corev1.Event)
}

// Recorder records the events of one component. All fields are read only after the first Emit; a Recorder is safe for concurrent use.
type Recorder struct {
	// Component is source.component of Kubernetes events and reportingController of payloads, such as "kustomize-controller".
	Component string
	// Instance is reportingInstance of payloads: the host name.
	Instance string
	// Scheme finds the kind of a typed object.
	Scheme *runtime.Scheme
	// Kubernetes records the Kubernetes event; nil records none.
	Kubernetes Writer
	// Sink takes the payload; nil posts none.
	Sink Sink
	// Redact removes secrets from a text: it sees every message and every metadata value. Nil changes nothing.
	Redact func(string) string
	// Clock gives timestamps; nil is the system's clock.
	Clock clock.PassiveClock
	// Log hears of events that name no recordable object.
	Log logr.Logger
}

// Emit records e about obj. It does not wait for any receiver.
func (r *Recorder) Emit(obj client.Object, e Event) {
	ref, err := r.reference(obj)
	if err != nil {
		r.Log.Error(err, "unable to record event: kind of the object is unknown", "reason", e.Reason)
		return
	}
	e.Message = r.redact(e.Message)
	metadata := r.metadata(ref.GroupVersionKind().Group, obj, e)
	now := metav1.NewTime(r.now())

	if r.Kubernetes != nil {
		r.Kubernetes.Write(r.kubernetesEvent(ref, e, metadata, now))
	}
	if r.Sink == nil || e.Local || e.Severity == Trace || ref.Kind == "" || ref.Name == "" || ref.Namespace == "" {
		return
	}
	r.Sink.Post(Payload{
		InvolvedObject:      ref,
		Severity:            e.Severity,
		Timestamp:           now,
		Message:             cut(e.Message, MaxPayloadMessage, ""),
		Reason:              e.Reason,
		Metadata:            maps.Clone(metadata),
		ReportingController: r.Component,
		ReportingInstance:   r.Instance,
	})
}

func (r *Recorder) reference(obj client.Object) (corev1.ObjectReference, error) {
	gvk, err := apiutil.GVKForObject(obj, r.Scheme)
	if err != nil {
		return corev1.ObjectReference{}, err
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return corev1.ObjectReference{}, err
	}
	return corev1.ObjectReference{
		Kind:            gvk.Kind,
		APIVersion:      gvk.GroupVersion().String(),
		Namespace:       accessor.GetNamespace(),
		Name:            accessor.GetName(),
		UID:             accessor.GetUID(),
		ResourceVersion: accessor.GetResourceVersion(),
	}, nil
}

// metadata is nil when there is none, so that neither the annotations nor the JSON show an empty map.
func (r *Recorder) metadata(group string, obj client.Object, e Event) map[string]string {
	out := map[string]string{}
	for key, value := range e.Metadata {
		out[qualify(group, key)] = r.redact(value)
	}
	for key, value := range obj.GetAnnotations() {
		if strings.HasPrefix(key, annotationPrefix) {
			out[key] = r.redact(value)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (r *Recorder) kubernetesEvent(ref corev1.ObjectReference, e Event, annotations map[string]string, now metav1.Time) *corev1.Event {
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	kind := corev1.EventTypeNormal
	if e.Severity == Error {
		kind = corev1.EventTypeWarning
	}
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:        recordutil.GenerateEventName(ref.Name, now.UnixNano()),
			Namespace:   namespace,
			Annotations: annotations,
		},
		InvolvedObject:      ref,
		Reason:              e.Reason,
		Message:             cut(e.Message, MaxKubernetesMessage, "..."),
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
		Type:                kind,
		Source:              corev1.EventSource{Component: r.Component},
		ReportingController: r.Component,
	}
}

func (r *Recorder) redact(s string) string {
	if r.Redact == nil {
		return s
	}
	return r.Redact(s)
}

func (r *Recorder) now() time.Time {
	if r.Clock == nil {
		return clock.RealClock{}.Now()
	}
	return r.Clock.Now()
}
