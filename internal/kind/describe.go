package kind

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

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
