package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// Sizes of the scenarios about what stays as it is.
const (
	crowdCount   = 1000
	largeObjects = 5000
	largeFiles   = 1000
	scaled       = 5
)

// restInterval is the interval of these scenarios: a figure of one run is a figure of one minute.
const restInterval = time.Minute

// behindProxy starts the process so that its requests are counted.
func (l *lab) behindProxy(ctx context.Context, flags ...string) (*apiproxy.Proxy, error) {
	proxy, err := apiproxy.New(l.plane.Config, apiproxy.Options{HTTP2: true})
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(l.dir, "kubeconfig")
	if err := proxy.WriteKubeconfig(kubeconfig); err != nil {
		proxy.Close()
		return nil, err
	}
	if err := l.start(ctx, kubeconfig, append(flags, "--interval-jitter-percentage=0")...); err != nil {
		proxy.Close()
		return nil, err
	}
	return proxy, nil
}

// requests counts what went over the proxy since seq, leases and watches aside.
func requests(proxy *apiproxy.Proxy, seq int64) (all []apiproxy.Request, writes float64) {
	for _, r := range proxy.Requests(seq) {
		if r.Resource == "leases" || r.Verb == "watch" {
			continue
		}
		all = append(all, r)
		if r.IsWrite() || r.Resource == "events" {
			writes++
		}
	}
	return all, writes
}

func manyConfigMaps(namespace, name string, n int) *testkit.GitFile {
	content := ""
	for i := range n {
		content += fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s-%d, namespace: %s}\ndata: {key: one, other: two}\n---\n", name, i, namespace)
	}
	return &testkit.GitFile{Content: content}
}

// crowd: a minute of a thousand Kustomizations that nobody changes.
func crowd(ctx context.Context, l *lab) ([]figure, error) {
	proxy, err := l.behindProxy(ctx, "--kustomize-concurrent=20")
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	files := map[string]*testkit.GitFile{}
	for i := range crowdCount {
		name := fmt.Sprintf("one-%04d", i)
		files[name+"/all.yaml"] = manyConfigMaps(l.namespace, name, 1)
	}
	repo, err := l.source(ctx, "crowd", files)
	if err != nil {
		return nil, err
	}
	for i := range crowdCount {
		name := fmt.Sprintf("one-%04d", i)
		k := repo.kustomization(name, "./"+name)
		k.Spec.Interval = meta.DurationOf(restInterval)
		if err := l.create(ctx, k); err != nil {
			return nil, err
		}
	}
	if err := repo.applied(ctx, crowdCount); err != nil {
		return nil, err
	}
	// What the first apply has set in motion is over after one interval.
	if err := l.runs(ctx, crowdCount); err != nil {
		return nil, err
	}
	before, err := l.cost()
	if err != nil {
		return nil, err
	}
	seq := proxy.Seq()
	if err := l.runs(ctx, crowdCount); err != nil {
		return nil, err
	}
	after, err := l.cost()
	if err != nil {
		return nil, err
	}
	all, writes := requests(proxy, seq)
	memory, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d unchanged Kustomizations with an interval of a minute: %s", crowdCount, tally(all))
	return []figure{
		measure("crowd/writes", writes, 0, "a minute", note),
		measure("crowd/requests", float64(len(all)), 100, "a minute", "of the same"),
		tell("crowd/own-cpu", after.since(before).own, "s", "of the same"),
		tell("crowd/own-peak-rss", memory, "MiB", "of the same, the first apply included"),
	}, nil
}

// large: one Kustomization of five thousand objects.
func large(ctx context.Context, l *lab) ([]figure, error) {
	proxy, err := l.behindProxy(ctx)
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	files := map[string]*testkit.GitFile{}
	for i := range largeFiles {
		name := fmt.Sprintf("file-%04d", i)
		files[name+".yaml"] = manyConfigMaps(l.namespace, name, largeObjects/largeFiles)
	}
	repo, err := l.source(ctx, "large", files)
	if err != nil {
		return nil, err
	}
	if _, err := repo.fetched(ctx); err != nil {
		return nil, err
	}
	k := repo.kustomization("large", "./")
	k.Spec.Interval = meta.DurationOf(restInterval)
	start := time.Now()
	if err := l.create(ctx, k); err != nil {
		return nil, err
	}
	if err := repo.applied(ctx, 1); err != nil {
		return nil, err
	}
	first := time.Since(start)
	seq := proxy.Seq()
	if err := l.runs(ctx, 1); err != nil {
		return nil, err
	}
	all, writes := requests(proxy, seq)
	memory, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	return []figure{
		tell("large/first-apply", seconds(first), "s", fmt.Sprintf("%d objects in %d files", largeObjects, largeFiles)),
		measure("large/writes", writes, 0, "requests", "an interval run of the same, unchanged: "+tally(all)),
		measure("large/own-peak-rss", memory, 500, "MiB", "of the same, the first apply included"),
	}, nil
}

// scale: somebody scales a Deployment, and the number of the manifest comes back.
func scale(ctx context.Context, l *lab) ([]figure, error) {
	if err := l.start(ctx, l.plane.Kubeconfig); err != nil {
		return nil, err
	}
	files := map[string]*testkit.GitFile{}
	for i := range scaled {
		files[fmt.Sprintf("app-%d.yaml", i)] = fourObjects(l.namespace, fmt.Sprintf("app-%d", i), "one")
	}
	repo, err := l.source(ctx, "scale", files)
	if err != nil {
		return nil, err
	}
	if err := l.create(ctx, repo.kustomization("scale", "./")); err != nil {
		return nil, err
	}
	if err := repo.applied(ctx, 1); err != nil {
		return nil, err
	}
	if err := appsv1.AddToScheme(l.client.Scheme()); err != nil {
		return nil, err
	}
	var longest time.Duration
	for i := range scaled {
		o := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: fmt.Sprintf("app-%d", i)}}
		start := time.Now()
		if err := l.client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":3}}`))); err != nil {
			return nil, err
		}
		back := func(seen client.Object) bool {
			d := seen.(*appsv1.Deployment)
			return d.Name == o.Name && d.Generation > o.Generation && *d.Spec.Replicas == 0
		}
		if err := l.await(ctx, &appsv1.DeploymentList{}, 1, back); err != nil {
			return nil, err
		}
		longest = max(longest, time.Since(start))
	}
	return []figure{measure("scale", seconds(longest), 1, "s", fmt.Sprintf("a Deployment scaled by hand until it is undone, the longest of %d", scaled))}, nil
}
