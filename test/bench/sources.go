package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

const (
	// ociCount is how many OCIRepositories follow one registry.
	ociCount = 500
	// ociInterval leaves room for one look of each object.
	ociInterval = 20 * time.Second
)

// oci: five hundred OCIRepositories on one registry, each with a repository of its own, and then an interval without
// news; the same once more with all of them on one reference.
func oci(ctx context.Context, l *lab) ([]figure, error) {
	registry := testkit.NewRegistry()
	defer registry.Close()
	if err := l.start(ctx, l.plane.Kubeconfig, "--interval-jitter-percentage=0"); err != nil {
		return nil, err
	}
	var figures []figure
	for _, variant := range []struct {
		name, note string
		repository func(i int) string
	}{
		{"own", "each with a repository of its own", func(i int) string { return fmt.Sprintf("apps/app-%03d", i) }},
		{"shared", "all with the same reference", func(int) string { return "apps/shared" }},
	} {
		pushed := map[string]bool{}
		for i := range ociCount {
			repository := variant.repository(i)
			if pushed[repository] {
				continue
			}
			pushed[repository] = true
			image, err := testkit.BuildImage("application/vnd.cncf.flux.config.v1+json", nil, []testkit.Layer{{
				MediaType: "application/vnd.cncf.flux.content.v1.tar+gzip",
				Files:     map[string]string{"app.yaml": fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app-%d}\n", i)},
			}})
			if err != nil {
				return nil, err
			}
			if err := registry.Push(repository+":latest", image); err != nil {
				return nil, err
			}
		}
		before, start := registry.Requests(), time.Now()
		for i := range ociCount {
			err := l.client.Create(ctx, &sourcev1.OCIRepository{
				ObjectMeta: l.meta(fmt.Sprintf("%s-%03d", variant.name, i)),
				Spec: sourcev1.OCIRepositorySpec{
					URL: "oci://" + registry.Host() + "/" + variant.repository(i), Insecure: true,
					Interval: meta.DurationOf(ociInterval), Timeout: "60s",
				},
			})
			if err != nil {
				return nil, err
			}
		}
		ready := func(o client.Object) bool {
			return status(o.(*sourcev1.OCIRepository).Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
		}
		if err := l.await(ctx, &sourcev1.OCIRepositoryList{}, ociCount, ready); err != nil {
			return nil, err
		}
		took := time.Since(start)
		first := registry.Requests()
		select {
		case <-time.After(ociInterval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		looks := registry.Requests() - first
		memory, err := peak(l.sut.PID())
		if err != nil {
			return nil, err
		}
		figures = append(figures,
			measure("oci/"+variant.name+"/wall", seconds(took), 10, "s", fmt.Sprintf("%d OCIRepositories, %s", ociCount, variant.note)),
			tell("oci/"+variant.name+"/requests", float64(first-before), "", "to the registry, of the same"),
			measure("oci/"+variant.name+"/idle", float64(looks)/ociCount, 1.05, "", "requests of an object in an interval without news"),
			tell("oci/"+variant.name+"/own-peak-rss", memory, "MiB", "so far"),
		)
		if err := l.client.DeleteAllOf(ctx, &sourcev1.OCIRepository{}, client.InNamespace(l.namespace)); err != nil {
			return nil, err
		}
	}
	return figures, nil
}
