package kind

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// API groups of the kinds described here.
const (
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
