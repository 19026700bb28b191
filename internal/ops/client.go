// Package ops is what a human does to objects of any kind: read, suspend, resume, ask for a reconcile and wait for
// it, export, delete, and follow ownership up (trace) and down (tree). The CLI and the web UI both act through it.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// FieldManager is the manager name of every write made for a human (cli 6).
const FieldManager = "flux"

// PollInterval is how often an object is read where the server refuses to be watched (cli 4).
const PollInterval = 2 * time.Second

// Client acts on objects as the user of its connection.
type Client struct {
	Dynamic dynamic.Interface
	Clock   clock.WithTicker
}

// NotFoundError says that an object does not exist.
type NotFoundError struct {
	Kind            kind.Kind
	Namespace, Name string
}

// Error names the object and the command that lists its kind.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s object '%s' not found in \"%s\" namespace", e.Kind.Kind, e.Name, e.Namespace)
}

// NotInstalledError says that the API server does not serve a kind.
type NotInstalledError struct{ Kind kind.Kind }

// Error names the kind.
func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("the cluster does not serve %s (%s)", e.Kind.Kind, e.Kind.GroupVersion())
}

// ErrRefused is returned when the person at the terminal said no.
var ErrRefused = errors.New("aborted")

func (c *Client) resource(k kind.Kind, namespace string) dynamic.ResourceInterface {
	return c.Dynamic.Resource(k.GVR()).Namespace(namespace)
}

// explain turns an API error into one that names the object. It keeps the original inside.
func explain(err error, k kind.Kind, namespace, name, doing string) error {
	switch {
	case err == nil:
		return nil
	case notServed(err):
		return &NotInstalledError{k}
	case apierrors.IsNotFound(err) && name != "":
		return &NotFoundError{k, namespace, name}
	case name == "":
		return fmt.Errorf("%s %s: %w", doing, k.Resource, err)
	}
	return fmt.Errorf("%s %s/%s/%s: %w", doing, k.Kind, namespace, name, err)
}

// notServed recognises the answer for a path that the API server does not have.
func notServed(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	d := status.Status().Details
	if d == nil {
		return true
	}
	for _, cause := range d.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true
		}
	}
	return false
}

// Get reads one object. It returns a *NotFoundError or a *NotInstalledError when there is none.
func (c *Client) Get(ctx context.Context, k kind.Kind, namespace, name string) (kind.Object, error) {
	u, err := c.resource(k, namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return kind.Object{}, explain(err, k, namespace, name, "read")
	}
	return kind.Object{Unstructured: u}, nil
}

// ListOptions narrow a list.
type ListOptions struct {
	// Name, when set, leaves only the object of this name.
	Name string
	// LabelSelector is in the syntax of kubectl -l.
	LabelSelector string
}

func (o ListOptions) meta() metav1.ListOptions {
	m := metav1.ListOptions{LabelSelector: o.LabelSelector}
	if o.Name != "" {
		m.FieldSelector = "metadata.name=" + o.Name
	}
	return m
}

// List reads the objects of a kind in a namespace, "" meaning all, sorted by the server. The second result is the
// resource version to watch from.
func (c *Client) List(ctx context.Context, k kind.Kind, namespace string, o ListOptions) ([]kind.Object, string, error) {
	list, err := c.resource(k, namespace).List(ctx, o.meta())
	if err != nil {
		return nil, "", explain(err, k, namespace, "", "list")
	}
	out := make([]kind.Object, len(list.Items))
	for i := range list.Items {
		out[i] = kind.Object{Unstructured: &list.Items[i]}
	}
	return out, list.GetResourceVersion(), nil
}

// Watch calls see for every change after the resource version until the context ends. Connections that the server
// closes are reopened.
func (c *Client) Watch(ctx context.Context, k kind.Kind, namespace, resourceVersion string, o ListOptions, see func(watch.EventType, kind.Object)) error {
	for ctx.Err() == nil {
		opts := o.meta()
		opts.ResourceVersion = resourceVersion
		w, err := c.resource(k, namespace).Watch(ctx, opts)
		if err != nil {
			return explain(err, k, namespace, "", "watch")
		}
		err = drain(ctx, w, func(t watch.EventType, obj kind.Object) bool {
			resourceVersion = obj.GetResourceVersion()
			see(t, obj)
			return false
		})
		if err == nil {
			continue
		}
		if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			return explain(err, k, namespace, "", "watch")
		}
		// What happened in between is lost to the server as well: show the present and go on from there.
		objects, rv, err := c.List(ctx, k, namespace, o)
		if err != nil {
			return err
		}
		for _, obj := range objects {
			see(watch.Modified, obj)
		}
		resourceVersion = rv
	}
	return nil
}

// drain hands events to see until it returns true, the stream ends (nil), or the server reports an error.
func drain(ctx context.Context, w watch.Interface, see func(watch.EventType, kind.Object) bool) error {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-w.ResultChan():
			if !open {
				return nil
			}
			if e.Type == watch.Error {
				return apierrors.FromObject(e.Object)
			}
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || e.Type == watch.Bookmark {
				continue
			}
			if see(e.Type, kind.Object{Unstructured: u}) {
				return nil
			}
		}
	}
}

// Until calls see with the object as it is now and after every change, until it is done or fails, the object is
// deleted, or the context ends; then it returns the context's error beside the object last seen.
func (c *Client) Until(ctx context.Context, k kind.Kind, namespace, name string, see func(kind.Object) (done bool, err error)) (kind.Object, error) {
	last := kind.Object{Unstructured: &unstructured.Unstructured{}}
	for {
		obj, err := c.Get(ctx, k, namespace, name)
		if err != nil {
			if ctx.Err() != nil {
				return last, ctx.Err()
			}
			return last, err
		}
		last = obj
		done, err := see(obj)
		if done || err != nil {
			return last, err
		}
		opts := ListOptions{Name: name}.meta()
		opts.ResourceVersion = obj.GetResourceVersion()
		w, err := c.resource(k, namespace).Watch(ctx, opts)
		if err != nil {
			if !c.pause(ctx) {
				return last, ctx.Err()
			}
			continue
		}
		var verdict error
		err = drain(ctx, w, func(t watch.EventType, o kind.Object) bool {
			last = o
			if t == watch.Deleted {
				verdict = fmt.Errorf("%s was deleted", o.Ref())
				return true
			}
			done, verdict = see(o)
			return done || verdict != nil
		})
		switch {
		case done || verdict != nil:
			return last, verdict
		case ctx.Err() != nil:
			return last, ctx.Err()
		case err != nil && !c.pause(ctx):
			return last, ctx.Err()
		}
	}
}

// pause waits one poll interval; false means that the context ended first.
func (c *Client) pause(ctx context.Context) bool {
	t := c.Clock.NewTimer(PollInterval)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return true
	}
}

// patch sends a JSON merge patch, again when another writer was faster.
func (c *Client) patch(ctx context.Context, k kind.Kind, namespace, name, body string) (kind.Object, error) {
	for attempt := 0; ; attempt++ {
		u, err := c.resource(k, namespace).Patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: FieldManager})
		if err == nil {
			return kind.Object{Unstructured: u}, nil
		}
		if attempt == 5 || !apierrors.IsConflict(err) {
			return kind.Object{}, explain(err, k, namespace, name, "patch")
		}
	}
}

// Suspend stops the reconciliation of an object.
func (c *Client) Suspend(ctx context.Context, k kind.Kind, namespace, name string) error {
	_, err := c.patch(ctx, k, namespace, name, `{"spec":{"suspend":true}}`)
	return err
}

// Resume lets an object reconcile again.
func (c *Client) Resume(ctx context.Context, k kind.Kind, namespace, name string) (kind.Object, error) {
	return c.patch(ctx, k, namespace, name, `{"spec":{"suspend":null}}`)
}

// Delete removes an object in the background, without waiting for its finalizers (cli 20).
func (c *Client) Delete(ctx context.Context, k kind.Kind, namespace, name string) error {
	background := metav1.DeletePropagationBackground
	err := c.resource(k, namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
	return explain(err, k, namespace, name, "delete")
}

// Secret reads a Secret.
func (c *Client) Secret(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	u, err := c.Dynamic.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Secret/%s/%s: %w", namespace, name, err)
	}
	return u, nil
}

// RequestAnnotation carries the token of a reconcile request (wire 2).
const RequestAnnotation = "reconcile.fluxcd.io/requestedAt"

// Token makes the token of a request: the time in RFC 3339 with nanoseconds (cli 14).
func (c *Client) Token() string { return c.Clock.Now().Format(time.RFC3339Nano) }

// Request asks the controller to reconcile an object now, by annotating it with the token. Further annotations get
// the same token.
func (c *Client) Request(ctx context.Context, k kind.Kind, namespace, name, token string, further ...string) (kind.Object, error) {
	quoted := strconv.Quote(token)
	body := `{"metadata":{"annotations":{"` + RequestAnnotation + `":` + quoted
	for _, a := range further {
		body += `,"` + a + `":` + quoted
	}
	return c.patch(ctx, k, namespace, name, body+`}}}`)
}

// Approve sets the annotation by which an object may go on, and asks for a run at once, with the token.
func (c *Client) Approve(ctx context.Context, k kind.Kind, namespace, name, token string, a kind.Approval) (kind.Object, error) {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{
		RequestAnnotation: token, a.Annotation: a.Value,
	}}})
	if err != nil {
		return kind.Object{}, err
	}
	return c.patch(ctx, k, namespace, name, string(body))
}

// FailedError says that an object was reconciled without success.
type FailedError struct {
	Object  kind.Object
	Message string
}

// Error is the message the controller left.
func (e *FailedError) Error() string { return e.Message }

// AwaitRequest waits until the controller has answered the request and the object is ready. progress sees every
// intermediate state. Unlike 2.9, which waits for later attempts until its timeout, it returns the failure of
// the attempt that was asked for.
func (c *Client) AwaitRequest(ctx context.Context, k kind.Kind, namespace, name, before, token string, progress func(kind.Object)) (kind.Object, error) {
	obj, err := c.Until(ctx, k, namespace, name, func(o kind.Object) (bool, error) {
		handled := o.HandledRequest()
		superseded := o.GetAnnotations()[RequestAnnotation] != token && handled != before
		if handled != token && !superseded {
			progress(o)
			return false, nil
		}
		if ready, _ := o.Condition("Ready"); ready.Status == "False" && ready.ObservedGeneration == o.GetGeneration() && o.IsTrue("Reconciling") {
			return false, &FailedError{o, ready.Message}
		}
		return settled(o, progress)
	})
	return obj, overdue(err, obj)
}

// AwaitReady waits until the controller has seen the object's present generation and reports it ready.
func (c *Client) AwaitReady(ctx context.Context, k kind.Kind, namespace, name string, progress func(kind.Object)) (kind.Object, error) {
	obj, err := c.Until(ctx, k, namespace, name, func(o kind.Object) (bool, error) {
		if k.IsStatic(o) {
			return true, nil
		}
		if _, found := o.Condition("Ready"); !found {
			progress(o)
			return false, nil
		}
		if o.IsTrue("Stalled") {
			// A stall of an earlier generation says nothing about this one.
			if observed, found := o.ObservedGeneration(); found && observed != o.GetGeneration() {
				progress(o)
				return false, nil
			}
		}
		return settled(o, progress)
	})
	return obj, overdue(err, obj)
}

// settled applies the kstatus verdict (cli 14).
func settled(o kind.Object, progress func(kind.Object)) (bool, error) {
	state, message := o.State()
	switch state {
	case kind.Failed:
		return false, &FailedError{o, message}
	case kind.Current:
		ready, _ := o.Condition("Ready")
		if ready.Status != "True" {
			return false, &FailedError{o, ready.Message}
		}
		return true, nil
	}
	progress(o)
	return false, nil
}

// TimeoutError says that waiting ended before the object settled.
type TimeoutError struct {
	Object kind.Object
	Err    error
}

// Error tells what the object was last doing.
func (e *TimeoutError) Error() string {
	msg := "timed out waiting"
	if errors.Is(e.Err, context.Canceled) {
		msg = "interrupted while waiting"
	}
	if e.Object.Object == nil {
		return msg
	}
	_, last := e.Object.State()
	if last == "" {
		last = "waiting to be reconciled"
	}
	return fmt.Sprintf("%s for %s, last seen: %s", msg, e.Object.Ref(), last)
}

// Unwrap is the context's error.
func (e *TimeoutError) Unwrap() error { return e.Err }

func overdue(err error, last kind.Object) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &TimeoutError{last, err}
	}
	return err
}
