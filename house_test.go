// Package flux holds no code of its own: this is the root of the repository, and the place of the test that keeps the
// house in order. What each folder is for, and why imports only go down, is told in docs/architecture.md.
package flux

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modulePath is the import path of the root; the nested module below it has no part in the layers.
const modulePath = "github.com/seed-79636ae9/flux"

// TestHouse holds the tree to the rules. A complaint names the file, the line and the remedy.
func TestHouse(t *testing.T) {
	h, err := openHouse(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.files) < 100 {
		t.Fatalf("found only %d Go files: the test looks at the wrong folder", len(h.files))
	}
	excused := map[exception]bool{}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			r.check(h, func(file string, line int, format string, args ...any) {
				for _, e := range exceptions() {
					if e.rule == r.name && strings.HasPrefix(file, e.file) {
						excused[e] = true
						return
					}
				}
				t.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, args...))
			})
		})
	}
	for _, e := range exceptions() {
		if !excused[e] {
			t.Errorf("the exception of %s from %q is no longer needed: remove it", e.file, e.rule)
		}
	}
}

// exception excuses the files whose path begins with file from one rule.
type exception struct{ rule, file, reason string }

func exceptions() []exception {
	return []exception{
		{"no sleeps", "toolkit/artifact/lock.go", "another process holds the lock, and flock tells nobody when it lets go"},
		{"no changing package variables", "cluster/internal/release/release.go", "Kubernetes keeps its version in variables, which the linker usually sets"},
		{"kinds stay in their folders", "toolkit/ssa/normalise.go", "kustomize's own file format has a kind of this name, and it is no object of a cluster"},
	}
}

// rule is one rule of the house. check calls complain for each place that breaks it.
type rule struct {
	name  string
	check func(h *house, complain complaint)
}

type complaint func(file string, line int, format string, args ...any)

func rules() []rule {
	return []rule{
		{"layers", checkLayers},
		{"fences", checkFences},
		{"test code only in tests", checkTestCode},
		{"package docs", checkPackageDocs},
		{"no init", checkInit},
		{"no changing package variables", checkVariables},
		{"no sleeps", checkSleeps},
		{"exit only in main", checkExits},
		{"kinds stay in their folders", checkKinds},
		{"no open marks", checkMarks},
		{"no paths of one machine", checkMachinePaths},
	}
}

// house is the whole tree, parsed.
type house struct {
	fset  *token.FileSet
	files []*file
	texts []text
}

// file is a Go file.
type file struct {
	path, dir string // slash-separated, relative to the root
	test      bool
	syntax    *ast.File
	imports   []imported
}

type imported struct {
	path string
	line int
}

// text is any file that people read, Go files among them.
type text struct{ path, content string }

func openHouse(tree fs.FS) (*house, error) {
	h := &house{fset: token.NewFileSet()}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && name != "." && name != ".ci"
		if entry.IsDir() {
			// bin is built, and testdata holds what other programs said and did.
			if hidden || name == "bin" || entry.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || !isText(name) {
			return nil
		}
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return h.add(name, string(content))
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	return h, nil
}

func isText(name string) bool {
	known := []string{".go", ".md", ".yaml", ".yml", ".json", ".sh", ".mod", ".css", ".html", ".js", ".tmpl"}
	return path.Ext(name) == "" || slices.Contains(known, path.Ext(name))
}

func (h *house) add(name, content string) error {
	h.texts = append(h.texts, text{name, content})
	if path.Ext(name) != ".go" {
		return nil
	}
	syntax, err := parser.ParseFile(h.fset, name, content, parser.ParseComments)
	if err != nil {
		return err
	}
	f := &file{path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), syntax: syntax}
	for _, spec := range syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		f.imports = append(f.imports, imported{p, h.line(spec)})
	}
	h.files = append(h.files, f)
	return nil
}

func (h *house) line(n ast.Node) int { return h.fset.Position(n.Pos()).Line }

// room is a folder with all below it: inside, imports are free. A room may import rooms on lower floors.
type room struct {
	dir   string
	floor int
}

// rooms is the plan of the house. A new folder gets its place here first.
func rooms() []room {
	var plan []room
	for floor, dirs := range []string{
		"api",
		"toolkit/status toolkit/event toolkit/archive toolkit/throttle toolkit/guard toolkit/expr",
		"toolkit/secret toolkit/kube",
		"toolkit/auth",
		"toolkit/artifact toolkit/git toolkit/oci",
		"toolkit/ssa toolkit/health toolkit/sops toolkit/cluster",
		"toolkit/render",
		"toolkit/loop",
		"toolkit/sourceref toolkit/depend",
		"internal/kind",
		"internal/component internal/ops internal/chartfile",
		"internal/source internal/kustomize internal/helm internal/generate internal/image internal/notify internal/rollout internal/web internal/manifests internal/local",
		"internal/app internal/bootstrap internal/preview",
		"internal/cli internal/gen",
		"cmd",
	} {
		for dir := range strings.FieldsSeq(dirs) {
			plan = append(plan, room{dir, floor})
		}
	}
	return plan
}

func roomOf(dir string) (room, bool) {
	for _, r := range rooms() {
		if within(dir, r.dir) {
			return r, true
		}
	}
	return room{}, false
}

func within(dir, root string) bool { return dir == root || strings.HasPrefix(dir, root+"/") }

// outside tells which folders have no floor: tests and what serves them, and the nested module.
func outside(dir string) bool {
	return dir == "." || within(dir, "test") || within(dir, "docs") || within(dir, "internal/testkit") || within(dir, "cluster")
}

func checkLayers(h *house, complain complaint) {
	for _, f := range h.files {
		from, known := roomOf(f.dir)
		if !known {
			if !outside(f.dir) {
				complain(f.path, 1, "%s has no place in the house: add it to rooms() in house_test.go", f.dir)
			}
			continue
		}
		for _, i := range f.imports {
			dir, ours := strings.CutPrefix(i.path, modulePath+"/")
			switch {
			case !ours:
				if from.dir == "api" && !f.test && !apiMayImport(i.path) {
					complain(f.path, i.line, "api imports %s: the API types stand on k8s.io/apimachinery and the CRD types alone", i.path)
				}
				continue
			case f.test && !within(from.dir, "toolkit"), outside(dir):
				// A test may look anywhere; that test code stays in tests is a rule of its own.
				continue
			}
			to, known := roomOf(dir)
			switch {
			case !known:
				complain(f.path, i.line, "%s has no place in the house: add it to rooms() in house_test.go", dir)
			case f.test && within(to.dir, "toolkit"):
				// The toolkit's tests may combine its parts, but must not lean on the house above.
			case to != from && to.floor >= from.floor:
				complain(f.path, i.line, "%s imports %s: imports go down, never sideways", from.dir, to.dir)
			}
		}
	}
}

func apiMayImport(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".") || within(p, "k8s.io/apimachinery") || within(p, "k8s.io/apiextensions-apiserver")
}

// fence keeps imports that begin with path inside the folders that match; none matches where it is empty.
type fence struct {
	path   string
	dirs   []string
	reason string
}

func fences() []fence {
	clouds := []string{"toolkit/auth", "toolkit/sops", "internal/source/bucket", "internal/notify/provider", "internal/rollout/metric"}
	const cloud = "cloud SDKs stay beside what is named after the cloud"
	const plainTests = "tests use the standard library and go-cmp"
	const words = "command lines belong to the house; the toolkit is a library"
	house := []string{"internal", "cmd", "cluster", "test", "docs"}
	return []fence{
		{"helm.sh/helm", []string{
			"internal/chartfile", "internal/helm", "internal/source/helmrepo", "internal/source/helmchart", "internal/testkit/charts", "internal/testkit/releases",
		}, "Helm stays in its rooms"},
		{"github.com/aws/", clouds, cloud},
		{"github.com/Azure/", clouds, cloud},
		{"cloud.google.com/go", clouds, cloud},
		{"google.golang.org/api", clouds, cloud},
		{"github.com/minio/", clouds, cloud},
		{"k8s.io/kubernetes", []string{"cluster"}, "the newest published Kubernetes lags the client libraries"},
		{modulePath + "/cluster", []string{"cluster"}, "the nested module is a program, reached by starting it"},
		{"github.com/fluxcd/cli-utils/pkg/kstatus", []string{"toolkit/health", "toolkit/kube"}, "one place decides what ready means"},
		{"github.com/fluxcd/", []string{"toolkit/health", "toolkit/kube"}, "only kstatus is used of it"},
		{"github.com/onsi/", nil, plainTests},
		{"github.com/stretchr/testify", nil, plainTests},
		{"github.com/spf13/cobra", house, words},
		{"github.com/spf13/pflag", house, words},
		{"unsafe", []string{"cluster/internal/release"}, "nothing here is worth it"},
	}
}

func checkFences(h *house, complain complaint) {
	for _, f := range h.files {
		for _, i := range f.imports {
			inside := func(dir string) bool { return within(f.dir, dir) }
			for _, fence := range fences() {
				if strings.HasPrefix(i.path, fence.path) && !slices.ContainsFunc(fence.dirs, inside) {
					complain(f.path, i.line, "imports %s: %s", i.path, fence.reason)
				}
			}
			if within(f.dir, "cluster") && within(i.path, modulePath) && !within(i.path, modulePath+"/cluster") {
				complain(f.path, i.line, "imports %s: the nested module does not know the root", i.path)
			}
		}
	}
}

// checkTestCode keeps the test kit and the shared suites (artifacttest and its like) out of the binary.
func checkTestCode(h *house, complain complaint) {
	forTests := func(dir string) bool {
		return within(dir, "internal/testkit") || within(dir, "test") || strings.HasSuffix(dir, "test")
	}
	for _, f := range h.files {
		for _, i := range f.imports {
			dir, ours := strings.CutPrefix(i.path, modulePath+"/")
			if (ours && forTests(dir) || i.path == "testing") && !f.test && !forTests(f.dir) {
				complain(f.path, i.line, "imports %s: only tests may", i.path)
			}
		}
	}
}

func checkPackageDocs(h *house, complain complaint) {
	documented, first := map[string]bool{}, map[string]*file{}
	for _, f := range h.files {
		// Files of tests tell about the tests; they count where there is nothing else.
		if first[f.dir] == nil || first[f.dir].test && !f.test {
			first[f.dir] = f
		}
		doc := f.syntax.Doc.Text()
		if strings.HasPrefix(doc, "Package "+f.syntax.Name.Name+" ") || strings.HasPrefix(doc, "Command ") && f.syntax.Name.Name == "main" {
			documented[f.dir] = true
		}
	}
	for dir, f := range first {
		if !documented[dir] {
			complain(f.path, 1, "package %s says nowhere what its job is: start a comment above the package clause with %q or, in main, \"Command\"", dir, "Package "+f.syntax.Name.Name)
		}
	}
}

func checkInit(h *house, complain complaint) {
	for _, f := range h.files {
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				complain(f.path, h.line(fn), "has an init function: hand things over explicitly")
			}
		}
	}
}

// checkVariables finds assignments to package variables, those of other files of the package included. Address-taking
// and the fields of foreign packages are beyond it.
func checkVariables(h *house, complain complaint) {
	variables := map[string]map[string]bool{}
	for _, f := range h.files {
		for _, decl := range f.syntax.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR {
				for _, spec := range gen.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						if variables[f.dir] == nil {
							variables[f.dir] = map[string]bool{}
						}
						variables[f.dir][name.Name] = true
					}
				}
			}
		}
	}
	for _, f := range h.files {
		if f.test {
			continue
		}
		assigned := func(target ast.Expr) {
			name := rootName(target)
			// The parser resolves names within a file: a local one is found, and not declared at its top.
			if name == nil || name.Name == "_" || !variables[f.dir][name.Name] || name.Obj != nil && f.syntax.Scope.Objects[name.Name] != name.Obj {
				return
			}
			complain(f.path, h.line(target), "changes the package variable %s: keep it in a struct", name.Name)
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, target := range n.Lhs {
						assigned(target)
					}
				}
			case *ast.IncDecStmt:
				assigned(n.X)
			}
			return true
		})
	}
}

// rootName is x of x, x.f, x[i] and *x.
func rootName(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// checkSleeps lets tests poll for what no event announces, a fake clock's waiters for example: a sleep inside of a loop
// waits as long as it takes, one outside of it waits as long as somebody once guessed.
func checkSleeps(h *house, complain complaint) {
	for _, f := range h.files {
		// Time in a synctest bubble is fake, and sleeping is how it advances.
		if slices.ContainsFunc(f.imports, func(i imported) bool { return i.path == "testing/synctest" }) {
			continue
		}
		var loops []ast.Node
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if _, ok := n.(*ast.ForStmt); ok {
				loops = append(loops, n)
			}
			return true
		})
		h.eachUse(f, "time", "Sleep", func(use ast.Node) {
			polls := slices.ContainsFunc(loops, func(loop ast.Node) bool { return loop.Pos() < use.Pos() && use.End() <= loop.End() })
			if !f.test || !polls {
				complain(f.path, h.line(use), "sleeps: wait for the event itself; a test may poll in a loop")
			}
		})
	}
}

func checkExits(h *house, complain complaint) {
	for _, f := range h.files {
		if f.syntax.Name.Name == "main" && path.Base(f.path) == "main.go" {
			continue
		}
		for _, way := range [][2]string{{"os", "Exit"}, {"log", "Fatal"}, {"log", "Fatalf"}, {"log", "Fatalln"}} {
			h.eachUse(f, way[0], way[1], func(use ast.Node) {
				if !f.test || way[0] != "os" {
					complain(f.path, h.line(use), "ends the process: return an error, and let main decide")
				}
			})
		}
	}
}

// eachUse calls found with each pkg.name.
func (h *house) eachUse(f *file, pkg, name string, found func(use ast.Node)) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == pkg && x.Obj == nil {
				found(s)
			}
		}
		return true
	})
}

// checkKinds finds string literals that are the name of a kind where code must serve any kind. Examples, messages and
// comments may name kinds.
func checkKinds(h *house, complain complaint) {
	kinds := strings.Fields("GitRepository OCIRepository Bucket HelmRepository HelmChart ExternalArtifact ArtifactGenerator Kustomization HelmRelease " +
		"ImageRepository ImagePolicy ImageUpdateAutomation Alert Provider Receiver Canary MetricTemplate AlertProvider")
	generic := []string{"toolkit", "internal/component", "internal/kind", "internal/ops", "internal/web", "internal/manifests"}
	for _, f := range h.files {
		inside := func(dir string) bool { return within(f.dir, dir) }
		if f.test || strings.HasSuffix(f.dir, "test") || !slices.ContainsFunc(generic, inside) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if value, err := strconv.Unquote(lit.Value); err == nil && slices.Contains(kinds, value) {
				complain(f.path, h.line(lit), "knows the kind %s: what is special about a kind is a field of its descriptor or its Controller", value)
			}
			return true
		})
	}
}

func checkMarks(h *house, complain complaint) {
	// In two parts, so that this file is held to the rule as well.
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)
	h.eachMatch(marks, func(file string, line int, match string) {
		complain(file, line, "leaves %s behind: do it, or write an issue", match)
	})
}

func checkMachinePaths(h *house, complain complaint) {
	root, err := filepath.Abs(".")
	if err != nil {
		complain(".", 0, "%v", err)
		return
	}
	paths := regexp.MustCompile(`(^|[\s"'` + "`" + `=:(])/(root|home|Users)/\w|` + regexp.QuoteMeta(root+string(filepath.Separator)))
	h.eachMatch(paths, func(file string, line int, match string) {
		complain(file, line, "names a path of one machine, %s", strings.TrimSpace(match))
	})
}

func (h *house) eachMatch(pattern *regexp.Regexp, found func(file string, line int, match string)) {
	for _, t := range h.texts {
		for _, at := range pattern.FindAllStringIndex(t.content, -1) {
			found(t.path, 1+strings.Count(t.content[:at[0]], "\n"), t.content[at[0]:at[1]])
		}
	}
}
