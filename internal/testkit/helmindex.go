package testkit

import (
	"bufio"
	"fmt"
	"io"
)

// WriteLargeHelmIndex writes the index of a Helm repository with 200,000 versions of 1,000 charts, about 50 MB, as
// `helm repo index` would (reliability 009).
func WriteLargeHelmIndex(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprint(b, "apiVersion: v1\nentries:\n")
	for chart := range 1000 {
		fmt.Fprintf(b, "  chart-%04d:\n", chart)
		for version := range 200 {
			fmt.Fprintf(b, `  - apiVersion: v2
    appVersion: %[2]d.0.0
    created: "2026-01-01T00:00:%02[3]d.123456789Z"
    digest: %064[2]d
    name: chart-%04[1]d
    urls:
    - charts/chart-%04[1]d-1.%[2]d.0.tgz
    version: 1.%[2]d.0
`, chart, 200-version, version%60)
		}
	}
	fmt.Fprint(b, "generated: \"2026-01-01T00:00:00Z\"\n")
	return b.Flush()
}
