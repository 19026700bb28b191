package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// helmCount is how many releases there are, as in the goals.
const helmCount = 100

// helmValues are those of the public benchmark of 2.9: a Deployment scaled to zero, an Ingress, a Service and a
// ServiceAccount, without configuration, hooks and tests.
const helmValues = `{"replicaCount": 0, "message": "", "hooks": {"enabled": false}, "tests": {"enabled": false}}`

// helm: a hundred releases of one chart are installed and upgraded; the same again, counted: requests for each, and writes
// of an interval in which nothing changes.
func helm(ctx context.Context, l *lab) (figures []figure, err error) {
	files := testkit.NewFiles()
	defer files.Close()
	if err := charts.Serve(files, "charts", charts.Webapp(charts.First), charts.Webapp(charts.Second)); err != nil {
		return nil, err
	}
	url := files.URL + "/charts"
	if figures, err = timedReleases(ctx, l, url); err != nil {
		return nil, err
	}
	counted, err := newLab(ctx, l.plane, filepath.Join(l.dir, "counted"), l.namespace+"-counted")
	if err != nil {
		return nil, err
	}
	more, err := countedReleases(ctx, counted, url)
	return append(figures, more...), errors.Join(err, counted.close())
}

// asHelm makes the lab run the components that releases need.
func (l *lab) asHelm() {
	l.components, l.counted = []string{"source-controller", "helm-controller"}, "helmrelease"
}

// timedReleases installs and upgrades with nothing between process and API server.
func timedReleases(ctx context.Context, l *lab, url string) ([]figure, error) {
	l.asHelm()
	if err := l.start(ctx, l.plane.Kubeconfig, "--helm-concurrent=20"); err != nil {
		return nil, err
	}
	var figures []figure
	for _, phase := range []struct {
		name string
		run  func() error
		note string
	}{
		{"install", func() error { return l.install(ctx, url, time.Hour) }, "4 objects and a HelmChart each, 20 slots"},
		{"upgrade", func() error { return l.upgrade(ctx, charts.Second) }, "to the next version of the chart"},
	} {
		before, err := l.cost()
		if err != nil {
			return nil, err
		}
		start := time.Now()
		if err := phase.run(); err != nil {
			return nil, fmt.Errorf("%s: %w", phase.name, err)
		}
		took := time.Since(start)
		after, err := l.cost()
		if err != nil {
			return nil, err
		}
		memory, err := peak(l.sut.PID())
		if err != nil {
			return nil, err
		}
		used, name := after.since(before), "helm/"+phase.name
		figures = append(figures,
			measure(name+"/wall", seconds(took), 12, "s", fmt.Sprintf("%d HelmReleases, %s", helmCount, phase.note)),
			tell(name+"/apiserver-cpu", used.server, "s", "of the same"),
			tell(name+"/own-cpu", used.own, "s", "of the same"),
			measure(name+"/own-peak-rss", memory, 200, "MiB", "so far"),
		)
	}
	return figures, nil
}

// countedReleases does the same through a proxy that counts, and then looks at an interval without news.
func countedReleases(ctx context.Context, l *lab, url string) ([]figure, error) {
	l.asHelm()
	proxy, err := l.behindProxy(ctx, "--helm-concurrent=20")
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	var figures []figure
	count := func(name string, run func() error) error {
		seq := proxy.Seq()
		if err := run(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all, _ := requests(proxy, seq)
		figures = append(figures, tell("helm/"+name+"/requests", float64(len(all))/helmCount, "each", tally(all)))
		return nil
	}
	if err := count("install", func() error { return l.install(ctx, url, restInterval) }); err != nil {
		return nil, err
	}
	if err := count("upgrade", func() error { return l.upgrade(ctx, charts.Second) }); err != nil {
		return nil, err
	}
	// What the upgrade has set in motion is over after one interval.
	if err := l.runs(ctx, helmCount); err != nil {
		return nil, err
	}
	before, err := l.cost()
	if err != nil {
		return nil, err
	}
	seq := proxy.Seq()
	if err := l.runs(ctx, helmCount); err != nil {
		return nil, err
	}
	after, err := l.cost()
	if err != nil {
		return nil, err
	}
	all, writes := requests(proxy, seq)
	return append(figures,
		measure("helm/idle/writes", writes, 0, "requests", fmt.Sprintf("an interval run of %d unchanged releases: %s", helmCount, tally(all))),
		tell("helm/idle/requests", float64(len(all)), "", "of the same, leases and watches aside"),
		tell("helm/idle/own-cpu", after.since(before).own, "s", "of the same"),
	), nil
}

// install creates the HelmRepository and the HelmReleases and waits until all are released.
func (l *lab) install(ctx context.Context, url string, interval time.Duration) error {
	err := l.create(ctx, &sourcev1.HelmRepository{
		ObjectMeta: l.meta("charts"),
		Spec:       sourcev1.HelmRepositorySpec{URL: url, Interval: meta.DurationOf(time.Hour)},
	})
	if err != nil {
		return err
	}
	for i := range helmCount {
		if err := l.create(ctx, l.release(releaseName(i), interval)); err != nil {
			return err
		}
	}
	return l.released(ctx, charts.First)
}

func releaseName(i int) string { return fmt.Sprintf("app-%03d", i) }

func (l *lab) release(name string, interval time.Duration) *helmv2.HelmRelease {
	labels := l.meta(name).Labels
	return &helmv2.HelmRelease{
		ObjectMeta: l.meta(name),
		Spec: helmv2.HelmReleaseSpec{
			Interval: meta.DurationOf(interval), Timeout: "5m",
			Chart: &helmv2.HelmChartTemplate{
				// The HelmChart belongs to this scenario's process as well.
				ObjectMeta: &helmv2.HelmChartTemplateMeta{Labels: labels},
				Spec: helmv2.HelmChartTemplateSpec{
					Chart: "webapp", Version: charts.First,
					SourceRef: helmv2.ChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: "charts"},
				},
			},
			Install: &helmv2.Install{CRDs: "Skip"},
			Upgrade: &helmv2.Upgrade{CRDs: "Skip"},
			Values:  &apiextensionsv1.JSON{Raw: []byte(helmValues)},
		},
	}
}

// upgrade gives all releases another version of the chart and waits until they have it.
func (l *lab) upgrade(ctx context.Context, version string) error {
	body := fmt.Sprintf(`{"spec":{"chart":{"spec":{"version":%q}}}}`, version)
	for i := range helmCount {
		o := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: releaseName(i)}}
		if err := l.client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(body))); err != nil {
			return err
		}
	}
	return l.released(ctx, version)
}

// released waits until all releases are Ready with that version of the chart.
func (l *lab) released(ctx context.Context, version string) error {
	return l.await(ctx, &helmv2.HelmReleaseList{}, helmCount, isReleased(version))
}

// isReleased tells HelmReleases that are Ready with that version of the chart.
func isReleased(version string) func(client.Object) bool {
	return func(o client.Object) bool {
		r := o.(*helmv2.HelmRelease)
		return r.Status.ObservedGeneration == r.Generation && len(r.Status.History) > 0 && r.Status.History[0].ChartVersion == version &&
			status(r.Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
	}
}
