package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// Sizes of the scenario of images, as in the goals.
const (
	manyTags          = 9000
	imageRepositories = 500
)

// tags: one repository of nine thousand tags, and five hundred repositories of one registry.
func tags(ctx context.Context, l *lab) ([]figure, error) {
	registry := testkit.NewRegistry()
	defer registry.Close()
	l.components = []string{"image-reflector-controller"}
	if err := l.start(ctx, l.plane.Kubeconfig, "--image-reflector-storage-path="+l.dir+"/tags"); err != nil {
		return nil, err
	}
	all := make([]string, manyTags)
	for i := range all {
		all[i] = fmt.Sprintf("1.%d.%d-build.%d", i/100, i%100, i)
	}
	registry.Show("apps/large", all...)
	for i := range imageRepositories {
		registry.Show(fmt.Sprintf("apps/app-%03d", i), "1.0.0", "1.1.0")
	}
	scan := func(name, image string) error {
		return l.create(ctx, &imagev1.ImageRepository{
			ObjectMeta: l.meta(name),
			Spec:       imagev1.ImageRepositorySpec{Image: registry.Host() + "/" + image, Insecure: true, Interval: meta.DurationOf(time.Hour), Timeout: "1m"},
		})
	}
	scanned := func(o client.Object) bool {
		return status(o.(*imagev1.ImageRepository).Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
	}
	// The first scan of a process opens connections and reads what the next ones share.
	if err := scan("first", "apps/app-000"); err != nil {
		return nil, err
	}
	if err := l.await(ctx, &imagev1.ImageRepositoryList{}, 1, scanned); err != nil {
		return nil, err
	}
	if err := forgetPeak(l.sut.PID()); err != nil {
		return nil, err
	}
	idle, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := scan("large", "apps/large"); err != nil {
		return nil, err
	}
	if err := l.await(ctx, &imagev1.ImageRepositoryList{}, 2, scanned); err != nil {
		return nil, err
	}
	took := time.Since(start)
	highest, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	start = time.Now()
	for i := range imageRepositories {
		if err := scan(fmt.Sprintf("app-%03d", i), fmt.Sprintf("apps/app-%03d", i)); err != nil {
			return nil, err
		}
	}
	if err := l.await(ctx, &imagev1.ImageRepositoryList{}, imageRepositories+2, scanned); err != nil {
		return nil, err
	}
	return []figure{
		measure("tags/memory", highest-idle, 50, "MiB", fmt.Sprintf("a scan of %d tags, above %.0f MiB before it", manyTags, idle)),
		tell("tags/scan", seconds(took), "s", "of the same, from its creation to Ready"),
		measure("tags/many", seconds(time.Since(start)), 15, "s", fmt.Sprintf("%d ImageRepositories on one registry, their creation included", imageRepositories)),
	}, nil
}
