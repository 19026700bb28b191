package loop

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// BenchmarkStatusPatch is a run of an object that has news: its conditions change, and one patch is made of them and of an inventory. The
// API server is one that takes everything.
func BenchmarkStatusPatch(b *testing.B) {
	scheme := runtime.NewScheme()
	gv := schema.GroupVersion{Group: "test.example.com", Version: "v1"}
	scheme.AddKnownTypeWithName(gv.WithKind("Widget"), &widget{})
	metav1.AddToGroupVersion(scheme, gv)
	stored := newWidget()
	for i := range 20 {
		stored.Status.Inventory = append(stored.Status.Inventory, fmt.Sprintf("apps_web-%d_apps_Deployment", i))
	}
	patches := 0
	server := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).Build(), interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
			*obj.(*widget) = *stored.DeepCopyObject().(*widget)
			return nil
		},
		SubResourcePatch: func(_ context.Context, _ client.Client, _ string, obj client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
			patches++
			_, err := p.Data(obj)
			return err
		},
	})
	runs := 0
	e := newEngine(&Controller[*widget]{
		Name: "widget-controller", Kind: "Widget", New: func() *widget { return &widget{} },
		FailReason: "ReconciliationFailed", Conditions: status.Table{Failures: []string{"FetchFailed"}, ReadyReason: meta.SucceededReason},
		Reconciler: &behaviour{reconcile: func(_ context.Context, w *widget, _ *Run) error {
			runs++
			w.Status.Inventory[0] = fmt.Sprintf("apps_web-%d_apps_Deployment", runs)
			return nil
		}},
	}, Options{Client: server, Reader: server, Events: &recorder{}, Clock: testclock.NewFakeClock(now), Concurrent: 1})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Reconcile(b.Context(), reconcile.Request{NamespacedName: widgetKey}); err != nil {
			b.Fatal(err)
		}
	}
	if patches != runs {
		b.Errorf("%d patches in %d runs", patches, runs)
	}
}
