package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Reasons of the events about Alerts (wire contract 6).
const (
	dispatchFailedReason = "NotificationDispatchFailed"
	sourceFailedReason   = "SourceFetchFailed"
	invalidConfigReason  = "InvalidConfig"
	appendFailedReason   = "MetadataAppendFailed"
)

// matchTime is how long it may take to find the Alerts of one event (alert 6).
const matchTime = 15 * time.Second

// ErrDuplicate says that the same event was dispatched a short while ago (alert 4).
var ErrDuplicate = errors.New("the event was dispatched already")

// Emitter records events about Alerts; it must not block.
type Emitter interface {
	Emit(obj client.Object, e event.Event)
}

// DispatcherOptions is what a Dispatcher needs.
type DispatcherOptions struct {
	// Client reads Alerts and Providers from the cache.
	Client client.Reader
	// Reader reads Secrets and the labels of objects live.
	Reader client.Reader
	// Events records what happens to Alerts.
	Events Emitter
	// Auth obtains credentials from clouds and Git hosts.
	Auth *auth.Authenticator
	// RateLimit is how long the same event is not dispatched again (--rate-limit-interval).
	RateLimit time.Duration
	// NoCrossNamespaceRefs keeps events inside the namespace of the Alert (alert 12).
	NoCrossNamespaceRefs bool
	// UserAgent of requests to services.
	UserAgent string
	// Metrics counts notifications; may be nil.
	Metrics *Metrics
	Log     logr.Logger
	// Now is the clock of rate limits; nil: the system's.
	Now func() time.Time
}

// Dispatcher tells Providers of the events that Alerts ask for. It is safe for concurrent use.
type Dispatcher struct {
	client      client.Reader
	reader      client.Reader
	events      Emitter
	auth        *auth.Authenticator
	noCross     bool
	userAgent   string
	metrics     *Metrics
	log         logr.Logger
	limiter     *limiter
	patterns    patterns
	secrets     secrets
	transports  provider.Transports
	expressions expressions
	outbox      *outbox
}

// NewDispatcher returns a Dispatcher; Shutdown ends it.
func NewDispatcher(o DispatcherOptions) *Dispatcher {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Dispatcher{
		client: o.Client, reader: o.Reader, events: o.Events, auth: o.Auth, noCross: o.NoCrossNamespaceRefs, userAgent: o.UserAgent,
		metrics: o.Metrics, log: o.Log, limiter: newLimiter(o.RateLimit, o.Now), secrets: secrets{reader: o.Reader, now: o.Now},
	}
	d.outbox = newOutbox(d.deliver, d.drop)
	return d
}

// Shutdown delivers what waits. When ctx ends first the rest is dropped and counted, and an error says how much.
func (d *Dispatcher) Shutdown(ctx context.Context) error {
	defer d.transports.Close()
	return d.outbox.shutdown(ctx)
}

// Dispatch finds the Alerts that an event is for and queues it for their Providers. It returns ErrDuplicate for an event that was
// dispatched within the rate limit; whatever else goes wrong is told about the Alert (alert 4-8).
func (d *Dispatcher) Dispatch(ctx context.Context, p event.Payload) error {
	p.Metadata = keptMetadata(&p)
	if !d.limiter.allow(keyOf(&p)) {
		return ErrDuplicate
	}
	delete(p.Metadata, groupPrefix(&p)+tokenKey)
	ctx, cancel := context.WithTimeout(ctx, matchTime)
	defer cancel()
	var alerts notificationv1beta3.AlertList
	// Nothing below changes an Alert.
	if err := d.client.List(ctx, &alerts, client.UnsafeDisableDeepCopy); err != nil {
		d.log.Error(err, "unable to list Alerts: the event is lost", "object", objectOf(&p), "reason", p.Reason)
		return nil
	}
	object := &labelled{reader: d.reader, payload: &p}
	for i := range alerts.Items {
		d.consider(ctx, &alerts.Items[i], &p, object)
	}
	return nil
}

// consider queues the event for the Provider of one Alert, if the Alert is for it.
func (d *Dispatcher) consider(ctx context.Context, alert *notificationv1beta3.Alert, p *event.Payload, object *labelled) {
	if alert.Spec.Suspend || !alert.DeletionTimestamp.IsZero() || !severe(alert, p.Severity) || !d.fromSource(ctx, alert, p, object) {
		return
	}
	if d.noCross && alert.Namespace != p.InvolvedObject.Namespace {
		d.failed(alert, "failed to dispatch notification for %s: the Alert '%s/%s' may not refer to the namespace '%s': "+
			"references to other namespaces are not allowed", objectOf(p), alert.Namespace, alert.Name, p.InvolvedObject.Namespace)
		return
	}
	complain := func(message string) { d.warn(alert, invalidConfigReason, message) }
	if !d.patterns.admits(alert, p.Message, complain) {
		return
	}
	found, kind, err := d.provider(ctx, alert)
	switch {
	case err != nil:
		d.failed(alert, "failed to dispatch notification for %s: %s", objectOf(p), err)
		return
	case found == nil || !d.interests(kind, alert, p):
		return
	}
	payload := *p
	var conflicts []string
	if payload.Metadata, conflicts = combinedMetadata(p, alert); len(conflicts) > 0 {
		d.warn(alert, appendFailedReason, fmt.Sprintf("metadata of the event for %s has more than one value for: %s; that of the object wins, then that of the Alert",
			objectOf(p), strings.Join(conflicts, ", ")))
	}
	d.outbox.put(&job{alert: client.ObjectKeyFromObject(alert), provider: client.ObjectKeyFromObject(found), payload: payload})
}

// provider returns the Provider of an Alert and its type; nil: the Provider is suspended.
func (d *Dispatcher) provider(ctx context.Context, alert *notificationv1beta3.Alert) (*notificationv1beta3.Provider, provider.Type, error) {
	var p notificationv1beta3.Provider
	key := types.NamespacedName{Namespace: alert.Namespace, Name: alert.Spec.ProviderRef.Name}
	if err := d.client.Get(ctx, key, &p); err != nil {
		return nil, provider.Type{}, fmt.Errorf("failed to read provider: %w", err)
	}
	kind, ok := provider.Find(p.Spec.Type)
	switch {
	case p.Spec.Suspend:
		return nil, kind, nil
	case !ok:
		return nil, kind, fmt.Errorf("failed to initialize notifier for provider '%s': type '%s' is not supported", p.Name, p.Spec.Type)
	}
	return &p, kind, nil
}

// interests reports whether events like this one go to Providers of the type (alert 14-16, 28).
func (d *Dispatcher) interests(kind provider.Type, alert *notificationv1beta3.Alert, p *event.Payload) bool {
	update := isStatusUpdate(p)
	switch {
	case kind.PostsCommitStatus():
		if update || p.Metadata[commitKey] != "" || p.Severity == event.Error {
			return true
		}
		about(d.log, client.ObjectKeyFromObject(alert)).Info("the event names no commit: there is no commit status to post", "object", objectOf(p))
		return false
	case update:
		return kind.StatusUpdates
	case kind.ForChangeRequests():
		return p.Metadata[changeRequestKey] != ""
	}
	return true
}

// fromSource reports whether the event is about an object that the Alert names (alert 8, 10, 24).
func (d *Dispatcher) fromSource(ctx context.Context, alert *notificationv1beta3.Alert, p *event.Payload, object *labelled) bool {
	for i := range alert.Spec.EventSources {
		source := &alert.Spec.EventSources[i]
		if !names(source, alert.Namespace, p) {
			continue
		}
		if len(source.MatchLabels) == 0 {
			return true
		}
		has, err := object.labels(ctx)
		if err != nil {
			d.warn(alert, sourceFailedReason, fmt.Sprintf("failed to read the labels of %s: %s", objectOf(p), err))
			continue
		}
		if labels.SelectorFromSet(source.MatchLabels).Matches(has) {
			return true
		}
	}
	return false
}

// labelled reads the labels of an event's object once, however many Alerts want them.
type labelled struct {
	reader  client.Reader
	payload *event.Payload
	read    bool
	found   labels.Set
	err     error
}

func (l *labelled) labels(ctx context.Context) (labels.Set, error) {
	if !l.read {
		l.read = true
		o := &l.payload.InvolvedObject
		meta := &metav1.PartialObjectMetadata{}
		meta.SetGroupVersionKind(schema.FromAPIVersionAndKind(o.APIVersion, o.Kind))
		l.err = l.reader.Get(ctx, types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, meta)
		l.found = meta.Labels
	}
	return l.found, l.err
}

// deliver tells the Provider of one event, as it is now: it may have changed while the event waited (provider 2).
func (d *Dispatcher) deliver(ctx context.Context, j *job) {
	var alert notificationv1beta3.Alert
	if err := d.client.Get(ctx, j.alert, &alert); err != nil || alert.Spec.Suspend {
		// Nobody is left to hear of it, or to be told why not.
		return
	}
	found, kind, err := d.provider(ctx, &alert)
	switch {
	case err != nil:
		d.failed(&alert, "failed to dispatch notification for %s: %s", objectOf(&j.payload), err)
		return
	case found == nil:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, found.GetTimeout())
	defer cancel()
	hidden, notifier, err := d.notifier(ctx, &alert, found, kind, &j.payload)
	if err != nil {
		d.failed(&alert, "failed to dispatch notification for %s: %s", objectOf(&j.payload), secret.Redact(err.Error(), hidden...))
		return
	}
	if err := guarded(ctx, d.log, notifier, j.payload); err != nil {
		d.failed(&alert, "failed to send notification for %s: %s", objectOf(&j.payload), secret.Redact(err.Error(), hidden...))
		return
	}
	d.metrics.count(j.alert, j.provider.Name, sentResult)
}

// guarded turns a panic into an error: what one service has answered must not end the process.
func guarded(ctx context.Context, log logr.Logger, n provider.Notifier, p event.Payload) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log.Error(fmt.Errorf("%v", r), "panic while telling a Provider", "object", objectOf(&p), "stack", string(debug.Stack()))
			err = errors.New("internal error: panic while telling the Provider")
		}
	}()
	return n.Notify(ctx, p)
}

// notifier returns what tells the service, and the values that no message may hold.
func (d *Dispatcher) notifier(ctx context.Context, alert *notificationv1beta3.Alert, p *notificationv1beta3.Provider, kind provider.Type, e *event.Payload) ([]string, provider.Notifier, error) {
	wrap := func(err error) error {
		return fmt.Errorf("failed to initialize notifier for provider '%s': %w", p.Name, err)
	}
	if err := p.DurationError(); err != nil {
		return nil, nil, wrap(err)
	}
	s, err := d.config(ctx, p, kind)
	if err != nil {
		return nil, nil, wrap(err)
	}
	s.Alert = provider.Owner{Namespace: alert.Namespace, Name: alert.Name, UID: string(alert.UID)}
	if kind.PostsCommitStatus() {
		if s.CommitStatus, err = d.expressions.commitStatus(ctx, e, alert, p); err != nil {
			return s.hidden, nil, wrap(err)
		}
	}
	n, err := kind.New(s.Config)
	if err != nil {
		return s.hidden, nil, wrap(fmt.Errorf("failed to initialize notifier: %w", err))
	}
	return s.hidden, n, nil
}

// drop tells of an event that had no room, or no time.
func (d *Dispatcher) drop(j *job) {
	d.metrics.count(j.alert, j.provider.Name, droppedResult)
	about(d.log, j.alert).Info("a notification was dropped: its Provider is slower than events come, or the process ends",
		"provider", j.provider.String(), "object", objectOf(&j.payload), "reason", j.payload.Reason)
}

// failed tells of an event that a Provider was not told.
func (d *Dispatcher) failed(alert *notificationv1beta3.Alert, format string, args ...any) {
	d.metrics.count(client.ObjectKeyFromObject(alert), alert.Spec.ProviderRef.Name, failedResult)
	d.warn(alert, dispatchFailedReason, fmt.Sprintf(format, args...))
}

// about gives a log line the keys that `flux logs` reads (wire contract 18b).
func about(log logr.Logger, alert types.NamespacedName) logr.Logger {
	return log.WithValues("controller", "alert", "controllerGroup", notificationv1beta3.GroupName, "controllerKind", notificationv1beta3.AlertKind,
		notificationv1beta3.AlertKind, klog.KRef(alert.Namespace, alert.Name), "namespace", alert.Namespace, "name", alert.Name)
}

func (d *Dispatcher) warn(alert *notificationv1beta3.Alert, reason, message string) {
	about(d.log, client.ObjectKeyFromObject(alert)).Error(nil, message, "reason", reason)
	// Local: an event about an Alert is not one for Alerts.
	d.events.Emit(alert, event.Event{Severity: event.Error, Reason: reason, Message: message, Local: true})
}
