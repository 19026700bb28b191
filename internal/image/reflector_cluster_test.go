package image

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// running is the component at work in a namespace of a real API server.
type running struct {
	t        *testing.T
	ns       string
	client   client.WithWatch
	registry *testkit.Registry

	mu     sync.Mutex // guards events
	events []event.Payload
}

// Post implements event.Sink.
func (r *running) Post(p event.Payload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, p)
}

func startReflector(t *testing.T, args ...string) *running {
	t.Helper()
	settings := kube.Config(testkit.Cluster(t), "image-test")
	testkit.InstallCRDs(t, settings)
	r := &running{t: t, ns: testkit.Namespace(t, settings), registry: testkit.NewRegistry()}
	t.Cleanup(r.registry.Close)
	c := Reflector()
	instance := c.New()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	instance.BindFlags(fs)
	if err := fs.Parse(append([]string{"--storage-path=" + t.TempDir()}, args...)); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, instance.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if r.client, err = client.NewWithWatch(settings, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	manager, err := ctrl.NewManager(settings, ctrl.Options{
		Scheme: scheme, Logger: logr.Discard(), Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{r.ns: {}}},
		Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	host := &component.Host{
		Manager: manager, Config: settings, Client: manager.GetClient(), Reader: manager.GetAPIReader(), Log: logr.Discard(),
		Events: &event.Recorder{Component: ReflectorName, Scheme: scheme, Sink: r},
		Common: component.Common{
			Concurrent: c.Concurrent, MaxParked: 1000, MinRetryDelay: 750 * time.Millisecond, MaxRetryDelay: time.Minute,
			RequeueDependency: 30 * time.Second, Gates: c.FeatureGates,
		},
	}
	if err := instance.(component.Preparer).Prepare(host); err != nil {
		t.Fatal(err)
	}
	if err := instance.Setup(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- manager.Start(ctx) }()
	t.Cleanup(func() {
		r.release()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// release deletes what the test has made while there is somebody to take the finalizers away.
func (r *running) release() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, obj := range []client.Object{&imagev1.ImagePolicy{}, &imagev1.ImageRepository{}} {
		if err := r.client.DeleteAllOf(ctx, obj, client.InNamespace(r.ns)); err != nil {
			r.t.Error(err)
		}
	}
	r.await("the end of all objects", func() bool {
		var repositories imagev1.ImageRepositoryList
		var policies imagev1.ImagePolicyList
		if r.client.List(ctx, &repositories, client.InNamespace(r.ns)) != nil || r.client.List(ctx, &policies, client.InNamespace(r.ns)) != nil {
			return false
		}
		return len(repositories.Items)+len(policies.Items) == 0
	})
}

// await looks until it sees what it waits for.
func (r *running) await(what string, seen func() bool) {
	r.t.Helper()
	timeout, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !seen() {
		select {
		case <-timeout:
			r.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func (r *running) push(ref string) {
	r.t.Helper()
	if err := r.registry.Push(r.ns+"/"+ref, picture(r.t, ref)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) repository(name string, change ...func(*imagev1.ImageRepository)) *imagev1.ImageRepository {
	r.t.Helper()
	obj := &imagev1.ImageRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name},
		Spec:       imagev1.ImageRepositorySpec{Image: r.registry.Host() + "/" + r.ns + "/app", Interval: "1h", Insecure: true},
	}
	for _, f := range change {
		f(obj)
	}
	if err := r.client.Create(r.t.Context(), obj); err != nil {
		r.t.Fatal(err)
	}
	return obj
}

func (r *running) policy(name string) {
	r.t.Helper()
	obj := &imagev1.ImagePolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name},
		Spec: imagev1.ImagePolicySpec{
			ImageRepositoryRef: meta.NamespacedObjectReference{Name: "app"},
			Policy:             imagev1.ImagePolicyChoice{SemVer: &imagev1.SemVerPolicy{Range: "*"}},
		},
	}
	if err := r.client.Create(r.t.Context(), obj); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) patch(obj client.Object, name, patch string) {
	r.t.Helper()
	obj.SetNamespace(r.ns)
	obj.SetName(name)
	if err := r.client.Patch(r.t.Context(), obj, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) request(name, token string) {
	r.t.Helper()
	r.patch(&imagev1.ImageRepository{}, name, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, meta.ReconcileRequestAnnotation, token))
}

func (r *running) get(obj client.Object, name string) {
	r.t.Helper()
	if err := r.client.Get(r.t.Context(), types.NamespacedName{Namespace: r.ns, Name: name}, obj); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) isReady(name, message string) func() bool {
	return func() bool {
		obj := &imagev1.ImageRepository{}
		r.get(obj, name)
		c := status.Find(obj.Status.Conditions, meta.ReadyCondition)
		return c != nil && c.Status == metav1.ConditionTrue && strings.HasPrefix(c.Message, message)
	}
}

func (r *running) hasTag(name, tag string) func() bool {
	return func() bool {
		obj := &imagev1.ImagePolicy{}
		r.get(obj, name)
		return obj.Status.LatestRef != nil && obj.Status.LatestRef.Tag == tag
	}
}

// imagepolicy 1, 2, 20, 34: a policy is woken by the first scan and by each that finds other tags, not by time; a scan that hangs
// is given up when something newer is to be done.
func TestReflectorAtWork(t *testing.T) {
	r := startReflector(t)
	r.policy("app")
	r.policy("second")
	r.push("app:1.0.0")
	r.repository("app")
	for _, name := range []string{"app", "second"} {
		r.await("the first choice", r.hasTag(name, "1.0.0"))
	}
	r.push("app:1.1.0")
	r.request("app", "one")
	for _, name := range []string{"app", "second"} {
		r.await("the choice of a new tag", r.hasTag(name, "1.1.0"))
	}

	r.registry.Fail(testkit.TagsCut)
	r.request("app", "two")
	r.await("a scan that finds less", r.isReady("app", "successful scan: found 1 tags"))
	r.await("a word about it", func() bool {
		obj := &imagev1.ImagePolicy{}
		r.get(obj, "app")
		return strings.HasSuffix(status.Find(obj.Status.Conditions, meta.ReadyCondition).Message, "the list of tags lacks 1.1.0, which the registry still has")
	})
	if !r.hasTag("app", "1.1.0")() || !r.hasTag("second", "1.1.0")() {
		t.Error("a list that was cut short has moved a policy back")
	}

	r.registry.Fail(testkit.TagsHang)
	before := r.registry.Requests()
	r.request("app", "three")
	r.await("the question that is not answered", func() bool { return r.registry.Requests() > before })
	other := testkit.NewRegistry()
	defer other.Close()
	if err := other.Push("app:2.0.0", picture(t, "other")); err != nil {
		t.Fatal(err)
	}
	// The timeout of the hanging scan is an hour.
	r.patch(&imagev1.ImageRepository{}, "app", fmt.Sprintf(`{"spec":{"image":%q}}`, other.Host()+"/app"))
	r.await("the choice of another image", r.hasTag("app", "2.0.0"))
}

// Five hundred images of one registry are scanned in seconds, with one login and few connections.
func TestReflectorWithManyImages(t *testing.T) {
	const images = 500
	r := startReflector(t)
	r.push("app:1.0.0")
	begun := time.Now()
	for i := range images {
		r.repository(fmt.Sprintf("image-%d", i))
	}
	created := time.Now()
	r.await("all scans", func() bool {
		var all imagev1.ImageRepositoryList
		if err := r.client.List(t.Context(), &all, client.InNamespace(r.ns)); err != nil {
			t.Fatal(err)
		}
		ready := 0
		for _, obj := range all.Items {
			if status.IsTrue(obj.Status.Conditions, meta.ReadyCondition) {
				ready++
			}
		}
		return ready == images
	})
	// One question how to sign in and one list are more than enough for each.
	if got := r.registry.Requests(); got > 2*images+10 {
		t.Errorf("%d images took %d requests", images, got)
	}
	t.Logf("%d images were created in %s and scanned %s later, with %d requests", images, created.Sub(begun).Round(time.Millisecond), time.Since(created).Round(time.Millisecond), r.registry.Requests())
}
