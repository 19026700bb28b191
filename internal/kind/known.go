package kind

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// API groups of the kinds described here.
const (
	sourceGroup       = "source.toolkit.fluxcd.io"
	extensionsGroup   = "source.extensions.fluxcd.io"
	helmGroup         = "helm.toolkit.fluxcd.io"
	imageGroup        = "image.toolkit.fluxcd.io"
	notificationGroup = "notification.toolkit.fluxcd.io"
)

// The functions below describe kinds that have no room of their own yet. A descriptor moves to its component's folder
// when that component is built.

func gvk(group, version, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}
}

// FetchedRevision is the Done line of source kinds.
func FetchedRevision(o Object) string { return "fetched revision " + o.Revision() }

// AppliedRevision is the Done line of kinds that apply what a source holds.
func AppliedRevision(o Object) string {
	return "applied revision " + o.Field("status", "lastAppliedRevision")
}

// DescribeSource is the Describe function of sources with a URL.
func DescribeSource(o Object) []Line {
	lines := []Line{{"URL", o.Field("spec", "url")}}
	for _, ref := range []string{"commit", "name", "semver", "tag", "branch", "digest"} {
		if v := o.Field("spec", "ref", ref); v != "" {
			lines = append(lines, Line{strings.ToUpper(ref[:1]) + ref[1:], v})
		}
	}
	return append(lines, DescribeArtifact(o)...)
}

// DescribeArtifact tells the revision of the artifact and, for OCI artifacts, what they were made from.
func DescribeArtifact(o Object) []Line {
	lines := []Line{{"Revision", o.Revision()}}
	meta, _, _ := unstructured.NestedStringMap(o.Object, "status", "artifact", "metadata")
	if v := meta["org.opencontainers.image.revision"]; v != "" {
		lines = append(lines, Line{"Origin Revision", v})
	}
	if v := meta["org.opencontainers.image.source"]; v != "" {
		lines = append(lines, Line{"Origin Source", v})
	}
	return lines
}

// OCIRepository describes the kind to the generic verbs.
func OCIRepository() Kind {
	return Kind{
		GroupVersionKind: gvk(sourceGroup, "v1", "OCIRepository"), Resource: "ocirepositories", Short: []string{"ocirepo"},
		Words: []string{"source", "oci"}, ListWords: []string{"sources", "oci"}, Noun: "OCIRepository source",
		Verbs: AllVerbs, ShortenHashes: true, Artifact: true,
		Columns:  []Column{RevisionColumn(Object.Revision), SuspendedColumn(), WideField("URL", "spec", "url")},
		Secrets:  SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Done:     FetchedRevision,
		Describe: DescribeSource,
	}
}

// Bucket describes the kind to the generic verbs.
func Bucket() Kind {
	return Kind{
		GroupVersionKind: gvk(sourceGroup, "v1", "Bucket"), Resource: "buckets",
		Words: []string{"source", "bucket"}, ListWords: []string{"sources", "bucket"}, Noun: "Bucket source",
		Verbs: AllVerbs, ShortenHashes: true, Artifact: true,
		Columns: []Column{RevisionColumn(Object.Revision), SuspendedColumn(), WideField("ENDPOINT", "spec", "endpoint")},
		Secrets: SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Done:    FetchedRevision,
		Describe: func(o Object) []Line {
			return append([]Line{{"Endpoint", o.Field("spec", "endpoint")}, {"Bucket", o.Field("spec", "bucketName")}}, DescribeArtifact(o)...)
		},
	}
}

// HelmRepository describes the kind to the generic verbs.
func HelmRepository() Kind {
	return Kind{
		GroupVersionKind: gvk(sourceGroup, "v1", "HelmRepository"), Resource: "helmrepositories", Short: []string{"helmrepo"},
		Words: []string{"source", "helm"}, ListWords: []string{"sources", "helm"}, Noun: "HelmRepository source",
		Verbs: AllVerbs, ShortenHashes: true, Artifact: true,
		Columns:       []Column{RevisionColumn(Object.Revision), SuspendedColumn(), WideField("URL", "spec", "url")},
		Static:        func(o Object) bool { return o.Field("spec", "type") == "oci" },
		StaticMessage: "Helm repository is Ready",
		Secrets:       SecretRefs("secretRef", "certSecretRef"),
		Done:          FetchedRevision,
		Describe:      DescribeSource,
	}
}

// HelmChart describes the kind to the generic verbs.
func HelmChart() Kind {
	source := func(o Object) *Ref { return o.SourceRef("spec", "sourceRef") }
	return Kind{
		GroupVersionKind: gvk(sourceGroup, "v1", "HelmChart"), Resource: "helmcharts", Short: []string{"hc"},
		Words: []string{"source", "chart"}, ListWords: []string{"sources", "chart"}, Noun: "HelmChart source",
		Verbs: AllVerbs, ShortenHashes: true, Artifact: true, WithSource: true,
		Columns: []Column{RevisionColumn(Object.Revision), SuspendedColumn(),
			WideField("CHART", "spec", "chart"), WideField("VERSION", "spec", "version")},
		Source: source,
		Done:   FetchedRevision,
		Describe: func(o Object) []Line {
			return append([]Line{{"Chart", o.Field("spec", "chart")}, {"Version", o.Field("spec", "version")}}, DescribeArtifact(o)...)
		},
	}
}

// ExternalArtifact describes the kind to the generic verbs.
func ExternalArtifact() Kind {
	return Kind{
		GroupVersionKind: gvk(sourceGroup, "v1", "ExternalArtifact"), Resource: "externalartifacts", Short: []string{"ea"},
		Words: []string{"source", "external"}, ListWords: []string{"sources", "external"},
		Verbs: Export, ShortenHashes: true, Artifact: true,
		Columns: []Column{RevisionColumn(Object.Revision), {Header: "SOURCE", Value: func(o Object) string {
			if r := o.SourceRef("spec", "sourceRef"); r != nil {
				return r.String()
			}
			return ""
		}}},
		Source:   func(o Object) *Ref { return o.SourceRef("spec", "sourceRef") },
		Describe: DescribeArtifact,
	}
}

// ArtifactGenerator describes the kind to the generic verbs.
func ArtifactGenerator() Kind {
	return Kind{
		GroupVersionKind: gvk(extensionsGroup, "v1beta1", "ArtifactGenerator"), Resource: "artifactgenerators", Short: []string{"ag"},
		Words: []string{"artifact", "generator"}, ListWords: []string{"artifacts", "generators"}, ListAliases: []string{"generator"},
		Verbs:   Export | Tree,
		Columns: []Column{SuspendedColumn()},
		Related: func(o Object) []Ref {
			var refs []Ref
			list, _, _ := unstructured.NestedSlice(o.Object, "spec", "sources")
			for i := range list {
				m, _ := list[i].(map[string]any)
				r := (Object{&unstructured.Unstructured{Object: m}}).SourceRef()
				if r == nil {
					continue
				}
				if r.Namespace == "" {
					r.Namespace = o.GetNamespace()
				}
				refs = append(refs, *r)
			}
			return refs
		},
		Children: func(o Object) []Entry {
			list, _, _ := unstructured.NestedSlice(o.Object, "status", "inventory")
			var out []Entry
			for _, item := range list {
				m, _ := item.(map[string]any)
				e := Entry{Version: "v1"}
				e.Group, e.Kind = sourceGroup, "ExternalArtifact"
				e.Namespace, _ = m["namespace"].(string)
				e.Name, _ = m["name"].(string)
				out = append(out, e)
			}
			return out
		},
	}
}

// releaseRevision is the chart version of the newest entry of the release history.
func releaseRevision(o Object) string {
	if versions := o.Fields("chartVersion", "status", "history"); len(versions) > 0 {
		return versions[0]
	}
	return ""
}

// releaseSource is the chart reference, or the HelmChart the controller made from the chart template.
func releaseSource(o Object) *Ref {
	if r := o.SourceRef("spec", "chartRef"); r != nil {
		return r
	}
	if ns, name, ok := strings.Cut(o.Field("status", "helmChart"), "/"); ok {
		return &Ref{Kind: "HelmChart", Namespace: ns, Name: name}
	}
	return o.SourceRef("spec", "chart", "spec", "sourceRef")
}

// HelmRelease describes the kind to the generic verbs.
func HelmRelease() Kind {
	return Kind{
		GroupVersionKind: gvk(helmGroup, "v2", "HelmRelease"), Resource: "helmreleases", Short: []string{"hr"},
		Words: []string{"helmrelease"}, Aliases: []string{"hr"},
		ListWords: []string{"helmreleases"}, ListAliases: []string{"hr", "helmrelease"},
		Verbs: AllVerbs,
		Columns: []Column{
			SourceColumn(releaseSource),
			RevisionColumn(releaseRevision), SuspendedColumn(),
		},
		Source: releaseSource, WithSource: true,
		Related: func(o Object) []Ref {
			if r := o.SourceRef("spec", "chart", "spec", "sourceRef"); r != nil {
				return []Ref{*r}
			}
			return nil
		},
		Owner:    &OwnerLabels{Name: "helm.toolkit.fluxcd.io/name", Namespace: "helm.toolkit.fluxcd.io/namespace"},
		Children: Inventory, HelmStorage: true,
		Done:     func(o Object) string { return "applied revision " + releaseRevision(o) },
		Describe: func(o Object) []Line { return []Line{{"Revision", releaseRevision(o)}} },
		Requests: []Request{
			{Flag: "force", Annotation: "reconcile.fluxcd.io/forceAt", Usage: "force a one-off install or upgrade of the HelmRelease resource"},
			{Flag: "reset", Annotation: "reconcile.fluxcd.io/resetAt", Usage: "reset the failure count for this HelmRelease resource"},
		},
	}
}

// showRef is the Kind/namespace/name form of the SOURCE column.
func showRef(r *Ref) string {
	if r == nil {
		return ""
	}
	return r.String()
}

// SourceColumn is the column that `get --show-source` adds.
func SourceColumn(source func(Object) *Ref) Column {
	return Column{Header: "SOURCE", Flag: "show-source", Value: func(o Object) string { return showRef(source(o)) }}
}

// Receiver describes the kind to the generic verbs.
func Receiver() Kind {
	return Kind{
		GroupVersionKind: gvk(notificationGroup, "v1", "Receiver"), Resource: "receivers",
		Words: []string{"receiver"}, ListWords: []string{"receivers"}, ListAliases: []string{"receiver"},
		Verbs:   AllVerbs,
		Columns: []Column{SuspendedColumn(), WideField("TYPE", "spec", "type"), WideField("WEBHOOK PATH", "status", "webhookPath")},
		Secrets: SecretRefs("secretRef"),
		Done:    func(o Object) string { return "generated webhook URL " + o.Field("status", "webhookPath") },
	}
}

// AlertProvider describes the kind to the generic verbs.
func AlertProvider() Kind {
	return Kind{
		GroupVersionKind: gvk(notificationGroup, "v1beta3", "Provider"), Resource: "providers",
		Words: []string{"alert-provider"}, ListWords: []string{"alert-providers"}, ListAliases: []string{"alert-provider"},
		Verbs:   Suspend | Delete | Export,
		Columns: []Column{WideField("TYPE", "spec", "type")},
		Static:  Always, StaticMessage: "Provider is Ready",
		Secrets: SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
	}
}

// Alert describes the kind to the generic verbs.
func Alert() Kind {
	return Kind{
		GroupVersionKind: gvk(notificationGroup, "v1beta3", "Alert"), Resource: "alerts",
		Words: []string{"alert"}, ListWords: []string{"alerts"}, ListAliases: []string{"alert"},
		Verbs:   Suspend | Delete | Export,
		Columns: []Column{SuspendedColumn(), WideField("PROVIDER", "spec", "providerRef", "name")},
		Static:  Always, StaticMessage: "Alert is Ready",
		Related: func(o Object) []Ref {
			if name := o.Field("spec", "providerRef", "name"); name != "" {
				return []Ref{{Kind: "Provider", Namespace: o.GetNamespace(), Name: name}}
			}
			return nil
		},
	}
}

// ImageRepository describes the kind to the generic verbs.
func ImageRepository() Kind {
	return Kind{
		GroupVersionKind: gvk(imageGroup, "v1", "ImageRepository"), Resource: "imagerepositories", Short: []string{"imgrepo", "imagerepo"},
		Words: []string{"image", "repository"}, ListWords: []string{"images", "repository"},
		Verbs: AllVerbs,
		Columns: []Column{FieldColumn("LAST SCAN", "status", "lastScanResult", "scanTime"), SuspendedColumn(),
			WideField("IMAGE", "spec", "image")},
		Secrets: SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Done: func(o Object) string {
			return "scan fetched " + o.Field("status", "lastScanResult", "tagCount") + " tags"
		},
	}
}

// ImagePolicy describes the kind to the generic verbs.
func ImagePolicy() Kind {
	return Kind{
		GroupVersionKind: gvk(imageGroup, "v1", "ImagePolicy"), Resource: "imagepolicies", Short: []string{"imgpol", "imagepol"},
		Words: []string{"image", "policy"}, ListWords: []string{"images", "policy"},
		Verbs:   AllVerbs,
		Columns: []Column{FieldColumn("IMAGE", "status", "latestRef", "name"), FieldColumn("TAG", "status", "latestRef", "tag")},
		Done: func(o Object) string {
			return "selected ref " + o.Field("status", "latestRef", "name") + ":" + o.Field("status", "latestRef", "tag")
		},
		Related: func(o Object) []Ref {
			name, ns := o.Field("spec", "imageRepositoryRef", "name"), o.Field("spec", "imageRepositoryRef", "namespace")
			if ns == "" {
				ns = o.GetNamespace()
			}
			if name == "" {
				return nil
			}
			return []Ref{{Kind: "ImageRepository", Namespace: ns, Name: name}}
		},
	}
}

// ImageUpdateAutomation describes the kind to the generic verbs.
func ImageUpdateAutomation() Kind {
	return Kind{
		GroupVersionKind: gvk(imageGroup, "v1", "ImageUpdateAutomation"), Resource: "imageupdateautomations",
		Short: []string{"iua", "imgupd", "imgauto"},
		Words: []string{"image", "update"}, ListWords: []string{"images", "update"},
		Verbs:   AllVerbs,
		Columns: []Column{FieldColumn("LAST RUN", "status", "lastAutomationRunTime"), SuspendedColumn()},
		Source:  func(o Object) *Ref { return o.SourceRef("spec", "sourceRef") },
		Done: func(o Object) string {
			ready, _ := o.Condition("Ready")
			return ready.Message
		},
	}
}
