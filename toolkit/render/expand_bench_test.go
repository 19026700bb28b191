package render

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkExpand substitutes variables in the text of one object: some by value, some by default, and one that is escaped.
func BenchmarkExpand(b *testing.B) {
	text := fmt.Sprintf(benchDeployment, 1) + strings.Repeat("# ${cluster} ${region:=eu} $${kept} ${tier:-web}\n", 10)
	vars := map[string]string{"cluster": "production", "tier": "front"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Expand(text, vars, false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFingerprint names a build, which is all that a run without news does of it.
func BenchmarkFingerprint(b *testing.B) {
	in := Inputs{
		Tree: "sha256:" + strings.Repeat("0", 64), Spec: Spec{Path: "deploy", TargetNamespace: "apps"},
		Substitute: true, Variables: map[string]string{"cluster": "production", "tier": "front"},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Fingerprint(in); err != nil {
			b.Fatal(err)
		}
	}
}
