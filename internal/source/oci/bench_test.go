package oci

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// many is how many OCIRepositories follow one registry.
const many = 500

// crowd is a controller with many OCIRepositories, each with what repository says.
type crowd struct {
	*looptest.Bench
	keys     []types.NamespacedName
	requests atomic.Int64
}

func newCrowd(b *testing.B, pool *oci.Pool, repository func(i int) string) *crowd {
	b.Helper()
	c := &crowd{}
	behind := handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		behind.ServeHTTP(w, r)
	}))
	b.Cleanup(server.Close)
	pushed := map[string]bool{}
	var objs []client.Object
	for i := range many {
		path := repository(i)
		if !pushed[path] {
			pushed[path] = true
			push(b, behind, path+":latest", image(b, nil, testkit.Layer{MediaType: oci.ContentLayer, Files: map[string]string{"app.yaml": path}}))
		}
		obj := &sourcev1.OCIRepository{
			ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: fmt.Sprintf("app-%d", i), Generation: 1, UID: types.UID(fmt.Sprint(i))},
			Spec: sourcev1.OCIRepositorySpec{
				URL: "oci://" + strings.TrimPrefix(server.URL, "http://") + "/" + path, Interval: meta.DurationOf(10 * time.Minute),
				SecretRef: &meta.LocalObjectReference{Name: "login"},
			},
		}
		obj.SetObservedGeneration(-1)
		objs = append(objs, obj)
		c.keys = append(c.keys, client.ObjectKeyFromObject(obj))
	}
	objs = append(objs, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "login"},
		Data:       map[string][]byte{oci.DockerConfigKey: login(strings.TrimPrefix(server.URL, "http://"), "user", "password")},
	})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			b.Fatal(err)
		}
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&sourcev1.OCIRepository{}).WithObjects(objs...).Build()
	store, err := artifact.OpenStore(b.TempDir(), artifact.StoreOptions{AdvertisedAddr: "storage.test", RetentionTTL: time.Minute, RetentionRecords: 2})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	c.Bench = looptest.New(b, Controller("source-controller", api, store, Options{TempDir: b.TempDir(), Pool: pool}), loop.Options{
		Client: api, Reader: api, Concurrent: 1,
	})
	return c
}

func (c *crowd) run(b *testing.B, i int) {
	b.Helper()
	if _, err := c.Run(b.Context(), c.keys[i%many]); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUnchanged is a run without news of one of 500 objects on one registry, with a repository each and with one
// reference for all, every ten minutes; the API server is a fake in memory, the registry is part of the time.
func BenchmarkUnchanged(b *testing.B) {
	for _, bench := range []struct {
		name       string
		repository func(i int) string
	}{
		{"own repository", func(i int) string { return fmt.Sprintf("apps/app-%d", i) }},
		{"same reference", func(int) string { return "apps/shared" }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			clock := testclock.NewFakePassiveClock(time.Now())
			c := newCrowd(b, oci.NewPool(clock), bench.repository)
			for i := range many {
				c.run(b, i)
			}
			b.ReportAllocs()
			before, i := c.requests.Load(), 0
			for b.Loop() {
				if i%many == 0 {
					clock.SetTime(clock.Now().Add(10 * time.Minute))
				}
				c.run(b, i)
				i++
			}
			b.ReportMetric(float64(c.requests.Load()-before)/float64(i), "requests/op")
		})
	}
}

// BenchmarkFirst is the first run of an object: look, pull, unpack, pack, store.
func BenchmarkFirst(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		c := newCrowd(b, oci.NewPool(nil), func(i int) string { return fmt.Sprintf("apps/app-%d", i) })
		b.StartTimer()
		for i := range many {
			c.run(b, i)
		}
	}
}
