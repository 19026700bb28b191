package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// Numbers of applications that goals speak of: for what a control plane of usual size does, and for the most that one process holds.
const (
	goalUsual = 500
	goalCrowd = 1000
)

// idleFor is how long an idle phase takes, and the interval of all objects in it: each of them has one run.
const idleFor = time.Minute

// Names of the scenarios of applications.
const (
	kustomizationsName = "kustomizations"
	helmReleasesName   = "helmreleases"
	bothName           = "both"
	sharedName         = "shared source"
	emptyName          = "empty"
)

// applications measures n applications of each sort in one process: the floors, and what the process makes of the same objects.
func applications(ctx context.Context, f *fleet, s *sheet) (err error) {
	files := testkit.NewFiles()
	defer files.Close()
	if err := charts.Serve(files, "charts", charts.Webapp(charts.First), charts.Webapp(charts.Second)); err != nil {
		return err
	}
	for _, part := range []string{"floor", "k", "h", "s"} {
		if err := f.teams(ctx, part); err != nil {
			return err
		}
	}
	if err := f.run(ctx); err != nil {
		return err
	}
	if err := f.empty(ctx, s); err != nil {
		return err
	}
	records, err := f.probe(ctx, files.URL+"/charts")
	if err != nil {
		return err
	}
	if err := f.halt(); err != nil {
		return err
	}
	plain, err := f.plainFloor(ctx, s)
	if err != nil {
		return err
	}
	rendered, err := f.renderedFloor(ctx, s, records)
	if err != nil {
		return err
	}
	// A process of its own for what follows: the memory of the probe is no part of it.
	if err := f.run(ctx); err != nil {
		return err
	}
	if err := f.kustomizations(ctx, s, plain); err != nil {
		return err
	}
	if err := f.releases(ctx, s, rendered, files.URL+"/charts"); err != nil {
		return err
	}
	if err := f.unchanged(ctx, s, plain, rendered); err != nil {
		return err
	}
	return f.shared(ctx, s, plain)
}

// kustomizationsAlone installs, upgrades and deletes Kustomizations, after their floor.
func kustomizationsAlone(ctx context.Context, f *fleet, s *sheet) error {
	for _, part := range []string{"floor", "k"} {
		if err := f.teams(ctx, part); err != nil {
			return err
		}
	}
	floor, err := f.plainFloor(ctx, s)
	if err != nil {
		return err
	}
	if err := f.run(ctx); err != nil {
		return err
	}
	if err := f.kustomizations(ctx, s, floor); err != nil {
		return err
	}
	return f.removal(ctx, s, kustomizationsName, floor, func() error { return f.delete(ctx, kustomizations(), ociRepositories()) })
}

// releasesAlone installs, upgrades and deletes HelmReleases, after their floor.
func releasesAlone(ctx context.Context, f *fleet, s *sheet) error {
	files := testkit.NewFiles()
	defer files.Close()
	if err := charts.Serve(files, "charts", charts.Webapp(charts.First), charts.Webapp(charts.Second)); err != nil {
		return err
	}
	for _, part := range []string{"floor", "h"} {
		if err := f.teams(ctx, part); err != nil {
			return err
		}
	}
	if err := f.run(ctx); err != nil {
		return err
	}
	records, err := f.probe(ctx, files.URL+"/charts")
	if err != nil {
		return err
	}
	if err := f.halt(); err != nil {
		return err
	}
	floor, err := f.renderedFloor(ctx, s, records)
	if err != nil {
		return err
	}
	if err := f.run(ctx); err != nil {
		return err
	}
	if err := f.releases(ctx, s, floor, files.URL+"/charts"); err != nil {
		return err
	}
	return f.removal(ctx, s, helmReleasesName, floor, func() error { return f.deleteReleases(ctx) })
}

// removal measures a deletion.
func (f *fleet) removal(ctx context.Context, s *sheet, scenario string, floor floors, remove func() error) error {
	r, err := f.phase(ctx, scenario, "delete", remove)
	if err != nil {
		return err
	}
	return s.add(r.over(floor.remove).memory())
}

// floors are the rows of the floor: installation, upgrade, deletion.
type floors struct{ install, upgrade, remove *row }

// plainFloor is the floor of Kustomizations.
func (f *fleet) plainFloor(ctx context.Context, s *sheet) (floors, error) {
	return f.floorOf(ctx, s, kustomizationsName, [2]func(i int) ([]object, error){
		func(i int) ([]object, error) { return f.plainObjects(i, firstTag) },
		func(i int) ([]object, error) { return f.plainObjects(i, secondTag) },
	})
}

// renderedFloor is the floor of HelmReleases: the objects of two records, and the records.
func (f *fleet) renderedFloor(ctx context.Context, s *sheet, records [2]record) (floors, error) {
	return f.floorOf(ctx, s, helmReleasesName, [2]func(i int) ([]object, error){
		func(i int) ([]object, error) { return records[0].objects(f, i) },
		func(i int) ([]object, error) { return records[1].objects(f, i) },
	})
}

func (f *fleet) plainObjects(i int, tag string) ([]object, error) {
	return f.floor.objects("", fourObjects(f.team("floor", i), app(i), tag).Content)
}

// floorOf measures the floor of applications that consist of some objects and then of others.
func (f *fleet) floorOf(ctx context.Context, s *sheet, name string, versions [2]func(i int) ([]object, error)) (floors, error) {
	var applications [2][][]object
	for i := range f.n {
		for v, objectsOf := range versions {
			objects, err := objectsOf(i)
			if err != nil {
				return floors{}, err
			}
			applications[v] = append(applications[v], objects)
		}
	}
	var changes [][]object
	for i := range f.n {
		changes = append(changes, changed(applications[0][i], applications[1][i]))
	}
	var rows []*row
	for _, phase := range []struct {
		name string
		run  func() error
	}{
		{"floor: install", func() error { return f.floor.apply(ctx, applications[0]) }},
		{"floor: upgrade", func() error { return f.floor.apply(ctx, changes) }},
		{"floor: delete", func() error { return f.floor.remove(ctx, union(applications)) }},
	} {
		r, err := f.phase(ctx, name, phase.name, phase.run)
		if err != nil {
			return floors{}, err
		}
		if err := s.add(r); err != nil {
			return floors{}, err
		}
		rows = append(rows, r)
	}
	return floors{rows[0], rows[1], rows[2]}, nil
}

// union are the objects of both versions, each once.
func union(applications [2][][]object) [][]object {
	var out [][]object
	for i := range applications[0] {
		objects := applications[0][i]
		for _, o := range applications[1][i] {
			known := false
			for _, b := range applications[0][i] {
				known = known || b.path == o.path
			}
			if !known {
				objects = append(objects, o)
			}
		}
		out = append(out, objects)
	}
	return out
}

// phase measures what run does.
func (f *fleet) phase(ctx context.Context, scenario, phase string, run func() error) (*row, error) {
	span, err := f.begin(ctx, scenario, f.n, phase)
	if err != nil {
		return nil, err
	}
	if err := run(); err != nil {
		return nil, fmt.Errorf("%s, %d, %s: %w", scenario, f.n, phase, err)
	}
	return span.end(ctx)
}

// empty is all components with nothing to do.
func (f *fleet) empty(ctx context.Context, s *sheet) error {
	r, err := f.phase(ctx, emptyName, "idle", func() error { return pause(ctx, idleFor/6) })
	if err != nil {
		return err
	}
	r.Applications = 0
	r.goal("idle", r.Idle, 80, "MiB")
	return s.add(r)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kustomizations: each application has an OCIRepository and a Kustomization, which is impersonated and waits.
func (f *fleet) kustomizations(ctx context.Context, s *sheet, floor floors) error {
	for _, tag := range []string{firstTag, secondTag} {
		if err := f.push("k", tag); err != nil {
			return err
		}
	}
	install, err := f.phase(ctx, kustomizationsName, "install", func() error { return f.installKustomizations(ctx) })
	if err != nil {
		return err
	}
	if err := s.add(install.over(floor.install).times(3).memory()); err != nil {
		return err
	}
	upgrade, err := f.phase(ctx, kustomizationsName, "upgrade", func() error {
		err := spread(f.n, func(_, i int) error { return f.setTag(ctx, f.team("k", i), app(i), secondTag) })
		if err != nil {
			return err
		}
		return f.ready(ctx, f.n, secondTag)
	})
	if err != nil {
		return err
	}
	return s.add(upgrade.over(floor.upgrade).times(3).memory())
}

// installKustomizations creates the sources and Kustomizations and waits until all are Ready.
func (f *fleet) installKustomizations(ctx context.Context) error {
	err := spread(f.n, func(_, i int) error {
		at := f.metaOf("k", i)
		return f.create(ctx, f.ociRepository(at, app(i)),
			f.kustomizationOf(at, kustomizev1.SourceReference{Kind: sourcev1.OCIRepositoryKind, Name: app(i)}, "./"))
	})
	if err != nil {
		return err
	}
	return f.ready(ctx, f.n, firstTag)
}

// releases: each application has a HelmRelease, which makes a HelmChart of one HelmRepository.
func (f *fleet) releases(ctx context.Context, s *sheet, floor floors, url string) error {
	install, err := f.phase(ctx, helmReleasesName, "install", func() error { return f.installReleases(ctx, url) })
	if err != nil {
		return err
	}
	if err := s.add(install.over(floor.install).times(4).memory()); err != nil {
		return err
	}
	upgrade, err := f.phase(ctx, helmReleasesName, "upgrade", func() error {
		err := spread(f.n, func(_, i int) error { return f.setVersion(ctx, f.team("h", i), app(i), charts.Second) })
		if err != nil {
			return err
		}
		return f.releasedIn(ctx, f.n, charts.Second)
	})
	if err != nil {
		return err
	}
	return s.add(upgrade.over(floor.upgrade).times(4).memory())
}

// charts is the HelmRepository of all releases.
func (f *fleet) charts(url string) *sourcev1.HelmRepository {
	return &sourcev1.HelmRepository{
		ObjectMeta: f.meta("charts"),
		Spec:       sourcev1.HelmRepositorySpec{URL: url, Interval: meta.DurationOf(longInterval)},
	}
}

// installReleases creates the HelmRepository and the HelmReleases and waits until all are Ready.
func (f *fleet) installReleases(ctx context.Context, url string) error {
	if err := f.create(ctx, f.charts(url)); err != nil {
		return err
	}
	err := spread(f.n, func(_, i int) error { return f.create(ctx, f.releaseAt(f.metaOf("h", i))) })
	if err != nil {
		return err
	}
	return f.releasedIn(ctx, f.n, charts.First)
}

// releaseAt is a HelmRelease with the one HelmRepository of the fleet, which stands in another namespace.
func (f *fleet) releaseAt(at metav1.ObjectMeta) *helmv2.HelmRelease {
	r := f.release(at.Name, longInterval)
	r.Namespace = at.Namespace
	r.Spec.Chart.Spec.SourceRef.Namespace = f.namespace
	return r
}

// deleteReleases deletes all releases with their repository, and waits until their HelmCharts are gone too.
func (f *fleet) deleteReleases(ctx context.Context) error {
	if err := f.delete(ctx, helmReleases(), helmRepositories()); err != nil {
		return err
	}
	return f.gone(ctx, helmCharts())
}

// setVersion makes a release follow another version of the chart.
func (f *fleet) setVersion(ctx context.Context, namespace, name, version string) error {
	o := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	body := fmt.Appendf(nil, `{"spec":{"chart":{"spec":{"version":%q}}}}`, version)
	return f.client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", body))
}

// releasedIn waits until n releases of the fleet are Ready with that version of the chart.
func (f *fleet) releasedIn(ctx context.Context, n int, version string) error {
	return f.awaitIn(ctx, &helmv2.HelmReleaseList{}, n, isReleased(version), f.labelled())
}

// unchanged: nothing is new for a minute, in which each object has one run; then without the releases, after a restart.
func (f *fleet) unchanged(ctx context.Context, s *sheet, plain, rendered floors) error {
	for _, kind := range []func() schema.GroupVersionKind{ociRepositories, kustomizations, helmRepositories, helmReleases} {
		if err := f.setInterval(ctx, kind(), idleFor); err != nil {
			return err
		}
	}
	// What the change has set in motion is over after one interval.
	if err := pause(ctx, idleFor); err != nil {
		return err
	}
	idle, err := f.idle(ctx, bothName)
	if err != nil {
		return err
	}
	if err := s.add(idle); err != nil {
		return err
	}
	if err := f.removal(ctx, s, helmReleasesName, rendered, func() error { return f.deleteReleases(ctx) }); err != nil {
		return err
	}
	restart, err := f.restart(ctx)
	if err != nil {
		return err
	}
	if err := s.add(restart); err != nil {
		return err
	}
	if idle, err = f.idle(ctx, kustomizationsName); err != nil {
		return err
	}
	if err := s.add(idle); err != nil {
		return err
	}
	return f.removal(ctx, s, kustomizationsName, plain, func() error { return f.delete(ctx, kustomizations(), ociRepositories()) })
}

// idle is a minute in which nothing happens.
func (f *fleet) idle(ctx context.Context, scenario string) (*row, error) {
	r, err := f.phase(ctx, scenario, "idle", func() error { return pause(ctx, idleFor) })
	if err != nil {
		return nil, err
	}
	r.Note = fmt.Sprintf("an interval of %s: a run of each object", idleFor)
	r.goal("writes", r.writes(), 0, "")
	if f.n <= goalUsual {
		r.goal("requests", r.Sent.sum(func(string) bool { return true })/r.Wall, 1, "/s")
	}
	if f.n <= goalCrowd {
		r.goal("idle", r.Idle, 150, "MiB")
	}
	return r, nil
}

// restart: a new process finds everything as it should be, and tries it all.
func (f *fleet) restart(ctx context.Context) (*row, error) {
	f.counted = "kustomization"
	if err := f.halt(); err != nil {
		return nil, err
	}
	span, err := f.begin(ctx, kustomizationsName, f.n, "restart")
	if err != nil {
		return nil, err
	}
	if err := f.lab.sut.Start(ctx); err != nil {
		return nil, err
	}
	f.process = f.lab.sut
	if err := f.ran(ctx, float64(f.n)); err != nil {
		return nil, err
	}
	tries, err := f.tried(ctx, span.before.requests)
	if err != nil {
		return nil, err
	}
	r, err := span.end(ctx)
	if err != nil {
		return nil, err
	}
	r.Note = fmt.Sprintf("from the start of the process; %.0f objects tried", tries)
	r.goal("writes", r.writes(), 0, "")
	if f.n <= goalCrowd {
		r.goal("wall", r.Wall, 60, "s")
	}
	return r.memory(), nil
}

// tried waits until there was a dry run for each object of the Kustomizations, and returns how many there were.
func (f *fleet) tried(ctx context.Context, before counts) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	for {
		now, err := f.served(ctx)
		if err != nil {
			return 0, err
		}
		tries := now.since(before).sum(func(key string) bool { return strings.HasSuffix(key, dryRun) })
		if tries >= float64(4*f.n) {
			return tries, nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return 0, fmt.Errorf("%g of %d objects were tried: %w; the end of the log: %s", tries, 4*f.n, err, f.sut.LogTail())
		}
	}
}

// ran waits until a new process has ended that many runs of the counted kind.
func (l *lab) ran(ctx context.Context, n float64) error {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	for {
		runs, err := l.reconciles(ctx)
		if err != nil {
			return err
		}
		if runs >= n {
			return nil
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("%g of %g runs: %w; the end of the log: %s", runs, n, err, l.sut.LogTail())
		}
	}
}

// shared: all Kustomizations have one source, which holds a folder for each.
func (f *fleet) shared(ctx context.Context, s *sheet, floor floors) error {
	for _, tag := range []string{firstTag, secondTag} {
		files := map[string]string{}
		for i := range f.n {
			files[app(i)+"/all.yaml"] = fourObjects(f.team("s", i), app(i), tag).Content
		}
		if err := f.pushFiles("shared:"+tag, files); err != nil {
			return err
		}
	}
	install, err := f.phase(ctx, sharedName, "install", func() error { return f.installShared(ctx) })
	if err != nil {
		return err
	}
	if err := s.add(install.over(floor.install).times(3).memory()); err != nil {
		return err
	}
	upgrade, err := f.phase(ctx, sharedName, "upgrade", func() error {
		if err := f.setTag(ctx, f.namespace, "shared", secondTag); err != nil {
			return err
		}
		return f.ready(ctx, f.n, secondTag)
	})
	if err != nil {
		return err
	}
	if err := s.add(upgrade.over(floor.upgrade).times(3).memory()); err != nil {
		return err
	}
	return f.removal(ctx, s, sharedName, floor, func() error { return f.delete(ctx, kustomizations(), ociRepositories()) })
}

// installShared creates the source and the Kustomizations and waits until all are Ready.
func (f *fleet) installShared(ctx context.Context) error {
	if err := f.create(ctx, f.ociRepository(f.meta("shared"), "shared")); err != nil {
		return err
	}
	err := spread(f.n, func(_, i int) error {
		source := kustomizev1.SourceReference{Kind: sourcev1.OCIRepositoryKind, Name: "shared", Namespace: f.namespace}
		return f.create(ctx, f.kustomizationOf(f.metaOf("s", i), source, "./"+app(i)))
	})
	if err != nil {
		return err
	}
	return f.ready(ctx, f.n, firstTag)
}

// record is what Helm stores of a release: the objects that it rendered are in it.
type record struct {
	manifest string
	secret   *corev1.Secret
}

// probe installs and upgrades one release, and returns the records of both: the floor of releases are their objects and a
// record each.
func (f *fleet) probe(ctx context.Context, url string) (records [2]record, err error) {
	at := f.metaOf("h", 0)
	at.Name = probeName
	if err := f.create(ctx, f.charts(url), f.releaseAt(at)); err != nil {
		return records, err
	}
	for v, version := range []string{charts.First, charts.Second} {
		if v > 0 {
			if err := f.setVersion(ctx, at.Namespace, at.Name, version); err != nil {
				return records, err
			}
		}
		if err := f.releasedIn(ctx, 1, version); err != nil {
			return records, err
		}
		secret := &corev1.Secret{}
		key := client.ObjectKey{Namespace: at.Namespace, Name: fmt.Sprintf("sh.helm.release.v1.%s.v%d", at.Name, v+1)}
		if err := f.client.Get(ctx, key, secret); err != nil {
			return records, err
		}
		if records[v], err = readRecord(secret); err != nil {
			return records, err
		}
	}
	return records, f.deleteReleases(ctx)
}

// probeName has as many letters as the name of an application.
const probeName = "prober-0"

func readRecord(secret *corev1.Secret) (record, error) {
	packed, err := base64.StdEncoding.DecodeString(string(secret.Data["release"]))
	if err != nil {
		return record{}, fmt.Errorf("reading the record of a release: %w", err)
	}
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return record{}, fmt.Errorf("reading the record of a release: %w", err)
	}
	content, err := io.ReadAll(plain)
	if err != nil {
		return record{}, fmt.Errorf("reading the record of a release: %w", err)
	}
	var release struct {
		Manifest string `json:"manifest"`
	}
	if err := json.Unmarshal(content, &release); err != nil {
		return record{}, fmt.Errorf("reading the record of a release: %w", err)
	}
	return record{manifest: release.Manifest, secret: secret}, nil
}

// objects are those of the record under the name of another application, and the record itself.
func (r record) objects(f *fleet, i int) ([]object, error) {
	namespace := f.team("floor", i)
	objects, err := f.floor.objects(namespace, strings.ReplaceAll(r.manifest, probeName, app(i)))
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: strings.ReplaceAll(r.secret.Name, probeName, app(i)), Labels: r.secret.Labels},
		Type:       r.secret.Type, Data: r.secret.Data,
	})
	if err != nil {
		return nil, err
	}
	secret, err := f.floor.objects(namespace, string(manifest))
	return append(objects, secret...), err
}
