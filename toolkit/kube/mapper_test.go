package kube

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	clocktesting "k8s.io/utils/clock/testing"
)

// served is a discovery answer that tests can change.
type served struct {
	calls  atomic.Int32
	mu     sync.Mutex
	kinds  map[string][]string // group/version, preferred first -> kinds
	order  []string
	failed map[schema.GroupVersion]error
	err    error
}

func (s *served) ServerGroupsAndResourcesWithContext(context.Context) ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	s.calls.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, nil, s.err
	}
	groups := map[string]*metav1.APIGroup{}
	var out []*metav1.APIGroup
	var lists []*metav1.APIResourceList
	for _, gvText := range s.order {
		gv, _ := schema.ParseGroupVersion(gvText)
		g := groups[gv.Group]
		v := metav1.GroupVersionForDiscovery{GroupVersion: gvText, Version: gv.Version}
		if g == nil {
			g = &metav1.APIGroup{Name: gv.Group, PreferredVersion: v}
			groups[gv.Group] = g
			out = append(out, g)
		}
		g.Versions = append(g.Versions, v)
		l := &metav1.APIResourceList{GroupVersion: gvText}
		for _, k := range s.kinds[gvText] {
			l.APIResources = append(l.APIResources,
				metav1.APIResource{Name: "plural-" + strings.ToLower(k), Kind: k, Namespaced: true, Verbs: []string{"get"}},
				metav1.APIResource{Name: "plural-" + strings.ToLower(k) + "/status", Kind: k, Namespaced: true})
		}
		lists = append(lists, l)
	}
	if len(s.failed) > 0 {
		return out, lists, &discovery.ErrGroupDiscoveryFailed{Groups: s.failed}
	}
	return out, lists, nil
}

func (s *served) set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

// architecture 5b: no discovery per apply, damped answers for unknown kinds; reliability 114, 115, 121.
func TestMapper(t *testing.T) {
	ctx := t.Context()
	clk := clocktesting.NewFakeClock(time.Unix(1_000_000, 0))
	s := &served{order: []string{"v1", "apps/v1"}, kinds: map[string][]string{"v1": {"ConfigMap"}, "apps/v1": {"Deployment"}}}
	m := NewMapper(s, 0, clk)
	deployment := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	widget := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
	calls := func(want int32) {
		t.Helper()
		if got := s.calls.Load(); got != want {
			t.Errorf("%d discoveries, want %d", got, want)
		}
	}

	res, err := m.Resource(ctx, deployment)
	if err != nil || res.Plural != "plural-deployment" || !res.Namespaced {
		t.Fatalf("%+v, %v", res, err)
	}
	for range 3 {
		_, err = m.Resource(ctx, widget)
		if !meta.IsNoMatchError(err) || err.Error() != `no matches for kind "Widget" in version "example.com/v1"` {
			t.Errorf("error: %v (kustomization 73)", err)
		}
	}
	calls(1)
	clk.Step(DefaultDamping)
	_, _ = m.Resource(ctx, widget)
	calls(2)

	s.set(func() {
		s.order = append(s.order, "example.com/v1")
		s.kinds["example.com/v1"] = []string{"Widget"}
	})
	if _, err = m.Resource(ctx, widget); err == nil {
		t.Error("damping was passed over")
	}
	m.Invalidate()
	_, _ = m.Resource(ctx, deployment)
	calls(2) // what is known stays known
	if _, err = m.Resource(ctx, widget); err != nil {
		t.Error(err)
	}
	calls(3)

	t.Run("a retired version", func(t *testing.T) {
		res, err := m.Served(ctx, widget.GroupKind(), "v1beta1")
		if err != nil || res.Version != "v1" {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("a group whose server is down is not a missing kind", func(t *testing.T) {
		down := errors.New("503")
		s.set(func() { s.failed = map[schema.GroupVersion]error{{Group: "metrics.k8s.io", Version: "v1"}: down} })
		m.Invalidate()
		_, err := m.ServedNow(ctx, schema.GroupKind{Group: "metrics.k8s.io", Kind: "Pod"}, "v1")
		if meta.IsNoMatchError(err) || !errors.Is(err, down) {
			t.Errorf("error: %v", err)
		}
		if _, err := m.Resource(ctx, deployment); err != nil {
			t.Errorf("an unrelated kind: %v", err)
		}
	})
	t.Run("an outage is not a missing kind", func(t *testing.T) {
		down := errors.New("connection refused")
		s.set(func() { s.err = down })
		clk.Step(time.Hour)
		_, err := m.ServedNow(ctx, widget.GroupKind(), "v1")
		if meta.IsNoMatchError(err) || !errors.Is(err, down) {
			t.Errorf("error: %v", err)
		}
		s.set(func() { s.err = nil })
		if _, err := m.ServedNow(ctx, widget.GroupKind(), "v1"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
	t.Run("callers share a look", func(t *testing.T) {
		before := s.calls.Load()
		clk.Step(time.Hour)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _, _ = m.Resource(ctx, schema.GroupVersionKind{Group: "x", Version: "v1", Kind: "X"}) })
		}
		wg.Wait()
		calls(before + 1)
	})
	t.Run("as a RESTMapper", func(t *testing.T) {
		rm := m.RESTMapper()
		got, err := rm.RESTMapping(deployment.GroupKind(), "v1")
		if err != nil || got.Resource.Resource != "plural-deployment" || got.Scope.Name() != meta.RESTScopeNameNamespace {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := rm.RESTMapping(schema.GroupKind{Group: "y", Kind: "Y"}); !meta.IsNoMatchError(err) {
			t.Errorf("error: %v", err)
		}
		if gvk, err := rm.KindFor(schema.GroupVersionResource{Resource: "plural-configmap"}); err != nil || gvk.Kind != "ConfigMap" {
			t.Errorf("%v, %v", gvk, err)
		}
	})
}

// reliability 114, design rule 4: what lists no core kinds is no API server, and says nothing about what is gone.
func TestMapperOfNoAPIServer(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Unix(1_000_000, 0))
	s := &served{order: []string{"v1"}, kinds: map[string][]string{"v1": {"ConfigMap"}}}
	m := NewMapper(s, 0, clk)
	configMap := schema.GroupKind{Kind: "ConfigMap"}
	if _, err := m.ServedNow(t.Context(), configMap, "v1"); err != nil {
		t.Fatal(err)
	}
	clk.Step(time.Second)
	s.set(func() { s.order = nil })
	if _, err := m.ServedNow(t.Context(), configMap, "v1"); err == nil || meta.IsNoMatchError(err) {
		t.Errorf("error = %v, want one that is not about the kind", err)
	}
	s.set(func() { s.order = []string{"v1"} })
	if _, err := m.ServedNow(t.Context(), configMap, "v1"); err != nil {
		t.Errorf("with the API server back: %v", err)
	}
}
