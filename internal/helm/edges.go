package helm

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

func keyOf(obj *helmv2.HelmRelease) depend.Key {
	return depend.Key{Kind: helmv2.HelmReleaseKind, Namespace: obj.Namespace, Name: obj.Name}
}

// edges are the objects whose events matter to a HelmRelease. They are taken from the spec before anything is checked, so that nothing is
// lost between a check and the registration of the edge.
func edges(obj *helmv2.HelmRelease) []depend.Key {
	spec := &obj.Spec
	namespaced := func(kind, namespace, name string) depend.Key {
		if namespace == "" {
			namespace = obj.Namespace
		}
		return depend.Key{Kind: kind, Namespace: namespace, Name: name}
	}
	var keys []depend.Key
	if key, templated := templateKey(obj); templated {
		keys = append(keys, namespaced(sourcev1.HelmChartKind, key.Namespace, key.Name))
	}
	if c := spec.ChartRef; c != nil {
		keys = append(keys, namespaced(c.Kind, c.Namespace, c.Name))
	}
	for _, d := range spec.DependsOn {
		keys = append(keys, namespaced(helmv2.HelmReleaseKind, d.Namespace, d.Name))
	}
	if c := spec.KubeConfig; c != nil && c.SecretRef != nil {
		keys = append(keys, namespaced("Secret", "", c.SecretRef.Name))
	}
	if c := spec.KubeConfig; c != nil && c.ConfigMapRef != nil {
		keys = append(keys, namespaced("ConfigMap", "", c.ConfigMapRef.Name))
	}
	for _, ref := range spec.ValuesFrom {
		keys = append(keys, namespaced(ref.Kind, "", ref.Name))
	}
	return keys
}

// onSource wakes the HelmReleases of a source that has another artifact, or has become ready, except those that have this revision already
// and are well or at work on it (helmrelease 2, 3). The cached reader tells.
func (r *Releaser) onSource(kind string, cached func(types.NamespacedName) *helmv2.HelmRelease) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		if after == nil || !sourceref.ArtifactChanged(before, after) && !becameReady(before, after) {
			return nil
		}
		revision := ""
		if h, ok := after.(meta.ArtifactHolder); ok && h.GetArtifact() != nil {
			revision = h.GetArtifact().Revision
		}
		var woken []types.NamespacedName
		for _, key := range r.dependents(kind, after) {
			if dependent := cached(key); dependent != nil && has(dependent, kind, revision) {
				continue
			}
			woken = append(woken, key)
		}
		return woken
	}
}

// becameReady reports whether a source has caught up with its spec, or recovered.
func becameReady(before, after client.Object) bool {
	is, ok := after.(meta.Reconcilable)
	if !ok || before == nil {
		return false
	}
	was, ok := before.(meta.Reconcilable)
	return ok && caughtUp(is, after.GetGeneration()) && !caughtUp(was, before.GetGeneration())
}

func caughtUp(source meta.Reconcilable, generation int64) bool {
	return source.GetObservedGeneration() == generation && status.IsTrue(source.GetConditions(), meta.ReadyCondition)
}

// has reports whether a HelmRelease needs no event for a revision (helmrelease 3). One whose spec is yet to be tried does.
func has(obj *helmv2.HelmRelease, kind, revision string) bool {
	s := &obj.Status
	attempted := s.LastAttemptedRevision == revision
	if kind != sourcev1.HelmChartKind && strings.Contains(revision, ":") {
		attempted = s.LastAttemptedRevisionDigest == revision[strings.LastIndex(revision, "@")+1:]
	}
	return revision != "" && attempted && s.LastAttemptedGeneration == obj.Generation &&
		(status.IsTrue(s.Conditions, meta.ReadyCondition) || status.IsTrue(s.Conditions, meta.ReconcilingCondition))
}

// onComplaint wakes the HelmReleases that wait for a source when it says something else about why it is not ready. It ends no wait of
// theirs: there is nothing newer to release.
func (r *Releaser) onComplaint(kind string, cached func(types.NamespacedName) *helmv2.HelmRelease) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		if before == nil || after == nil || complaint(before).Error() == complaint(after).Error() {
			return nil
		}
		var woken []types.NamespacedName
		for _, key := range r.dependents(kind, after) {
			if dependent := cached(key); dependent != nil && waitsForSource(dependent) {
				woken = append(woken, key)
			}
		}
		return woken
	}
}

func waitsForSource(obj *helmv2.HelmRelease) bool {
	ready := status.Find(obj.Status.Conditions, meta.ReadyCondition)
	return ready != nil && ready.Reason == helmv2.SourceNotReadyReason
}

// onChartGone wakes the HelmReleases of a HelmChart that was deleted: it is made anew.
func (r *Releaser) onChartGone(before, after client.Object) []types.NamespacedName {
	if after != nil {
		return nil
	}
	return r.dependents(sourcev1.HelmChartKind, before)
}

// onDependency wakes the dependents of a HelmRelease on every transition that can change a dependency check.
func (r *Releaser) onDependency(before, after client.Object) []types.NamespacedName {
	was, _ := before.(*helmv2.HelmRelease)
	is, _ := after.(*helmv2.HelmRelease)
	switch {
	case is == nil:
		return r.dependents(helmv2.HelmReleaseKind, before)
	case was != nil && !transition(was, is):
		return nil
	}
	return r.dependents(helmv2.HelmReleaseKind, after)
}

// transition reports whether a dependency check may see a difference. An expression may ask about the newest release.
func transition(was, is *helmv2.HelmRelease) bool {
	return was.Generation != is.Generation || was.Status.ObservedGeneration != is.Status.ObservedGeneration ||
		status.IsTrue(was.Status.Conditions, meta.ReadyCondition) != status.IsTrue(is.Status.Conditions, meta.ReadyCondition) ||
		newest(was) != newest(is)
}

// newest is the digest of the newest release in the history.
func newest(obj *helmv2.HelmRelease) string {
	if len(obj.Status.History) == 0 {
		return ""
	}
	return obj.Status.History[0].Digest
}

// onConfig wakes the HelmReleases that take values or a kubeconfig from a watched ConfigMap or Secret (_common 51, helmrelease 4).
func (r *Releaser) onConfig(kind string) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		switch {
		case after == nil:
			return r.dependents(kind, before)
		case before != nil && before.GetResourceVersion() == after.GetResourceVersion():
			return nil
		}
		return r.dependents(kind, after)
	}
}

func (r *Releaser) dependents(kind string, obj client.Object) []types.NamespacedName {
	var out []types.NamespacedName
	for _, key := range r.Graph.Dependents(depend.Key{Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName()}) {
		out = append(out, types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
	}
	return out
}
