package notify

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
)

// provider 1: a Provider gets the finalizer beside those of others, and loses it once what is kept of it is dropped.
func TestProviderFinalizer(t *testing.T) {
	key := types.NamespacedName{Namespace: "prod", Name: "p"}
	b := newBench(t, to("slack", "https://chat.example", func(p *notificationv1beta3.Provider) { p.Finalizers = []string{"example.com/other"} }))
	f := finalizers{client: b.client, events: b.warnings}
	dropped := 0
	run := func() string {
		t.Helper()
		if err := f.provider(t.Context(), key, func() { dropped++ }); err != nil {
			t.Fatal(err)
		}
		var p notificationv1beta3.Provider
		if err := b.client.Get(t.Context(), key, &p); err != nil {
			t.Fatal(err)
		}
		return strings.Join(p.Finalizers, " ")
	}
	for range 2 {
		if got := run(); got != "example.com/other "+meta.Finalizer {
			t.Errorf("finalizers are %s", got)
		}
	}
	if err := b.client.Delete(t.Context(), to("slack", "")); err != nil {
		t.Fatal(err)
	}
	if got := run(); got != "example.com/other" || dropped != 1 {
		t.Errorf("finalizers are %s after the deletion, %d times dropped", got, dropped)
	}
	if err := f.provider(t.Context(), types.NamespacedName{Name: "absent"}, nil); err != nil {
		t.Errorf("a Provider that is gone: %v", err)
	}
}

// alert 1, 31: an Alert of an older version loses its finalizer, which is told; others are left alone.
func TestAlertFinalizer(t *testing.T) {
	key := types.NamespacedName{Namespace: "prod", Name: "a"}
	for given, want := range map[string]string{meta.Finalizer: "", "": "", meta.Finalizer + " example.com/other": "example.com/other", "example.com/other": "example.com/other"} {
		a := alert(func(a *notificationv1beta3.Alert) { a.Finalizers = strings.Fields(given) })
		b := newBench(t, a)
		f := finalizers{client: b.client, events: b.warnings}
		for range 2 {
			if err := f.alert(t.Context(), key, func() { t.Error("the Alert was forgotten") }); err != nil {
				t.Fatal(err)
			}
		}
		var got notificationv1beta3.Alert
		if err := b.client.Get(t.Context(), key, &got); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got.Finalizers, " ") != want {
			t.Errorf("finalizers %q become %q", given, got.Finalizers)
		}
		told := strings.Count(b.warnings.String(), "a info Migration: ")
		if (told == 1) != strings.Contains(given, meta.Finalizer) || told > 1 {
			t.Errorf("finalizers %q: told %q", given, b.warnings)
		}
	}
	gone := 0
	f := finalizers{client: newBench(t).client}
	if err := f.alert(t.Context(), key, func() { gone++ }); err != nil || gone != 1 {
		t.Errorf("an Alert that is gone is forgotten %d times: %v", gone, err)
	}
}

// Metrics of an Alert that is gone are dropped.
func TestMetricsForget(t *testing.T) {
	b := newBench(t)
	key := client.ObjectKey{Namespace: "prod", Name: "a"}
	b.metrics.count(key, "p", sentResult)
	b.metrics.forget(key)
	if got := b.count(sentResult); got != 0 {
		t.Errorf("%d are left", got)
	}
	var none *Metrics
	none.count(key, "p", sentResult)
	none.forget(key)
}
