package helmchart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

const (
	first  = "8e79c6bf918ab36d9af41d1c55d31c19bfe333e6"
	second = "8c65512f48c3c94a1794b9f08f8c570b194a1401"
)

// helmchart 16, 47-51, 69: the story of a chart that is offered as it is.
func TestFromRepository(t *testing.T) {
	l := newLab(t)
	data := packed(t, files("demo", "demo", "1.0.0", nil))
	l.shop.charts["https://charts.test/ demo 1.0.0"] = data
	l.repository("repo", "https://charts.test")
	l.chart(func(obj *sourcev1.HelmChart) { obj.Spec.ReconcileStrategy = sourcev1.ReconcileStrategyRevision }) // helmchart 28: without effect
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'")
	obj := l.get()
	expect(t, "ArtifactInStorage", "True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'", l.condition(sourcev1.ArtifactInStorageCondition))
	expect(t, "path", "helmchart/apps/demo/demo-1.0.0.tgz", obj.Status.Artifact.Path)
	expect(t, "revision", "1.0.0", obj.Status.Artifact.Revision)
	expect(t, "size", int64(len(data)), *obj.Status.Artifact.Size)
	expect(t, "url", "http://"+l.addr+"/helmchart/apps/demo/latest.tar.gz", obj.Status.URL)
	expect(t, "observed", []string{"demo", "sha256:index"}, []string{obj.Status.ObservedChartName, obj.Status.ObservedSourceArtifactRevision})
	expect(t, "events", []string{"info ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'"}, l.Lines())
	l.shop.log = nil
	l.Events()

	t.Log("Nothing new costs no download, and nothing is told.")
	l.step()
	expect(t, "requests", []string{"open repo https://charts.test with index"}, l.shop.log)
	expect(t, "events", []string(nil), l.Lines())
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'")

	t.Log("A new version is.")
	l.shop.charts["https://charts.test/ demo 1.1.0"] = packed(t, files("demo", "demo", "1.1.0", nil))
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.1.0'")
	expect(t, "events", []string{"info ChartPullSucceeded: pulled 'demo' chart with version '1.1.0'"}, l.Lines())
	l.Events()

	t.Log("helmchart 51: a recovery is told with the words of the artifact.")
	l.shop.fail = errors.New("failed to get secret 'apps/login'")
	l.step()
	l.ready("False AuthenticationFailed: failed to get secret 'apps/login'") // helmchart 59
	l.Events()
	l.shop.fail = nil
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.1.0'")
	expect(t, "events", []string{"info ChartPullSucceeded: pulled 'demo' chart with version '1.1.0'"}, l.Lines())

	t.Log("helmchart 57: the artifacts go with the chart.")
	a := l.get().Status.Artifact
	l.must(l.client.Delete(t.Context(), l.get()))
	l.step()
	if err := l.store.Verify(a); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("the artifact is still there: %v", err)
	}
}

// helmchart 24, 41, 42, 9, 44, 71: what of a Git repository makes a new artifact.
func TestFromTree(t *testing.T) {
	l := newLab(t)
	l.git(first, files("charts/demo", "demo", "1.0.0", nil))
	l.chart(of(sourcev1.GitRepositoryKind, "app", "./charts/demo"), func(obj *sourcev1.HelmChart) { obj.Spec.Version = "9.9.9" }) // helmchart 19
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0'")
	before := l.get().Status.Artifact
	l.Events()

	t.Log("A commit without a new version is seen, and makes none.")
	l.git(second, files("charts/demo", "demo", "1.0.0", map[string]string{"README": "x"}))
	l.request("1")
	l.step()
	expect(t, "artifact", before, l.get().Status.Artifact)
	expect(t, "observedSourceArtifactRevision", "main@sha1:"+second, l.get().Status.ObservedSourceArtifactRevision)
	expect(t, "events", []string{"trace ArtifactUpToDate: artifact up-to-date with remote revision: '1.0.0' (local)"}, l.Lines())
	l.Events()

	t.Log("A new version does.")
	l.git(first, files("charts/demo", "demo", "1.0.1", nil))
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.1'")
	expect(t, "events", []string{"info ChartPackageSucceeded: packaged 'demo' chart with version '1.0.1'"}, l.Lines())

	t.Log("So does another name with the same version.")
	l.git(second, files("charts/demo", "other", "1.0.1", nil))
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'other' chart with version '1.0.1'")
	expect(t, "path", "helmchart/apps/demo/other-1.0.1.tgz", l.get().Status.Artifact.Path)

	t.Log("And the other strategy.")
	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.ReconcileStrategy = sourcev1.ReconcileStrategyRevision })
	l.step()
	expect(t, "revision", "1.0.1+"+second[:12], l.get().Status.Artifact.Revision)
	expect(t, "path", "helmchart/apps/demo/other-1.0.1+"+second[:12]+".tgz", l.get().Status.Artifact.Path)

	t.Log("helmchart 42: a change of the spec builds again, with the same version.")
	l.git(first, files("charts/demo", "other", "1.0.1", map[string]string{"charts/demo/templates/more.yaml": "x"}))
	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.ReconcileStrategy = sourcev1.ReconcileStrategyChartVersion })
	l.step()
	l.git(second, files("charts/demo", "other", "1.0.1", map[string]string{"charts/demo/templates/most.yaml": "x"}))
	l.edit(func(*sourcev1.HelmChart) {})
	l.step()
	if _, there := l.artifact()["other/templates/most.yaml"]; !there {
		t.Error("the artifact is that of the generation before")
	}
}

// helmchart 5, 6: the conditions of the kind, in the order in which they become that of Ready.
func TestConditions(t *testing.T) {
	table := newLab(t).controller.Conditions
	expect(t, "failures", []string{"StorageOperationFailed", "FetchFailed", "BuildFailed", "ArtifactOutdated"}, table.Failures)
	expect(t, "kept", []string{"ArtifactInStorage", "SourceVerified"}, table.Sticky)
}

// helmchart 70: a condition that was lost comes back, without a new artifact.
func TestConditionLost(t *testing.T) {
	l := newLab(t)
	l.git(first, files("demo", "demo", "1.0.0", nil))
	l.chart(of(sourcev1.GitRepositoryKind, "app", "demo"))
	l.step()
	before := l.get().Status.Artifact
	l.Events()
	obj := l.get()
	obj.Status.Conditions = nil
	l.must(l.client.Status().Update(t.Context(), obj))
	l.clock.Step(time.Hour)
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0'")
	expect(t, "ArtifactInStorage", "True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0'", l.condition(sourcev1.ArtifactInStorageCondition))
	expect(t, "artifact", before, l.get().Status.Artifact)
	for _, line := range l.Lines() {
		if strings.HasPrefix(line, "info") {
			t.Errorf("an event tells of a new artifact: %s", line)
		}
	}
}

// helmchart 60: the provider is asked for a login when there is no Secret, and only then.
func TestProvider(t *testing.T) {
	l := newLab(t)
	host := signtest.NewRegistry(t, true)
	push(t, host+"/charts/demo", "1.0.0", packed(t, files("demo", "demo", "1.0.0", nil)))
	repository := &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"},
		Spec: sourcev1.HelmRepositorySpec{Type: "oci", URL: "oci://" + host + "/charts", Insecure: true, Provider: "aws"}}
	l.must(l.client.Create(t.Context(), repository))
	l.chart()
	l.step()
	if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, "False AuthenticationFailed: failed to log in to the registry with provider 'aws'") {
		t.Errorf("Ready is %s", got)
	}
	l.must(l.client.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "login"}}))
	repository.Spec.SecretRef = &meta.LocalObjectReference{Name: "login"}
	l.must(l.client.Update(t.Context(), repository))
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'")
}

// helmchart 18, 25: a bucket is a source like a Git repository.
func TestFromBucket(t *testing.T) {
	l := newLab(t)
	l.tree(&sourcev1.Bucket{}, sourcev1.BucketKind, "sha256:3e356e3ec36f0442f82d725fb7311316b9192a3a9eb2743f3ac55cd72656a612", files("demo", "demo", "1.0.0", nil))
	l.chart(of(sourcev1.BucketKind, "app", "demo"), func(obj *sourcev1.HelmChart) { obj.Spec.ReconcileStrategy = sourcev1.ReconcileStrategyRevision })
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0+3e356e3ec36f'")
}

// helmchart 33, 49: values files that were found are told when missing ones are allowed.
func TestValuesFiles(t *testing.T) {
	l := newLab(t)
	l.git(first, files("demo", "demo", "1.0.0", map[string]string{"prod.yaml": "replicas: 3\n"}))
	l.chart(of(sourcev1.GitRepositoryKind, "app", "demo"), func(obj *sourcev1.HelmChart) { obj.Spec.ValuesFiles = []string{"prod.yaml"} })
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0+1' and merged values files [prod.yaml]")
	expect(t, "observedValuesFiles", []string(nil), l.get().Status.ObservedValuesFiles)
	expect(t, "values", "replicas: 3\n", l.artifact()["demo/values.yaml"])

	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.ValuesFiles = []string{"missing.yaml", "prod.yaml"} })
	l.step()
	l.ready("False ValuesFilesError: values files merge error: no values file found at path 'missing.yaml'")
	expect(t, "Stalled", "True ValuesFilesError: values files merge error: no values file found at path 'missing.yaml'", l.condition(meta.StalledCondition))
	expect(t, "BuildFailed", "True ValuesFilesError: values files merge error: no values file found at path 'missing.yaml'", l.condition(sourcev1.BuildFailedCondition))
	expect(t, "FetchFailed", "-", l.condition(sourcev1.FetchFailedCondition)) // helmchart 45
	expect(t, "revision", "1.0.0+1", l.get().Status.Artifact.Revision)

	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.IgnoreMissingValuesFiles = true })
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0+3' and merged values files [prod.yaml]")
	expect(t, "observedValuesFiles", []string{"prod.yaml"}, l.get().Status.ObservedValuesFiles)

	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.ValuesFiles = []string{"missing.yaml"} }) // helmchart 65
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0+4'")
	expect(t, "observedValuesFiles", []string(nil), l.get().Status.ObservedValuesFiles)
}

func TestFails(t *testing.T) {
	tests := map[string]struct {
		around   func(*lab)
		change   func(*sourcev1.HelmChart)
		ready    string
		failed   string // the failure condition
		stalls   bool
		severity string // of the event; empty: error
		observed string
	}{
		"helmchart 7: no source": {
			ready:  `False SourceUnavailable: failed to get source: helmrepositories.source.toolkit.fluxcd.io "repo" not found`,
			failed: sourcev1.FetchFailedCondition,
		},
		"helmchart 4: another kind": {
			change: of("OCIRepository", "repo", "demo"), stalls: true, failed: sourcev1.FetchFailedCondition,
			ready: "False UnsupportedSourceKind: unsupported source kind 'OCIRepository': want HelmRepository, GitRepository or Bucket",
		},
		"helmchart 8: no artifact": {
			around: func(l *lab) {
				l.must(l.client.Create(l.t.Context(), &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"}}))
			},
			ready: "False NoSourceArtifact: no artifact available for HelmRepository source 'repo'", failed: sourcev1.FetchFailedCondition,
			severity: "trace",
		},
		"helmchart 8: the file of the artifact is gone": {
			around: func(l *lab) {
				l.git(first, files("demo", "demo", "1.0.0", nil))
				var source sourcev1.GitRepository
				l.must(l.client.Get(l.t.Context(), types.NamespacedName{Namespace: "apps", Name: "app"}, &source))
				l.must(l.store.Remove(source.Status.Artifact))
			},
			change: of(sourcev1.GitRepositoryKind, "app", "demo"), failed: sourcev1.FetchFailedCondition,
			ready:    "False NoSourceArtifact: no artifact available for GitRepository source 'app'",
			severity: "trace",
		},
		"helmchart 10: a name that is none": {
			around: func(l *lab) { l.repository("repo", "https://charts.test") }, change: of(sourcev1.HelmRepositoryKind, "repo", "Demo"), observed: "sha256:index",
			ready:  "False InvalidChartReference: invalid chart reference: invalid chart name 'Demo': a valid name must be lower case letters and numbers and MAY be separated with dashes (-), slashes (/) or periods (.)",
			failed: sourcev1.FetchFailedCondition, stalls: true,
		},
		"helmchart 12: no such version": {
			around: func(l *lab) { l.repository("repo", "https://charts.test") }, change: func(obj *sourcev1.HelmChart) { obj.Spec.Version = "9.9.9" }, observed: "sha256:index",
			ready:  "False InvalidChartReference: invalid chart reference: failed to get chart version for remote reference: no 'demo' chart with version matching '9.9.9' found: chart not found",
			failed: sourcev1.FetchFailedCondition, stalls: true,
		},
		"helmchart 45: no such archive": {
			around: func(l *lab) {
				l.repository("repo", "https://charts.test")
				l.shop.charts["https://charts.test/ demo 1.0.0"] = nil
			},
			observed: "sha256:index", failed: sourcev1.FetchFailedCondition,
			ready: "False ChartPullError: chart pull error: failed to download chart for remote reference: failed to fetch https://charts.test/ demo 1.0.0 : 404 Not Found",
		},
		"helmchart 20, 46: no such chart in the source": {
			around: func(l *lab) { l.git(first, files("demo", "demo", "1.0.0", nil)) }, change: of(sourcev1.GitRepositoryKind, "app", "./charts/demo"), observed: "main@sha1:" + first,
			ready:  "False InvalidChartReference: invalid chart reference: stat charts/demo: no such file or directory",
			failed: sourcev1.FetchFailedCondition, stalls: true,
		},
		"helmchart 39: no such dependency": {
			around: func(l *lab) {
				l.git(first, files("demo", "demo", "1.0.0", map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: a, version: 1.0.0, repository: 'https://other.test'}]\n"}))
			},
			change: of(sourcev1.GitRepositoryKind, "app", "demo"), observed: "main@sha1:" + first, failed: sourcev1.BuildFailedCondition,
			ready: "False DependencyBuildError: dependency build error: failed to add dependency 'a': failed to get chart 'a' version '1.0.0': no 'a' chart with version matching '1.0.0' found: chart not found",
		},
		"helmchart 56: a signature on what has none": {
			around: func(l *lab) { l.repository("repo", "https://charts.test") }, change: func(obj *sourcev1.HelmChart) { obj.Spec.Verify = &sourcev1.HelmChartVerification{Provider: "cosign"} },
			ready:  "False ChartVerificationError: chart verification error: spec.verify is only supported for HelmRepositories of type oci",
			failed: sourcev1.BuildFailedCondition,
		},
		"helmchart 59: a URL that is none": {
			around: func(l *lab) {
				l.must(l.client.Create(l.t.Context(), &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"},
					Spec: sourcev1.HelmRepositorySpec{Type: "oci", URL: "oci://host.test/Case"}}))
			},
			ready:  "False URLInvalid: invalid Helm repository URL: repository can only contain the characters `abcdefghijklmnopqrstuvwxyz0123456789_-./`: Case",
			failed: sourcev1.FetchFailedCondition, stalls: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if tt.around != nil {
				tt.around(l)
			}
			if tt.change == nil {
				tt.change = func(*sourcev1.HelmChart) {}
			}
			l.chart(tt.change)
			l.step()
			l.ready(tt.ready)
			expect(t, tt.failed, strings.Replace(tt.ready, "False", "True", 1), l.condition(tt.failed))
			expect(t, "stalls", tt.stalls, l.condition(meta.StalledCondition) != "-")
			expect(t, "observedSourceArtifactRevision", tt.observed, l.get().Status.ObservedSourceArtifactRevision)
			event := cmp.Or(tt.severity, "error") + strings.TrimPrefix(tt.ready, "False")
			if tt.severity == "trace" {
				event += " (local)"
			}
			expect(t, "events", []string{event}, l.Lines())
			if l.get().Status.Artifact != nil {
				t.Error("there is an artifact")
			}
		})
	}
}

// A chart that stalled for what its source holds goes on with another revision of it.
func TestStallEnds(t *testing.T) {
	l := newLab(t)
	l.git(first, files("charts/other", "demo", "1.0.0", nil))
	l.chart(of(sourcev1.GitRepositoryKind, "app", "charts/demo"))
	l.step()
	l.ready("False InvalidChartReference: invalid chart reference: stat charts/demo: no such file or directory")
	l.git(second, files("charts/demo", "demo", "1.0.0", nil))
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0'")
	expect(t, "Stalled", "-", l.condition(meta.StalledCondition))
}

// helmchart 1-3: the event of an artifact wakes the charts of its namespace, and of no other.
func TestEdges(t *testing.T) {
	l := newLab(t)
	l.chart()
	l.step()
	watch := func(o client.Object) func(before, after client.Object) []types.NamespacedName {
		at := slices.IndexFunc(l.controller.Watches, func(w loop.Watch) bool { return reflect.TypeOf(w.Object) == reflect.TypeOf(o) })
		return l.controller.Watches[at].Map
	}
	repository := func(namespace, revision string) *sourcev1.HelmRepository {
		r := &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "repo"}}
		if revision != "" {
			r.Status.Artifact = &meta.Artifact{Revision: revision}
		}
		return r
	}
	registry := repository("apps", "")
	registry.Spec.Type = sourcev1.HelmRepositoryTypeOCI
	wake := watch(&sourcev1.HelmRepository{})
	for name, tt := range map[string]struct {
		before, after client.Object
		want          []types.NamespacedName
	}{
		"a first artifact":    {repository("apps", ""), repository("apps", "1"), []types.NamespacedName{key()}},
		"another revision":    {repository("apps", "1"), repository("apps", "2"), []types.NamespacedName{key()}},
		"the same":            {repository("apps", "1"), repository("apps", "1"), nil},
		"another namespace":   {repository("team", "1"), repository("team", "2"), nil},
		"no artifact":         {nil, repository("apps", ""), nil},
		"a registry appeared": {nil, registry, []types.NamespacedName{key()}},
		"deleted":             {repository("apps", "1"), nil, nil},
	} {
		expect(t, name, tt.want, wake(tt.before, tt.after))
	}
	git := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"}, Status: sourcev1.GitRepositoryStatus{Artifact: &meta.Artifact{Revision: "1"}}}
	expect(t, "another kind of the same name", []types.NamespacedName(nil), watch(git)(nil, git))
	l.must(l.client.Delete(t.Context(), l.get()))
	l.step()
	expect(t, "a chart that is gone", []types.NamespacedName(nil), wake(nil, repository("apps", "1")))
}

// helmchart 37, 40, 61; helmrepository 61: dependencies take the credentials of the HelmRepository with their URL, or none.
func TestDependencies(t *testing.T) {
	l := newLab(t)
	l.repository("known", "https://charts.test/stable")
	for _, url := range []string{"https://charts.test/stable/", "https://other.test/"} {
		l.shop.charts[url+" a 1.0.0"] = packed(t, files("a", "a", "1.0.0", nil))
		l.shop.charts[url+" b 1.0.0"] = packed(t, files("b", "b", "1.0.0", nil))
	}
	l.git(first, files("demo", "demo", "1.0.0", map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies:\n" +
		"- {name: a, version: 1.0.0, repository: 'https://CHARTS.test/stable'}\n- {name: b, version: 1.0.0, repository: 'https://other.test'}\n- {name: b, alias: c, version: 1.0.0, repository: 'https://other.test/'}\n"}))
	l.chart(of(sourcev1.GitRepositoryKind, "app", "demo"))
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0'")
	var opened []string
	for _, line := range l.shop.log {
		if strings.HasPrefix(line, "open") {
			opened = append(opened, line)
		}
	}
	expect(t, "opened", []string{"open known https://charts.test/stable with index", "open  https://other.test/ with nothing"}, opened)
	expect(t, "events", []string{"trace ResolvedDependencies: resolved 3 chart dependencies (local)", "info ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0'"}, l.Lines())
	if _, there := l.artifact()["demo/charts/b/Chart.yaml"]; !there {
		t.Error("the dependency is not in the artifact")
	}
}

// helmchart 3, 13, 47: charts of a registry.
func TestFromRegistry(t *testing.T) {
	l := newLab(t)
	host := signtest.NewRegistry(t, true)
	data := packed(t, files("demo", "demo", "1.0.0+build", nil))
	push(t, host+"/charts/team/demo", "1.0.0+build", data)
	l.must(l.client.Create(t.Context(), &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"},
		Spec: sourcev1.HelmRepositorySpec{Type: "oci", URL: "oci://" + host + "/charts/", Insecure: true}}))
	l.chart(of(sourcev1.HelmRepositoryKind, "repo", "team/demo"))
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0+build'")
	expect(t, "path", "helmchart/apps/demo/demo-1.0.0+build.tgz", l.get().Status.Artifact.Path)
	expect(t, "size", int64(len(data)), *l.get().Status.Artifact.Size)

	push(t, host+"/charts/team/demo", "2.0.0-rc.1", packed(t, files("demo", "demo", "2.0.0-rc.1", nil)))
	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.Version = "2.0.0-rc.1" })
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '2.0.0-rc.1'")

	for version, reason := range map[string]string{"3.0.0": "ChartPullError", "~3.0.0": "ChartPullError", "nonsense": "ChartPullError"} {
		l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.Version = version })
		l.step()
		if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, "False "+reason+": chart pull error: failed to get chart version for remote reference: ") {
			t.Errorf("%s: %s", version, got)
		}
		expect(t, version+" stalls", "-", l.condition(meta.StalledCondition))
	}
}

// helmchart 15: what has to do with credentials says so.
func TestUnauthorized(t *testing.T) {
	for err, want := range map[error]bool{
		build.ErrUnauthorized:        true,
		errors.New("401 on the tin"): false,
	} {
		got := pullFailed(fmt.Errorf("asked: %w", err)).Error()
		expect(t, "text", "chart pull error: asked: "+err.Error(), got)
		expect(t, err.Error(), want, unauthorized(fmt.Errorf("asked: %w", err)))
	}
}

// helmchart 52-55: a signature is checked before the chart is pulled, and again when what is trusted changes.
func TestVerify(t *testing.T) {
	l := newLab(t)
	host := signtest.NewRegistry(t, true)
	good, other := signtest.NewKey(t, "ecdsa"), signtest.NewKey(t, "ed25519")
	digest := push(t, host+"/charts/demo", "1.0.0", packed(t, files("demo", "demo", "1.0.0", nil)))
	l.must(l.client.Create(t.Context(), &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"},
		Spec: sourcev1.HelmRepositorySpec{Type: "oci", URL: "oci://" + host + "/charts", Insecure: true}}))
	keys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "keys"}, Data: map[string][]byte{"some.key": good.PEM}}
	l.must(l.client.Create(t.Context(), keys))
	l.chart(func(obj *sourcev1.HelmChart) {
		obj.Spec.Verify = &sourcev1.HelmChartVerification{Provider: "cosign", SecretRef: &meta.LocalObjectReference{Name: "keys"}}
	})
	refused := func(what string) {
		t.Helper()
		l.step()
		if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, "False ChartVerificationError: chart verification error: ") {
			t.Errorf("%s: Ready is %s", what, got)
		}
		if got := l.condition(sourcev1.SourceVerifiedCondition); !strings.HasPrefix(got, "False VerificationError: ") {
			t.Errorf("%s: SourceVerified is %s", what, got)
		}
		if got := l.condition(sourcev1.BuildFailedCondition); !strings.HasPrefix(got, "True ChartVerificationError") {
			t.Errorf("%s: BuildFailed is %s", what, got)
		}
	}
	trust := func(key signtest.Key) {
		t.Helper()
		keys.Data = map[string][]byte{"cosign.pub": key.PEM}
		l.must(l.client.Update(t.Context(), keys))
	}
	refused("helmchart 53: a Secret without a public key")
	trust(good)
	refused("not signed")
	if l.get().Status.Artifact != nil {
		t.Fatal("a chart without a signature is offered")
	}
	signtest.SignCosign(t, digest, good)
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'")
	expect(t, "SourceVerified", "True Succeeded: verified signature of version 1.0.0", l.condition(sourcev1.SourceVerifiedCondition))

	trust(other)
	refused("reliability 066: a key that is no longer trusted")
	expect(t, "artifact", "1.0.0", l.get().Status.Artifact.Revision)
	trust(good)
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'")

	push(t, host+"/charts/demo", "1.1.0", packed(t, files("demo", "demo", "1.1.0", nil)))
	refused("a new version without a signature")
	expect(t, "artifact", "1.0.0", l.get().Status.Artifact.Revision)

	l.edit(func(obj *sourcev1.HelmChart) { obj.Spec.Verify = nil })
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.1.0'")
	expect(t, "helmchart 55: SourceVerified", "-", l.condition(sourcev1.SourceVerifiedCondition))

	l.edit(func(obj *sourcev1.HelmChart) {
		obj.Spec.Verify = &sourcev1.HelmChartVerification{Provider: "notation"}
	})
	refused("helmchart 54: notation without a policy")
}

// helmchart 52, ocirepository 43: without keys, the certificate of the signer has to name one of the identities.
func TestVerifyKeyless(t *testing.T) {
	l := newLab(t)
	sigstore := signtest.NewSigstore(t)
	l.root = func(context.Context) (root.TrustedMaterial, error) { return sigstore.Material(t), nil }
	l.start()
	host := signtest.NewRegistry(t, true)
	digest := push(t, host+"/charts/demo", "1.0.0", packed(t, files("demo", "demo", "1.0.0", nil)))
	sigstore.SignKeyless(t, digest, signtest.Signer{Subject: "ci@example.com", Issuer: "https://issuer.example.com"})
	l.must(l.client.Create(t.Context(), &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"},
		Spec: sourcev1.HelmRepositorySpec{Type: "oci", URL: "oci://" + host + "/charts", Insecure: true}}))
	signedBy := func(subject string) func(*sourcev1.HelmChart) {
		return func(obj *sourcev1.HelmChart) {
			obj.Spec.Verify = &sourcev1.HelmChartVerification{
				Provider: "cosign", MatchOIDCIdentity: []sourcev1.OIDCIdentityMatch{{Issuer: "^https://issuer", Subject: subject}},
			}
		}
	}
	l.chart(signedBy("^other@"))
	l.step()
	if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, "False ChartVerificationError: chart verification error: failed to verify the signature using provider 'cosign keyless': ") {
		t.Errorf("Ready is %s", got)
	}
	if l.get().Status.Artifact != nil {
		t.Error("a chart that somebody else signed is offered")
	}
	l.edit(signedBy("^ci@"))
	l.step()
	l.ready("True ChartPullSucceeded: pulled 'demo' chart with version '1.0.0'")
	expect(t, "SourceVerified", "True Succeeded: verified signature of version 1.0.0", l.condition(sourcev1.SourceVerifiedCondition))
}

// BenchmarkNoChange is what an interval of a chart in a Git repository costs when nothing is new.
func BenchmarkNoChange(b *testing.B) {
	l := newLab(b)
	l.git(first, files("demo", "demo", "1.0.0", nil))
	l.chart(of(sourcev1.GitRepositoryKind, "app", "demo"))
	l.step()
	l.ready("True ChartPackageSucceeded: packaged 'demo' chart with version '1.0.0'")
	b.ReportAllocs()
	for b.Loop() {
		l.step()
	}
}
