package ops

import (
	"context"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/internal/kind"
)

func receiver(status string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "notification.toolkit.fluxcd.io/v1", "kind": "Receiver",
		"metadata": map[string]any{"name": "hook", "namespace": "default", "resourceVersion": "1"},
		"status":   map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": status}}},
	}}
}

// armedClock tells when somebody begins to wait for it.
type armedClock struct {
	*clocktesting.FakeClock
	armed chan struct{}
}

func (c armedClock) NewTimer(d time.Duration) clock.Timer {
	t := c.FakeClock.NewTimer(d)
	c.armed <- struct{}{}
	return t
}

// hooks describes any kind: the client does the same for all.
func hooks() kind.Kind {
	return kind.Kind{GroupVersionKind: schema.GroupVersionKind{Group: "notification.toolkit.fluxcd.io", Version: "v1", Kind: "Receiver"}, Resource: "receivers"}
}

func fakeClient(objects ...runtime.Object) (*Client, *fake.FakeDynamicClient, *clocktesting.FakeClock) {
	clock := clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	d := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		hooks().GVR(): "ReceiverList",
	}, objects...)
	return &Client{Dynamic: d, Clock: clock}, d, clock
}

// TestUntilPolls covers cli 4: where the server refuses a watch, the object is read every two seconds.
func TestUntilPolls(t *testing.T) {
	client, d, clock := fakeClient(receiver("False"))
	armed := make(chan struct{}, 10)
	client.Clock = armedClock{clock, armed}
	d.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{}, "hook", errors.New("no watch"))
	})
	reads := make(chan struct{}, 10)
	done := make(chan error)
	go func() {
		_, err := client.Until(t.Context(), hooks(), "default", "hook", func(o kind.Object) (bool, error) {
			reads <- struct{}{}
			return o.IsTrue("Ready"), nil
		})
		done <- err
	}()
	<-reads
	if _, err := d.Resource(hooks().GVR()).Namespace("default").Update(t.Context(), receiver("True"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	<-armed
	clock.Step(PollInterval - time.Millisecond)
	select {
	case <-reads:
		t.Fatal("read again before the poll interval was over")
	default:
	}
	clock.Step(time.Millisecond)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestUntilEndsWithContext(t *testing.T) {
	client, _, _ := fakeClient(receiver("False"))
	ctx, cancel := context.WithCancel(t.Context())
	obj, err := client.AwaitReady(ctx, hooks(), "default", "hook", func(kind.Object) { cancel() })
	var late *TimeoutError
	if !errors.As(err, &late) || obj.GetName() != "hook" || !errors.Is(err, context.Canceled) {
		t.Errorf("AwaitReady = %v, %v, want a TimeoutError with the object", obj.GetName(), err)
	}
}

func TestToken(t *testing.T) {
	client, _, _ := fakeClient()
	if got, want := client.Token(), "2026-01-02T03:04:05.000000006Z"; got != want { // cli 14
		t.Errorf("Token() = %s, want %s", got, want)
	}
}

func FuzzDecodeRelease(f *testing.F) {
	f.Add("")
	f.Add(base64.StdEncoding.EncodeToString([]byte("H4sIAAAAAAAA/6tWKkktLlGyUkpLzClOVaoFAGwB3n8RAAAA")))
	f.Fuzz(func(t *testing.T, data string) {
		manifests, err := decodeRelease(data)
		if err != nil {
			return
		}
		for _, m := range manifests {
			_, _ = appendEntries(nil, m, "default")
		}
	})
}
