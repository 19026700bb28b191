package generate

import (
	"errors"
	"io"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

func equal[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// From the first run to the deletion: what an ArtifactGenerator shows, tells and leaves behind. artifactgenerator 3, 5, 6,
// 15, 19, 20, 50, 51, 55, 56, 57, 61, 62, 64; externalartifact 2, 3, 4.
func TestLife(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a.yaml": "one", "README.md": "x"})
	l.create(func(o *v1beta1.ArtifactGenerator) {
		o.Spec.CommonMetadata = &meta.CommonMetadata{
			Labels:      map[string]string{"team": "a", managedByLabel: "me", v1beta1.GeneratorLabel: "me"},
			Annotations: map[string]string{"note": "b"},
		}
	})
	result := l.step()
	if result.RequeueAfter < 57*time.Minute || result.RequeueAfter > 63*time.Minute {
		t.Errorf("looks again after %s", result.RequeueAfter)
	}
	obj := l.get()
	equal(t, "finalizers", []string{"source.extensions.fluxcd.io/finalizer"}, obj.Finalizers)
	equal(t, "conditions", []string{"Ready=True Succeeded: reconciliation succeeded, generated 1 artifact(s)"}, l.conditions())
	equal(t, "events", []string{
		"trace Ready: ExternalArtifact/NS/one reconciled with revision latest@DIGEST (local)",
		"trace Ready: reconciliation succeeded, generated 1 artifact(s) (local)",
		"info Ready: external artifacts reconciled: NS/one (DIGEST)",
	}, l.told())

	ea := l.external("one")
	equal(t, "labels", map[string]string{"team": "a", "app.kubernetes.io/managed-by": "source-watcher", v1beta1.GeneratorLabel: string(obj.UID)}, ea.Labels)
	equal(t, "annotations", map[string]string{"note": "b"}, ea.Annotations)
	equal(t, "source", &meta.NamespacedObjectKindReference{
		APIVersion: "source.extensions.fluxcd.io/v1beta1", Kind: "ArtifactGenerator", Name: "gen", Namespace: l.ns}, ea.Spec.SourceRef)
	if len(ea.OwnerReferences) > 0 {
		t.Errorf("owner references %v", ea.OwnerReferences)
	}
	var managers []string
	for _, f := range ea.ManagedFields {
		managers = append(managers, strings.TrimSpace(f.Manager+" "+string(f.Operation)+" "+f.Subresource))
	}
	equal(t, "managers", []string{"source-watcher Apply", "source-watcher Apply status"}, managers)
	c := ea.Status.Conditions[0]
	if c.Type != "Ready" || c.Status != "True" || c.Reason != "Succeeded" || c.Message != "Artifact is ready" || c.ObservedGeneration != ea.Generation {
		t.Errorf("condition %+v", c)
	}
	a := ea.Status.Artifact
	inventory := []v1beta1.ArtifactReference{{Name: "one", Namespace: l.ns, Digest: a.Digest, Filename: filepath.Base(a.Path)}}
	equal(t, "inventory", inventory, obj.Status.Inventory)
	if want := "externalartifact/" + l.ns + "/one/" + filepath.Base(a.Path); a.Path != want || a.URL != "http://watcher.test/"+want {
		t.Errorf("path %s, URL %s", a.Path, a.URL)
	}
	if a.Revision != "latest@"+a.Digest || a.Metadata != nil || *a.Size == 0 {
		t.Errorf("artifact %+v", a)
	}
	equal(t, "content", files{"a.yaml": "one", "README.md": "x"}, l.content("one"))
	if !strings.HasPrefix(obj.Status.ObservedSourcesDigest, "sha256:") {
		t.Errorf("observedSourcesDigest = %q", obj.Status.ObservedSourcesDigest)
	}

	// artifactgenerator 19: nothing new costs no download and no write.
	fetches, writes := l.fetches.Load(), l.writes.Load()
	before := l.get()
	l.step()
	if l.fetches.Load() != fetches || l.writes.Load() != writes {
		t.Errorf("a run that finds no drift makes %d downloads and %d writes", l.fetches.Load()-fetches, l.writes.Load()-writes)
	}
	equal(t, "events", []string{"trace Ready: No drift detected, 1 artifact(s) up to date (local)"}, l.told())
	// artifactgenerator 20: a request neither.
	l.edit(func(o *v1beta1.ArtifactGenerator) {
		o.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "token-1"}
	})
	l.step()
	after := l.get()
	if after.Status.LastHandledReconcileAt != "token-1" || l.fetches.Load() != fetches || l.writes.Load() != writes+1 {
		t.Errorf("after a request: handled %q, %d downloads, %d writes", after.Status.LastHandledReconcileAt, l.fetches.Load()-fetches, l.writes.Load()-writes)
	}
	after.Status.LastHandledReconcileAt = ""
	equal(t, "status", before.Status, after.Status)

	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.Lines()
	l.step()
	if l.external("one") != nil || l.has(a) {
		t.Error("the artifact is left behind")
	}
	if lines := l.Lines(); len(lines) > 0 {
		t.Errorf("artifactgenerator 64: the deletion tells %v", lines)
	}
	if err := l.client.Get(t.Context(), l.key(), &v1beta1.ArtifactGenerator{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object is still there: %v", err)
	}
}

// A new revision of a source: artifacts whose content stays are not written again. artifactgenerator 2, 22, 52, 54, 60, 64.
func TestNewRevision(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a/x": "1", "b/x": "1"})
	l.create(func(o *v1beta1.ArtifactGenerator) {
		o.Spec.Artifacts = []v1beta1.OutputArtifact{
			{Name: "a", Copy: []v1beta1.CopyOperation{op("@repo/a/**", "@artifact/")}},
			{Name: "b", Copy: []v1beta1.CopyOperation{op("@repo/b/**", "@artifact/")}},
			{Name: "c", Revision: "@repo", OriginRevision: "@repo", Copy: []v1beta1.CopyOperation{op("@repo/b/**", "@artifact/")}},
		}
	})
	l.step()
	l.Lines()
	a, b := l.external("a"), l.external("b")
	writes := l.writes.Load()
	l.publish("app", "main@sha1:2", files{"a/x": "2", "b/x": "1"})
	l.step()
	// Two for a, two for c whose revision is that of the source, one status.
	if got := l.writes.Load() - writes; got != 5 {
		t.Errorf("%d writes, want 5", got)
	}
	if now := l.external("b"); now.ResourceVersion != b.ResourceVersion {
		t.Error("an artifact that is as it was was written")
	}
	now := l.external("a")
	if now.Status.Artifact.Digest == a.Status.Artifact.Digest || l.has(a.Status.Artifact) || !l.has(now.Status.Artifact) {
		t.Error("the new file of a is not stored, or its old file was not collected")
	}
	var posted []string
	for _, e := range l.Events() {
		if e.Severity == "info" {
			posted = append(posted, e.Message)
		}
	}
	equal(t, "posted", []string{"external artifacts reconciled: " + l.ns + "/a (" + now.Status.Artifact.Digest + ")"}, posted)
	c := l.external("c").Status.Artifact
	if c.Revision != "main@sha1:2" || c.Metadata[meta.OriginRevisionKey] != "main@sha1:2" {
		t.Errorf("c is %s of %v", c.Revision, c.Metadata)
	}
	var names []string
	for _, e := range l.get().Status.Inventory {
		names = append(names, e.Name)
	}
	equal(t, "inventory", []string{"a", "b", "c"}, names)
}

// artifactgenerator 4, 5: the annotation pauses, also an object that has never run; deletion does not care (6).
func TestDisabled(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	disable := func(o *v1beta1.ArtifactGenerator) {
		o.Annotations = map[string]string{v1beta1.ReconcileAnnotation: "Disabled"}
	}
	l.create(disable)
	if result := l.step(); result != (reconcile.Result{}) {
		t.Errorf("looks again after %v", result)
	}
	equal(t, "conditions", []string{"Ready=True ReconciliationDisabled: Initialized with reconciliation suspended"}, l.conditions())
	equal(t, "events", []string{"trace ReconciliationDisabled: Reconciliation is disabled (local)"}, l.told())
	l.edit(func(o *v1beta1.ArtifactGenerator) { o.Annotations = nil })
	l.step()
	equal(t, "conditions", []string{"Ready=True Succeeded: reconciliation succeeded, generated 1 artifact(s)"}, l.conditions())
	// A change made while it is paused is worked on afterwards, not taken for observed.
	l.edit(func(o *v1beta1.ArtifactGenerator) { disable(o); o.Spec.Artifacts[0].Name = "two" })
	l.step()
	if got := l.externals(); got != "one" {
		t.Errorf("paused, there are %s", got)
	}
	l.edit(func(o *v1beta1.ArtifactGenerator) { o.Annotations = nil })
	l.step()
	if got := l.externals(); got != "two" {
		t.Errorf("resumed, there are %s", got)
	}
	l.edit(disable)
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.step()
	if got := l.externals(); got != "" {
		t.Errorf("deleted while paused, there are %s", got)
	}
}

// What the sources can do to a run. artifactgenerator 12, 13, 16, 17, 63.
func TestSources(t *testing.T) {
	l := newLab(t)
	l.create()
	waits := func(what, message string) {
		t.Helper()
		l.Lines()
		result := l.step()
		if result.RequeueAfter != 5*time.Second {
			t.Errorf("%s: looks again after %s", what, result.RequeueAfter)
		}
		conditions := l.conditions()
		if len(conditions) != 2 || conditions[0] != "Reconciling=True ProgressingWithRetry: Reconciliation in progress" ||
			!strings.HasPrefix(conditions[1], "Ready=False SourceFetchFailed: source 'repo'") || !strings.Contains(conditions[1], message) {
			t.Errorf("%s: %q", what, conditions)
		}
		if told := l.told(); len(told) != 1 || !strings.HasPrefix(told[0], "error SourceFetchFailed: source 'repo'") {
			t.Errorf("%s: events %q", what, told)
		}
		// The same again is no news.
		l.step()
		if told := l.told(); len(told) != 0 {
			t.Errorf("%s: told again: %q", what, told)
		}
	}
	waits("no object", "(GitRepository/NS/app): GitRepository.source.toolkit.fluxcd.io \"app\" not found")
	l.publish("app", "", nil)
	waits("no artifact", "Source artifact not found")
	l.publish("app", "main@sha1:1", files{"a": "1"})
	repo := &sourcev1.GitRepository{}
	repo.Namespace, repo.Name = l.ns, "app"
	if err := l.client.Get(t.Context(), client.ObjectKeyFromObject(repo), repo); err != nil {
		t.Fatal(err)
	}
	sound := repo.Status.Artifact.DeepCopy()
	repo.Status.Artifact.Digest = "sha256:" + strings.Repeat("0", 64)
	if err := l.client.Status().Update(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	waits("another digest", "digest")
	l.put(repo, "main@sha1:2", func(w io.Writer) error { _, err := io.WriteString(w, "kind: ConfigMap\n"); return err })
	if err := l.client.Status().Update(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	waits("no archive", "gzip")
	// artifactgenerator 13: what the conditions of the source say does not matter.
	repo.Status.Artifact = sound
	repo.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "False", Reason: "Failed", LastTransitionTime: metav1.Now()}}
	if err := l.client.Status().Update(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	l.step()
	equal(t, "conditions", []string{"Ready=True Succeeded: reconciliation succeeded, generated 1 artifact(s)"}, l.conditions())
}

// artifactgenerator 7-11, 28: a spec that cannot work stalls, once, until it changes.
func TestStalls(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	l.create(func(o *v1beta1.ArtifactGenerator) { o.Spec.Sources = append(o.Spec.Sources, o.Spec.Sources[0]) })
	for range 2 {
		if result := l.step(); result != (reconcile.Result{}) {
			t.Errorf("looks again after %v", result)
		}
		equal(t, "conditions", []string{
			"Stalled=True ValidationFailed: duplicate source alias 'repo' found", "Ready=False ValidationFailed: duplicate source alias 'repo' found",
		}, l.conditions())
	}
	equal(t, "events", []string{"error ValidationFailed: duplicate source alias 'repo' found"}, l.told())
	l.edit(func(o *v1beta1.ArtifactGenerator) {
		o.Spec.Sources, o.Spec.PathPattern = o.Spec.Sources[:1], "@repo/{x"
	})
	l.step()
	if c := ready(l.get()); c.Reason != "BuildFailed" || len(l.conditions()) != 2 || !strings.HasPrefix(l.conditions()[0], "Stalled=True BuildFailed") {
		t.Errorf("conditions %q", l.conditions())
	}
	l.edit(func(o *v1beta1.ArtifactGenerator) { o.Spec.PathPattern = "" })
	l.step()
	equal(t, "conditions", []string{"Ready=True Succeeded: reconciliation succeeded, generated 1 artifact(s)"}, l.conditions())
}

// artifactgenerator 53, 59: a failure stops the run; what was made before stays, and goes when nobody asks for it.
func TestBuildFails(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	l.create(func(o *v1beta1.ArtifactGenerator) {
		o.Spec.Artifacts = append(o.Spec.Artifacts, v1beta1.OutputArtifact{Name: "two", Copy: []v1beta1.CopyOperation{op("@repo/absent/**", "@artifact/")}},
			v1beta1.OutputArtifact{Name: "three", Copy: []v1beta1.CopyOperation{op("@repo/**", "@artifact/")}})
	})
	const message = "two build failed: failed to apply copy operations: failed to apply copy operation from '@repo/absent/**' to '@artifact/': " +
		"no files match pattern 'absent/**' in source 'repo'"
	for range 2 {
		l.Lines()
		if _, err := l.Run(t.Context(), l.key()); err == nil || err.Error() != message {
			t.Errorf("error = %v", err)
		}
		equal(t, "conditions", []string{
			"Reconciling=True ProgressingWithRetry: Reconciliation in progress", "Ready=False BuildFailed: " + message,
		}, l.conditions())
		if got := l.externals(); got != "one" || l.get().Status.Inventory != nil {
			t.Errorf("there are %q, the inventory is %v", got, l.get().Status.Inventory)
		}
		if told := l.told(); told[len(told)-1] != "error BuildFailed: "+message {
			t.Errorf("events %q", told)
		}
	}
	// What no inventory names is found by its label.
	l.edit(func(o *v1beta1.ArtifactGenerator) { o.Spec.Artifacts = o.Spec.Artifacts[2:] })
	l.step()
	if got := l.externals(); got != "three" {
		t.Errorf("there are %q", got)
	}
}

// artifactgenerator 18, 21: what is broken behind the generator's back is mended at the next run.
func TestRepair(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	l.create()
	l.step()
	first := l.external("one")
	mended := func(what string) {
		t.Helper()
		l.step()
		ea := l.external("one")
		if ea == nil || ea.Status.Artifact.Digest != first.Status.Artifact.Digest || l.store.Verify(ea.Status.Artifact) != nil {
			t.Errorf("%s: not mended: %+v", what, ea)
		}
		l.step()
		if told := l.told(); told[len(told)-1] != "trace Ready: No drift detected, 1 artifact(s) up to date (local)" {
			t.Errorf("%s: not settled: %q", what, told)
		}
	}
	if err := l.client.Delete(t.Context(), l.external("one")); err != nil {
		t.Fatal(err)
	}
	mended("the object is deleted")
	if err := l.store.Remove(first.Status.Artifact); err != nil {
		t.Fatal(err)
	}
	mended("the file is deleted")
	path := filepath.Join(l.storeDir, filepath.FromSlash(first.Status.Artifact.Path))
	l.spoil(path)
	mended("the file is spoiled")
	ea := l.external("one")
	ea.Status.Artifact.Digest = "sha256:" + strings.Repeat("0", 64)
	if err := l.client.Status().Update(t.Context(), ea); err != nil {
		t.Fatal(err)
	}
	mended("the status is changed")
	ea = l.external("one")
	delete(ea.Labels, v1beta1.GeneratorLabel)
	if err := l.client.Update(t.Context(), ea); err != nil {
		t.Fatal(err)
	}
	mended("the label is gone")
}

// artifactgenerator 58, 59: others' objects are taken over when their name is asked for, and never removed. reliability:
// an inventory that somebody forged deletes nothing.
func TestOthers(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	theirs := func(name string, labels map[string]string) {
		t.Helper()
		obj := &sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: name, Labels: labels}}
		if err := l.client.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
	}
	theirs("one", map[string]string{v1beta1.GeneratorLabel: "somebody-else"})
	theirs("foreign", nil)
	theirs("rival", map[string]string{v1beta1.GeneratorLabel: "somebody-else"})
	l.create()
	l.step()
	if ea := l.external("one"); ea.Labels[v1beta1.GeneratorLabel] != string(l.get().UID) || ea.Status.Artifact == nil {
		t.Errorf("not taken over: %+v", ea)
	}
	obj := l.get()
	for _, name := range []string{"foreign", "rival", "absent"} {
		obj.Status.Inventory = append(obj.Status.Inventory, v1beta1.ArtifactReference{Namespace: l.ns, Name: name, Digest: "sha256:0", Filename: "1.tar.gz"})
	}
	obj.Status.Inventory = append(obj.Status.Inventory, v1beta1.ArtifactReference{Namespace: "../..", Name: "x", Digest: "sha256:0", Filename: "1.tar.gz"})
	if err := l.client.Status().Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	l.step()
	if got := l.externals(); got != "foreign one rival" {
		t.Errorf("there are %q", got)
	}
	// Somebody takes ours over: its object and its file are theirs to remove.
	ea := l.external("one")
	ea.Labels[v1beta1.GeneratorLabel] = "somebody-else"
	if err := l.client.Update(t.Context(), ea); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.step()
	if got := l.externals(); got != "foreign one rival" || !l.has(ea.Status.Artifact) {
		t.Errorf("after the deletion there are %q; the file is there: %t", got, l.has(ea.Status.Artifact))
	}
}

// artifactgenerator 57, 6: the API server refuses.
func TestRefusals(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	l.create()
	refused := errors.New("refused")
	for _, verb := range []string{"patch", "status"} {
		l.refuse = func(v string, obj client.Object) error {
			if _, ok := obj.(*sourcev1.ExternalArtifact); ok && v == verb {
				return refused
			}
			return nil
		}
		if _, err := l.Run(t.Context(), l.key()); !errors.Is(err, refused) {
			t.Errorf("%s: error = %v", verb, err)
		}
		if c := ready(l.get()); c.Status != "False" || c.Reason != "ReconciliationFailed" || !strings.Contains(c.Message, "ExternalArtifact '"+l.ns+"/one'") {
			t.Errorf("%s: Ready = %+v", verb, c)
		}
	}
	l.refuse = nil
	l.step()
	// artifactgenerator 59: an orphan that cannot be removed now is removed later.
	l.edit(func(o *v1beta1.ArtifactGenerator) { o.Spec.Artifacts[0].Name = "two" })
	l.refuse = func(v string, _ client.Object) error {
		if v == "delete" {
			return refused
		}
		return nil
	}
	if _, err := l.Run(t.Context(), l.key()); !errors.Is(err, refused) {
		t.Errorf("an orphan stays: error = %v", err)
	}
	if c := ready(l.get()); c.Reason != "ReconciliationFailed" || !strings.Contains(c.Message, "no longer asked for") {
		t.Errorf("Ready = %+v", c)
	}
	l.refuse = nil
	l.step()
	if got := l.externals(); got != "two" {
		t.Errorf("there are %q", got)
	}
	// A deletion that fails does not hold the object back.
	l.refuse = func(v string, _ client.Object) error {
		if v == "delete" {
			return refused
		}
		return nil
	}
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.step()
	if err := l.client.Get(t.Context(), l.key(), &v1beta1.ArtifactGenerator{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object is still there: %v", err)
	}
}

// artifactgenerator 25, 26, 29, 56, 59: directories that come and go.
func TestPathPattern(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"apps/Web/a": "w", "apps/api/a": "p"})
	l.create(func(o *v1beta1.ArtifactGenerator) {
		o.Spec.PathPattern = "@repo/apps/{app}"
		o.Spec.CommonMetadata = &meta.CommonMetadata{Labels: map[string]string{"app": "common", "team": "x"}}
		o.Spec.Artifacts = []v1beta1.OutputArtifact{{Name: "n-{app}", Copy: []v1beta1.CopyOperation{op("@repo/apps/{app}/**", "@artifact/")}}}
	})
	l.step()
	if got := l.externals(); got != "n-api n-web" {
		t.Errorf("there are %q", got)
	}
	equal(t, "content", files{"a": "w"}, l.content("n-web"))
	labels := maps.Clone(l.external("n-web").Labels)
	if labels["app"] != "web" || labels["team"] != "x" {
		t.Errorf("labels %v", labels)
	}
	gone := l.external("n-web").Status.Artifact
	l.publish("app", "main@sha1:2", files{"apps/api/a": "p", "apps/new/a": "n"})
	l.step()
	if got := l.externals(); got != "n-api n-new" || l.has(gone) {
		t.Errorf("there are %q; the old file is there: %t", got, l.has(gone))
	}
	l.Lines()
	l.publish("app", "main@sha1:3", files{"libs/a": ""})
	l.step()
	if got := l.externals(); got != "" || l.get().Status.Inventory != nil {
		t.Errorf("there are %q, the inventory is %v", got, l.get().Status.Inventory)
	}
	equal(t, "conditions", []string{"Ready=True Succeeded: reconciliation succeeded, generated 0 artifact(s)"}, l.conditions())
	equal(t, "events", []string{"trace Ready: reconciliation succeeded, generated 0 artifact(s) (local)"}, l.told())
	l.step()
	equal(t, "events", []string{"trace Ready: No drift detected, 0 artifact(s) up to date (local)"}, l.told())
}

// Labels that the spec does not ask for any more go, also from artifacts whose content stays.
func TestMetadataGoes(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	l.create(func(o *v1beta1.ArtifactGenerator) {
		o.Spec.CommonMetadata = &meta.CommonMetadata{Labels: map[string]string{"team": "x"}}
	})
	l.step()
	l.edit(func(o *v1beta1.ArtifactGenerator) { o.Spec.CommonMetadata = nil })
	l.step()
	if labels := l.external("one").Labels; labels["team"] != "" || len(labels) != 2 {
		t.Errorf("labels %v", labels)
	}
}

// artifactgenerator 65: a run that takes too long says so.
func TestTimeout(t *testing.T) {
	l := newLab(t)
	l.publish("app", "main@sha1:1", files{"a": "1"})
	l.create()
	l.g.Timeout = time.Nanosecond
	if _, err := l.Run(t.Context(), l.key()); err == nil && ready(l.get()).Status == "True" {
		t.Error("a run without time succeeded")
	}
}
