package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// Sizes of the scenarios that do not grow with the number of applications.
const (
	monorepoApps  = 100
	monorepoFiles = 50_000
	// repeated is how many commits a time of one commit is the median of.
	repeated      = 10
	neighboursOne = 100
)

// Names of these scenarios.
const (
	chainName      = "chain"
	monorepoName   = "monorepo"
	neighboursName = "neighbours"
)

// unsized are the scenarios that do not depend on the number of applications.
func unsized() []string { return []string{chainName, monorepoName, neighboursName} }

// alone measures some of them. The fleet has as many applications as the largest.
func alone(ctx context.Context, f *fleet, s *sheet, names []string) error {
	for _, part := range []string{"floor", "k"} {
		if err := f.teams(ctx, part); err != nil {
			return err
		}
	}
	scenarios := map[string]func(context.Context, *sheet) error{chainName: f.chain, monorepoName: f.monorepo, neighboursName: f.neighbours}
	for _, name := range names {
		if err := f.run(ctx); err != nil {
			return err
		}
		if err := scenarios[name](ctx, s); err != nil {
			return err
		}
		if err := f.delete(ctx, kustomizations(), gitRepositories()); err != nil {
			return err
		}
		if err := f.lab.sut.Stop(); err != nil {
			return err
		}
		f.process = nil
	}
	return nil
}

// once measures the floor of a set of objects, and removes them.
func (f *fleet) once(ctx context.Context, scenario string, n int, objects [][]object) (*row, error) {
	process := f.process
	f.process = nil
	defer func() { f.process = process }()
	span, err := f.begin(ctx, scenario, n, "floor")
	if err != nil {
		return nil, err
	}
	if err := f.floor.apply(ctx, objects); err != nil {
		return nil, err
	}
	r, err := span.end(ctx)
	if err != nil {
		return nil, err
	}
	return r, f.floor.remove(ctx, objects)
}

// chain: each Kustomization depends on the one before, and the last is created first.
func (f *fleet) chain(ctx context.Context, s *sheet) error {
	files := map[string]*testkit.GitFile{}
	var plain [][]object
	for i := range chainLength {
		files[app(i)+"/all.yaml"] = fourObjects(f.namespace, app(i), firstTag)
		objects, err := f.plainObjects(i, firstTag)
		if err != nil {
			return err
		}
		plain = append(plain, objects)
	}
	floor, err := f.once(ctx, chainName, chainLength, plain)
	if err != nil {
		return err
	}
	repo, err := f.source(ctx, chainName, files)
	if err != nil {
		return err
	}
	if _, err := repo.fetched(ctx); err != nil {
		return err
	}
	span, err := f.begin(ctx, chainName, chainLength, "install")
	if err != nil {
		return err
	}
	for i := chainLength - 1; i >= 0; i-- {
		k := repo.kustomization(app(i), "./"+app(i))
		if k.Spec.Wait = true; i > 0 {
			k.Spec.DependsOn = []meta.DependencyReference{{Name: app(i - 1)}}
		}
		if err := f.create(ctx, k); err != nil {
			return err
		}
	}
	if err := repo.applied(ctx, chainLength); err != nil {
		return err
	}
	r, err := span.end(ctx)
	if err != nil {
		return err
	}
	r.goal("wall", r.Wall, 3, "s")
	return s.addAll(floor, r.over(floor))
}

// monorepo: a commit changes one file of very many, which one Kustomization of a hundred applies.
func (f *fleet) monorepo(ctx context.Context, s *sheet) error {
	files := map[string]*testkit.GitFile{}
	for i := range monorepoApps {
		files[app(i)+"/kustomization.yaml"] = &testkit.GitFile{Content: "resources: [all.yaml]\n"}
		files[app(i)+"/all.yaml"] = fourObjects(f.namespace, app(i), firstTag)
		for j := range monorepoFiles/monorepoApps - 2 {
			page := fmt.Sprintf("# %s, page %d\n\nWhat stands beside manifests.\n", app(i), j)
			files[fmt.Sprintf("%s/docs/%03d/%d.md", app(i), j/20, j)] = &testkit.GitFile{Content: page}
		}
	}
	repo, err := f.source(ctx, monorepoName, files)
	if err != nil {
		return err
	}
	span, err := f.begin(ctx, monorepoName, monorepoApps, "install")
	if err != nil {
		return err
	}
	err = spread(monorepoApps, func(_, i int) error { return f.create(ctx, repo.kustomization(app(i), "./"+app(i))) })
	if err != nil {
		return err
	}
	if err := repo.applied(ctx, monorepoApps); err != nil {
		return err
	}
	install, err := span.end(ctx)
	if err != nil {
		return err
	}
	install.Note = fmt.Sprintf("%d files; the fetch is part of it", monorepoFiles)
	if span, err = f.begin(ctx, monorepoName, monorepoApps, "commits"); err != nil {
		return err
	}
	var affected, all []time.Duration
	for i := range repeated {
		times, err := repo.timed(ctx, app(i), monorepoApps, map[string]*testkit.GitFile{
			app(i) + "/all.yaml": fourObjects(f.namespace, app(i), secondTag),
		})
		if err != nil {
			return err
		}
		affected, all = append(affected, times.one), append(all, times.all...)
	}
	r, err := span.end(ctx)
	if err != nil {
		return err
	}
	var plain [][]object
	for i := range repeated {
		objects, err := f.plainObjects(i, secondTag)
		if err != nil {
			return err
		}
		plain = append(plain, objects)
	}
	floor, err := f.once(ctx, monorepoName, monorepoApps, plain)
	if err != nil {
		return err
	}
	floor.Note = fmt.Sprintf("of %d commits", repeated)
	writes := r.Requests.sum(func(key string) bool { return key == "APPLY deployments" })
	statuses := r.Requests.sum(func(key string) bool { return key == "PATCH kustomizations/status" })
	r.Note = fmt.Sprintf("%d commits of one file, fetches included; from artifact to Ready, median: %.2f s of the affected one, %.2f s of all; "+
		"%.0f status patches", repeated, seconds(median(affected)), seconds(median(all)), statuses)
	r.goal("Kustomizations that apply", writes/repeated, 1, "a commit")
	// One that has nothing to change writes nothing at all: what is left are four objects, their inventory, and what source and
	// Kustomization tell of themselves.
	r.goal("writes", r.writes()/repeated, 20, "a commit")
	r.goal("p50", seconds(median(affected)), 1, "s")
	return s.addAll(install.memory(), floor, r.over(floor).memory())
}

// commitTimes are the times from an artifact to Ready: of the Kustomization that a commit affects, and of all.
type commitTimes struct {
	one time.Duration
	all []time.Duration
}

// timed commits the files, asks for a fetch, and waits until n Kustomizations are Ready with it.
func (r *repository) timed(ctx context.Context, affected string, n int, files map[string]*testkit.GitFile) (times commitTimes, err error) {
	if err := r.commit(files); err != nil {
		return times, err
	}
	if err := r.request(ctx); err != nil {
		return times, err
	}
	// Both are watched at once: who looked for the artifact first would see the end of some runs late.
	var artifact time.Time
	fetched := make(chan error, 1)
	go func() {
		var err error
		artifact, err = r.fetched(ctx)
		fetched <- err
	}()
	seen := map[string]time.Time{}
	err = r.lab.await(ctx, &kustomizev1.KustomizationList{}, n, func(o client.Object) bool {
		k := o.(*kustomizev1.Kustomization)
		ready := status(k.Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
		if !ready || k.Spec.SourceRef.Name != r.name || k.Status.LastAppliedRevision != r.revision {
			return false
		}
		if _, known := seen[k.Name]; !known {
			seen[k.Name] = time.Now()
		}
		return true
	})
	if err != nil {
		return times, err
	}
	if err := <-fetched; err != nil {
		return times, err
	}
	for name, at := range seen {
		// The two watches may tell in another order than it happened.
		took := max(0, at.Sub(artifact))
		if times.all = append(times.all, took); name == affected {
			times.one = took
		}
	}
	return times, nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// neighbours: commits to healthy Kustomizations, alone and then beside as many that never become healthy.
func (f *fleet) neighbours(ctx context.Context, s *sheet) error {
	if err := appsv1.AddToScheme(f.client.Scheme()); err != nil {
		return err
	}
	files := map[string]*testkit.GitFile{}
	broken := map[string]*testkit.GitFile{}
	for i := range neighboursOne {
		files[app(i)+"/all.yaml"] = fourObjects(f.namespace, app(i), firstTag)
		broken["never-"+app(i)+"/all.yaml"] = unready(f.namespace, "never-"+app(i))
	}
	healthy, err := f.source(ctx, "healthy", files)
	if err != nil {
		return err
	}
	waiting := func(r *repository, name string) *kustomizev1.Kustomization {
		k := r.kustomization(name, "./"+name)
		k.Spec.Wait, k.Spec.Timeout = true, "30m"
		return k
	}
	err = spread(neighboursOne, func(_, i int) error { return f.create(ctx, waiting(healthy, app(i))) })
	if err != nil {
		return err
	}
	if err := healthy.applied(ctx, neighboursOne); err != nil {
		return err
	}
	before, quiet, err := f.commits(ctx, healthy, "alone", 0)
	if err != nil {
		return err
	}
	sick, err := f.source(ctx, "sick", broken)
	if err != nil {
		return err
	}
	err = spread(neighboursOne, func(_, i int) error { return f.create(ctx, waiting(sick, "never-"+app(i))) })
	if err != nil {
		return err
	}
	err = f.await(ctx, &kustomizev1.KustomizationList{}, neighboursOne, func(o client.Object) bool {
		return status(o.(*kustomizev1.Kustomization).Status.Conditions, meta.HealthyCondition) == metav1.ConditionUnknown
	})
	if err != nil {
		return err
	}
	after, disturbed, err := f.commits(ctx, healthy, "beside unhealthy", repeated)
	if err != nil {
		return err
	}
	after.goal("delay", max(0, seconds(disturbed-quiet)), 1, "s")
	return s.addAll(before.memory(), after.memory())
}

// commits measures some commits, each to one of the Kustomizations.
func (f *fleet) commits(ctx context.Context, repo *repository, phase string, turn int) (*row, time.Duration, error) {
	span, err := f.begin(ctx, neighboursName, neighboursOne, phase)
	if err != nil {
		return nil, 0, err
	}
	var took []time.Duration
	for i := turn; i < turn+repeated; i++ {
		times, err := repo.timed(ctx, app(i), neighboursOne, map[string]*testkit.GitFile{
			app(i) + "/all.yaml": fourObjects(f.namespace, app(i), strconv.Itoa(i)),
		})
		if err != nil {
			return nil, 0, err
		}
		took = append(took, times.one)
	}
	r, err := span.end(ctx)
	if err != nil {
		return nil, 0, err
	}
	r.Note = fmt.Sprintf("%d commits; from artifact to Ready, median and worst: %.2f s, %.2f s",
		repeated, seconds(median(took)), seconds(slices.Max(took)))
	return r, median(took), nil
}
