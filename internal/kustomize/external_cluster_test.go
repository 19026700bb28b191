package kustomize

import (
	"io"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// offer gives the ExternalArtifact "made" a content, as a controller of somebody else would.
func (l *lab) offer(revision, manifest string, change ...func(*meta.Artifact)) {
	l.t.Helper()
	ctx := l.t.Context()
	obj := &sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "made"}}
	if err := l.client.Create(ctx, obj); err != nil {
		if err := l.client.Get(ctx, types.NamespacedName{Namespace: l.ns, Name: "made"}, obj); err != nil {
			l.t.Fatal(err)
		}
	}
	name := artifact.Name{Kind: sourcev1.ExternalArtifactKind, Namespace: l.ns, Object: "made", File: strings.ReplaceAll(revision, ":", "-") + ".tar.gz"}
	a, err := l.store.Put(ctx, name, func(w io.Writer) error {
		return archive.Write(ctx, w, archive.Bytes("a.yaml", []byte(manifest)), archive.NewMatcher())
	})
	if err != nil {
		l.t.Fatal(err)
	}
	a.Revision = revision
	for _, f := range change {
		f(a)
	}
	obj.Status.Artifact = a
	if err := l.client.Status().Update(ctx, obj); err != nil {
		l.t.Fatal(err)
	}
}

// externalartifact 5-8: how a Kustomization uses an artifact that somebody else makes.
func TestExternalArtifact(t *testing.T) {
	l := newLab(t)
	// externalartifact 7: that the object has no conditions, and a request on it, mean nothing to the consumer.
	l.offer("latest@sha256:1", configMap("a", "one"), func(a *meta.Artifact) {
		a.Metadata = map[string]string{meta.OriginRevisionKey: "main@sha1:1"}
	})
	l.create(func(o *kustomizev1.Kustomization) {
		o.Spec.SourceRef = kustomizev1.SourceReference{Kind: sourcev1.ExternalArtifactKind, Name: "made"}
	})
	// externalartifact 5: without the gate it is an error that no retry can help.
	l.k.Sources.ExternalArtifact = false
	if result := l.step(); result != (reconcile.Result{}) {
		t.Errorf("looks again after %v", result)
	}
	if got := l.condition(meta.ReadyCondition); got != "False AccessDenied: can't access 'ExternalArtifact/NS/made', ExternalArtifact feature gate is disabled" {
		t.Errorf("Ready = %s", got)
	}
	if got := l.condition(meta.StalledCondition); !strings.HasPrefix(got, "True AccessDenied") {
		t.Errorf("Stalled = %s", got)
	}
	// externalartifact 6, 8: with the gate it is fetched like any other, and events carry where it comes from.
	l.k.Sources.ExternalArtifact = true
	l.Events()
	l.step()
	if got := l.condition(meta.ReadyCondition); got != "True ReconciliationSucceeded: Applied revision: latest@sha256:1" || !l.has("a") {
		t.Errorf("Ready = %s, applied: %t", got, l.has("a"))
	}
	events := l.Events()
	for _, e := range events {
		if e.Metadata["revision"] != "latest@sha256:1" || e.Metadata["originRevision"] != "main@sha1:1" {
			t.Errorf("event %q carries %v", e.Message, e.Metadata)
		}
	}
	if len(events) == 0 {
		t.Error("no events")
	}
	if got := l.get().Status.LastAppliedOriginRevision; got != "main@sha1:1" {
		t.Errorf("lastAppliedOriginRevision = %q", got)
	}
	// externalartifact 6: what the digest does not fit is not applied.
	l.offer("latest@sha256:2", configMap("b", "two"), func(a *meta.Artifact) { a.Digest = "sha256:" + strings.Repeat("0", 64) })
	// Whether that is a failure or a wait for a newer status is a matter of Kustomization.
	_, _ = l.Run(t.Context(), l.key())
	if got := l.condition(meta.ReadyCondition); !strings.HasPrefix(got, "False ArtifactFailed") || l.has("b") {
		t.Errorf("Ready = %s, applied: %t", got, l.has("b"))
	}
}

// externalartifact 5: the kind is watched only with the gate.
func TestExternalArtifactIsWatched(t *testing.T) {
	for _, gate := range []bool{false, true} {
		host := &component.Host{Common: component.Common{Gates: map[string]bool{"ExternalArtifact": gate}}}
		if _, watched := (&instance{}).sourceKinds(host)[sourcev1.ExternalArtifactKind]; watched != gate {
			t.Errorf("gate %t: watched: %t", gate, watched)
		}
	}
}
