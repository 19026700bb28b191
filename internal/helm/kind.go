// Package helm is the kind HelmRelease: it keeps a release of a Helm chart as its spec says.
package helm

import (
	"strings"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// Kind describes HelmRelease to the generic verbs.
func Kind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind), Resource: "helmreleases", Short: []string{"hr"},
		Words: []string{"helmrelease"}, Aliases: []string{"hr"},
		ListWords: []string{"helmreleases"}, ListAliases: []string{"hr", "helmrelease"},
		Verbs: kind.AllVerbs | kind.Tree,
		Columns: []kind.Column{
			kind.SourceColumn(chartSource), kind.RevisionColumn(chartVersion), kind.SuspendedColumn(),
		},
		Source: chartSource, WithSource: true,
		Related: func(o kind.Object) []kind.Ref {
			if r := o.SourceRef("spec", "chart", "spec", "sourceRef"); r != nil {
				return []kind.Ref{*r}
			}
			return nil
		},
		Owner:    &kind.OwnerLabels{Name: helmv2.OwnerNameLabel, Namespace: helmv2.OwnerNamespaceLabel},
		Children: kind.Inventory, HelmStorage: true,
		Done:     func(o kind.Object) string { return "applied revision " + chartVersion(o) },
		Describe: func(o kind.Object) []kind.Line { return []kind.Line{{Title: "Revision", Value: chartVersion(o)}} },
		Requests: []kind.Request{
			{Flag: "force", Annotation: meta.ForceRequestAnnotation, Usage: "force a one-off install or upgrade of the HelmRelease resource"},
			{Flag: "reset", Annotation: meta.ResetRequestAnnotation, Usage: "reset the failure count for this HelmRelease resource"},
		},
		Create: &kind.Create{
			Short: "Create or update a HelmRelease resource",
			Long:  "The create command generates a HelmRelease resource for a chart, or for a source that holds one.",
			Example: `  # Release a chart of a HelmRepository, any 6.x version
  flux create helmrelease podinfo \
    --source=HelmRepository/podinfo \
    --chart=podinfo \
    --chart-version="6.x" \
    --interval=10m

  # Release a chart that an OCIRepository holds, with values of files and of the cluster
  flux create helmrelease podinfo \
    --chart-ref=OCIRepository/podinfo.flux-system \
    --values=./values.yaml,./production.yaml \
    --values-from=Secret/podinfo-values

  # Release into another namespace once cert-manager is ready, and keep the CRDs of the chart up to date
  flux create helmrelease podinfo \
    --source=GitRepository/podinfo \
    --chart=./charts/podinfo \
    --target-namespace=apps \
    --create-target-namespace=true \
    --depends-on=flux-system/cert-manager \
    --crds=CreateReplace

  # Print it instead, to keep it in Git
  flux create helmrelease podinfo \
    --source=HelmRepository/podinfo \
    --chart=podinfo \
    --export > podinfo.yaml`,
			Bind: bindCreate,
			Done: func(o kind.Object) string { return "HelmRelease " + o.GetName() + " is ready" },
		},
	}
}

// chartVersion is that of the newest entry of the release history.
func chartVersion(o kind.Object) string {
	if versions := o.Fields("chartVersion", "status", "history"); len(versions) > 0 {
		return versions[0]
	}
	return ""
}

// chartSource is the chart reference, or the HelmChart that was made from the chart template, or else the template's source.
func chartSource(o kind.Object) *kind.Ref {
	if r := o.SourceRef("spec", "chartRef"); r != nil {
		return r
	}
	if ns, name, ok := strings.Cut(o.Field("status", "helmChart"), "/"); ok {
		return &kind.Ref{Kind: sourcev1.HelmChartKind, Namespace: ns, Name: name}
	}
	return o.SourceRef("spec", "chart", "spec", "sourceRef")
}
