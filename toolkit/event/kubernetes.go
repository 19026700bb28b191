package event

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

const (
	defaultKubernetesQueue = 2048

	// A fact repeated word for word is written 25 times, then once in five minutes, which keeps "last seen" useful without a write per
	// retry.
	repeatBurst  = 25
	repeatRefill = 1.0 / 300
	// From the tenth different message of one object, reason and revision within ten minutes on, messages are combined.
	combineAfter  = 10
	combineWindow = 600
	// The caches must hold the objects of a large installation; each entry keeps at most one cut message.
	correlationEntries = 8192

	combinedPrefix = "(combined from similar events): "

	kubernetesTries = 6
	firstRetry      = 500 * time.Millisecond
	lastRetry       = 15 * time.Second
	writeTimeout    = 30 * time.Second
)

// EventClient is the part of client-go's core/v1 EventInterface that a KubernetesWriter needs. Give it the client of all namespaces,
// CoreV1().Events("").
type EventClient interface {
	CreateWithEventNamespaceWithContext(ctx context.Context, event *corev1.Event) (*corev1.Event, error)
	PatchWithEventNamespaceWithContext(ctx context.Context, event *corev1.Event, data []byte) (*corev1.Event, error)
}

// KubernetesOptions configure a KubernetesWriter. Client is required.
type KubernetesOptions struct {
	Client EventClient
	// Queue is how many events may wait; 0 means 2048.
	Queue int
	// Clock drives correlation; nil is the system's clock.
	Clock   clock.PassiveClock
	Log     logr.Logger
	Metrics *Metrics
}

// KubernetesWriter writes core/v1 events in the background, one after another. Repetitions become counts and floods are thinned by
// client-go's correlator. Its filter normally grants each object 25 events and one more every five minutes, whatever they say: a chatty
// object loses its next failure. Here the budget is per fact, so that a new reason, revision or message always gets through, and only
// repetition is thinned.
//
// client-go's broadcaster is not used: it drops silently when its queue is full, and at shutdown forgets what still waits.
type KubernetesWriter struct {
	client     EventClient
	correlator *record.EventCorrelator
	queue      *queue[*corev1.Event]
	log        logr.Logger
	metrics    *Metrics
}

// NewKubernetesWriter starts a writer; Shutdown ends it.
func NewKubernetesWriter(o KubernetesOptions) *KubernetesWriter {
	if o.Queue == 0 {
		o.Queue = defaultKubernetesQueue
	}
	w := &KubernetesWriter{
		client:  o.Client,
		log:     o.Log,
		metrics: o.Metrics,
		correlator: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{
			LRUCacheSize:         correlationEntries,
			BurstSize:            repeatBurst,
			QPS:                  repeatRefill,
			KeyFunc:              combineKey,
			MessageFunc:          func(e *corev1.Event) string { return combinedPrefix + e.Message },
			MaxEvents:            combineAfter,
			MaxIntervalInSeconds: combineWindow,
			Clock:                o.Clock,
			SpamKeyFunc:          repeatKey,
		}),
	}
	w.queue = startQueue(o.Queue, w.record)
	return w
}

// Write queues the event. It returns at once; an event that finds the queue full is dropped and counted.
func (w *KubernetesWriter) Write(e *corev1.Event) {
	w.metrics.count(destinationKubernetes, w.queue.offer(e))
}

// Shutdown writes what is queued and ends the writer. When ctx ends first the rest is dropped and an error says how much.
func (w *KubernetesWriter) Shutdown(ctx context.Context) error { return w.queue.shutdown(ctx) }

func (w *KubernetesWriter) record(ctx context.Context, e *corev1.Event) {
	w.metrics.count(destinationKubernetes, w.deliver(ctx, e))
}

func (w *KubernetesWriter) deliver(ctx context.Context, e *corev1.Event) string {
	result, err := w.correlator.EventCorrelate(e)
	if err != nil {
		w.log.Error(err, "unable to correlate event", "reason", e.Reason)
		return resultRejected
	}
	if result.Skip {
		return resultFiltered
	}
	// The correlator builds combined events anew and forgets these.
	result.Event.Annotations = e.Annotations
	result.Event.ReportingController = e.ReportingController
	var wait backoff
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return resultShutdown
		}
		written, err := w.write(ctx, result.Event, result.Patch)
		if err == nil {
			w.correlator.UpdateState(written)
			return resultDelivered
		}
		switch {
		case ctx.Err() != nil:
			return resultShutdown
		case !transient(err):
			w.log.V(1).Info("API server refuses event", "reason", e.Reason, "error", err.Error())
			return resultRejected
		case try == kubernetesTries:
			w.log.Error(err, "unable to write event", "reason", e.Reason, "object", objectName(e))
			return resultGaveUp
		}
		wait.pause(ctx)
	}
}

func (w *KubernetesWriter) write(ctx context.Context, e *corev1.Event, patch []byte) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if e.Count > 1 {
		written, err := w.client.PatchWithEventNamespaceWithContext(ctx, e, patch)
		if !apierrors.IsNotFound(err) {
			return written, err
		}
		// Events expire after an hour; the next occurrence starts anew, and a create must not name a version.
		e.ResourceVersion = ""
	}
	return w.client.CreateWithEventNamespaceWithContext(ctx, e)
}

// transient tells failures of the API server or the way to it, which pass, from refusals, which do not. An error without an API status
// never reached a decision.
func transient(err error) bool {
	if apierrors.ReasonForError(err) == "" {
		return true
	}
	return apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
}

// factKey names what an event is about, without its message.
func factKey(e *corev1.Event) string {
	object := e.InvolvedObject
	return strings.Join([]string{
		e.Source.Component, object.APIVersion, object.Kind, object.Namespace, object.Name, string(object.UID), e.Type, e.Reason,
		e.Annotations[qualify(object.GroupVersionKind().Group, "revision")],
	}, "\x00")
}

// combineKey groups events for combination; the message is hashed because the correlator remembers it for each group.
func combineKey(e *corev1.Event) (group, message string) {
	return factKey(e), messageHash(e)
}

// repeatKey selects the budget an event draws from. Combined events share one: their messages differ every time.
func repeatKey(e *corev1.Event) string {
	if strings.HasPrefix(e.Message, combinedPrefix) {
		return factKey(e)
	}
	return factKey(e) + "\x00" + messageHash(e)
}

func messageHash(e *corev1.Event) string {
	sum := sha256.Sum256([]byte(e.Message))
	return string(sum[:])
}

func objectName(e *corev1.Event) string {
	return fmt.Sprintf("%s/%s/%s", e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name)
}
