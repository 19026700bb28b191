package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

const indexInterval = 10 * time.Second

// largeIndex: the index of a Helm repository of 50 MB with 200,000 versions is fetched, a chart of it is looked up, and
// the repository is looked at in an interval without news.
func largeIndex(ctx context.Context, l *lab) ([]figure, error) {
	var index bytes.Buffer
	if err := testkit.WriteLargeHelmIndex(&index); err != nil {
		return nil, err
	}
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.URL.Path != "/index.yaml" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "index.yaml", time.Time{}, bytes.NewReader(index.Bytes()))
	}))
	defer server.Close()
	if err := l.start(ctx, l.plane.Kubeconfig, "--interval-jitter-percentage=0"); err != nil {
		return nil, err
	}
	idle, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	err = l.client.Create(ctx, &sourcev1.HelmRepository{
		ObjectMeta: l.meta("large"),
		Spec:       sourcev1.HelmRepositorySpec{URL: server.URL, Interval: meta.DurationOf(indexInterval), Timeout: "10m"},
	})
	if err != nil {
		return nil, err
	}
	ready := func(o client.Object) bool {
		return status(o.(*sourcev1.HelmRepository).Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
	}
	if err := l.await(ctx, &sourcev1.HelmRepositoryList{}, 1, ready); err != nil {
		return nil, err
	}
	took := time.Since(start)
	err = l.client.Create(ctx, &sourcev1.HelmChart{
		ObjectMeta: l.meta("chart"),
		Spec: sourcev1.HelmChartSpec{
			Chart: "chart-0500", Version: ">=1.100.0 <1.150.0", Interval: meta.DurationOf(time.Hour),
			SourceRef: sourcev1.HelmChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: "large"},
		},
	})
	if err != nil {
		return nil, err
	}
	// The server has no charts: what counts is that the version was found and asked for.
	start = time.Now()
	lookedUp := func(o client.Object) bool {
		return status(o.(*sourcev1.HelmChart).Status.Conditions, meta.ReadyCondition) == metav1.ConditionFalse
	}
	if err := l.await(ctx, &sourcev1.HelmChartList{}, 1, lookedUp); err != nil {
		return nil, err
	}
	lookup := time.Since(start)
	memory, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	if err := l.client.DeleteAllOf(ctx, &sourcev1.HelmChart{}, client.InNamespace(l.namespace)); err != nil {
		return nil, err
	}
	requests.Store(0)
	select {
	case <-time.After(5 * indexInterval / 2):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return []figure{
		tell("index/wall", seconds(took), "s", fmt.Sprintf("an index of %d MB with 200,000 versions", index.Len()/1e6)),
		tell("index/lookup", seconds(lookup), "s", "a range of versions is looked up in it"),
		measure("index/own-peak-rss", memory-idle, 100, "MiB", fmt.Sprintf("above the %.0f MiB when idle", idle)),
		measure("index/interval", float64(requests.Load())/2, 1, "", "requests of an interval without news"),
	}, nil
}
