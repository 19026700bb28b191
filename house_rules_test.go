package flux

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// TestRules shows to each rule a tree that breaks it and one that just does not: a rule that never complains holds nothing.
func TestRules(t *testing.T) {
	const ours = modulePath + "/"
	for _, test := range []struct {
		rule string
		path string
		code string // below the package clause; or the whole file, when it is not Go
		want string // part of the complaint; empty for none
	}{
		{"layers", "toolkit/event/x.go", `import _ "` + ours + `toolkit/loop"`, "toolkit/event imports toolkit/loop"},
		{"layers", "toolkit/loop/x.go", `import _ "` + ours + `toolkit/event"`, ""},
		{"layers", "toolkit/git/x.go", `import _ "` + ours + `toolkit/oci"`, "never sideways"},
		{"layers", "toolkit/git/x_test.go", `import _ "` + ours + `toolkit/oci"`, ""},
		{"layers", "toolkit/git/x_test.go", `import _ "` + ours + `internal/ops"`, "toolkit/git imports internal/ops"},
		{"layers", "toolkit/git/x_test.go", `import _ "` + ours + `internal/testkit"`, ""},
		{"layers", "internal/kustomize/x.go", `import _ "` + ours + `internal/source/git"`, "internal/kustomize imports internal/source"},
		{"layers", "internal/kustomize/x_test.go", `import _ "` + ours + `internal/source/git"`, ""},
		{"layers", "internal/source/git/x.go", `import _ "` + ours + `internal/source/frame"`, ""},
		{"layers", "internal/ops/x.go", `import _ "` + ours + `internal/app"`, "internal/ops imports internal/app"},
		{"layers", "internal/attic/x.go", ``, "internal/attic has no place"},
		{"layers", "internal/cli/x.go", `import _ "` + ours + `internal/attic"`, "internal/attic has no place"},
		{"layers", "api/meta/x.go", `import _ "k8s.io/client-go/rest"`, "api imports k8s.io/client-go/rest"},
		{"layers", "api/meta/x.go", `import _ "k8s.io/apimachinery/pkg/runtime"`, ""},
		{"layers", "test/compat/x.go", `import _ "` + ours + `internal/testkit"`, ""},

		{"fences", "internal/kustomize/x.go", `import _ "helm.sh/helm/v4/pkg/chart"`, "Helm stays"},
		{"fences", "internal/helm/x.go", `import _ "helm.sh/helm/v4/pkg/chart"`, ""},
		{"fences", "internal/app/x.go", `import _ "github.com/aws/aws-sdk-go-v2/aws"`, "cloud SDKs"},
		{"fences", "toolkit/auth/aws/x.go", `import _ "github.com/aws/aws-sdk-go-v2/aws"`, ""},
		{"fences", "internal/local/x.go", `import _ "k8s.io/kubernetes/cmd/kube-apiserver/app"`, "lags"},
		{"fences", "toolkit/ssa/x.go", `import _ "github.com/fluxcd/pkg/ssa"`, "only kstatus"},
		{"fences", "toolkit/health/x.go", `import _ "github.com/fluxcd/cli-utils/pkg/kstatus/status"`, ""},
		{"fences", "toolkit/ssa/x_test.go", `import _ "github.com/onsi/gomega"`, "standard library"},
		{"fences", "toolkit/ssa/x_test.go", `import _ "github.com/stretchr/testify/require"`, "standard library"},
		{"fences", "toolkit/loop/x.go", `import _ "github.com/spf13/pflag"`, "library"},
		{"fences", "internal/component/x.go", `import _ "github.com/spf13/pflag"`, ""},
		{"fences", "cluster/x.go", `import _ "` + ours + `api/meta"`, "does not know the root"},
		{"fences", "internal/local/x.go", `import _ "` + ours + `cluster/internal/home"`, "a program"},

		{"test code only in tests", "internal/app/x.go", `import _ "` + ours + `internal/testkit"`, "only tests may"},
		{"test code only in tests", "internal/app/x.go", `import _ "` + ours + `toolkit/artifact/artifacttest"`, "only tests may"},
		{"test code only in tests", "internal/app/x.go", `import _ "testing"`, "only tests may"},
		{"test code only in tests", "internal/app/x_test.go", `import _ "` + ours + `internal/testkit"`, ""},
		{"test code only in tests", "toolkit/artifact/artifacttest/x.go", `import _ "testing"`, ""},

		{"package docs", "internal/app/x.go", ``, "says nowhere"},
		{"no init", "internal/app/x.go", `func init() {}`, "init function"},
		{"no init", "internal/app/x.go", `type t struct{}; func (t) init() {}`, ""},

		{"no changing package variables", "internal/app/x.go", `var n int; func f() { n = 1 }`, "variable n"},
		{"no changing package variables", "internal/app/x.go", `var n struct{ m []int }; func f() { n.m[0]++ }`, "variable n"},
		{"no changing package variables", "internal/app/x.go", `var n int; func f() { n := 0; n = 1; _ = n }`, ""},
		{"no changing package variables", "internal/app/x.go", `var n int; func f(n int) { n = 1 }`, ""},

		{"no sleeps", "internal/app/x_test.go", `import "time"; func f() { time.Sleep(1) }`, "sleeps"},
		{"no sleeps", "internal/app/x_test.go", `import ("time"; _ "testing/synctest"); func f() { time.Sleep(1) }`, ""},
		{"no sleeps", "internal/app/x_test.go", `import "time"; func f() { for { time.Sleep(1) } }`, ""},
		{"no sleeps", "internal/app/x.go", `import "time"; func f() { for { time.Sleep(1) } }`, "sleeps"},
		{"exit only in main", "internal/app/x.go", `import "os"; func f() { os.Exit(1) }`, "ends the process"},
		{"exit only in main", "internal/app/x_test.go", `import "log"; func f() { log.Fatal(1) }`, "ends the process"},
		{"exit only in main", "cmd/flux/main.go", `import "os"; func f() { os.Exit(1) }`, ""},

		{"kinds stay in their folders", "toolkit/loop/x.go", `const k = "HelmRelease"`, "knows the kind HelmRelease"},
		{"kinds stay in their folders", "toolkit/loop/x.go", `const k = "such as a HelmRelease"`, ""},
		{"kinds stay in their folders", "internal/helm/x.go", `const k = "HelmRelease"`, ""},

		{"no open marks", "docs/x.md", "a\nTO" + "DO b\n", "leaves TO" + "DO"},
		{"no open marks", "docs/x.md", "MASTO" + "DON\n", ""},
		{"no paths of one machine", "docs/x.md", "see /ho" + "me/someone/flux\n", "one machine"},
		{"no paths of one machine", "docs/x.md", "see https://example.com/ho" + "me/page\n", ""},
	} {
		t.Run(test.rule+"/"+test.path, func(t *testing.T) {
			h, err := openHouse(fstest.MapFS{})
			if err != nil {
				t.Fatal(err)
			}
			content := test.code
			if strings.HasSuffix(test.path, ".go") {
				pkg := "x"
				if strings.HasSuffix(test.path, "main.go") {
					pkg = "main"
				}
				content = "package " + pkg + "\n" + test.code
			}
			if err := h.add(test.path, content); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rules() {
				if r.name == test.rule {
					r.check(h, func(file string, line int, format string, args ...any) {
						got = append(got, fmt.Sprintf(format, args...))
					})
				}
			}
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("%q complains about\n%s\n%s", test.rule, content, got)
			case test.want != "" && (len(got) == 0 || !strings.Contains(got[0], test.want)):
				t.Errorf("%q says %q about\n%s\nwant %q in it", test.rule, got, content, test.want)
			}
		})
	}
}
