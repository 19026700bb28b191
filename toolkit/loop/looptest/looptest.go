// Package looptest runs a controller of the loop without a manager: a test calls it request by request, on the client it
// gives, and reads the events. It is for tests of kinds; the loop itself is tested beside its code.
package looptest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// Bench holds a controller that runs only when told.
type Bench struct {
	reconciler reconcile.Reconciler

	mu     sync.Mutex // guards events
	events []event.Event
}

// New sets up a controller with the options; their Client needs the kind in its scheme, and their Events are replaced.
func New[O loop.Object](t testing.TB, c *loop.Controller[O], o loop.Options) *Bench {
	t.Helper()
	b := &Bench{}
	o.Events = b
	m := &standIn{scheme: o.Client.Scheme()}
	if _, err := c.SetupWithManager(m, o); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.added {
		if reconciler, ok := r.(reconcile.Reconciler); ok {
			b.reconciler = reconciler
			return b
		}
	}
	t.Fatal("the controller did not add itself to the manager")
	return nil
}

// Run makes one request, as the queue would.
func (b *Bench) Run(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	return b.reconciler.Reconcile(ctx, reconcile.Request{NamespacedName: key})
}

// Emit implements loop.Emitter.
func (b *Bench) Emit(_ client.Object, e event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// Events returns the events since the last call, in their order.
func (b *Bench) Events() []event.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.events
	b.events = nil
	return out
}

// Lines returns the events since the last call as "severity Reason: message". What is not posted ends in " (local)".
func (b *Bench) Lines() []string {
	var out []string
	for _, e := range b.Events() {
		line := fmt.Sprintf("%s %s: %s", e.Severity, e.Reason, e.Message)
		if e.Local || e.Severity == event.Trace {
			line += " (local)"
		}
		out = append(out, line)
	}
	return out
}

// standIn is as much of a manager as a controller needs until it starts, which it never does.
type standIn struct {
	manager.Manager
	scheme *runtime.Scheme
	added  []manager.Runnable
}

func (m *standIn) GetScheme() *runtime.Scheme { return m.scheme }
func (m *standIn) GetLogger() logr.Logger     { return logr.Discard() }
func (m *standIn) GetCache() cache.Cache      { return nil }
func (m *standIn) GetControllerOptions() config.Controller {
	return config.Controller{SkipNameValidation: ptr.To(true), UsePriorityQueue: ptr.To(false)}
}

func (m *standIn) Add(r manager.Runnable) error {
	m.added = append(m.added, r)
	return nil
}
