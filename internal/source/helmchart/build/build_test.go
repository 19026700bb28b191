package build

import (
	"archive/tar"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
)

func TestLocal(t *testing.T) {
	packed := string(tgz(t, demo(nil)))
	tests := map[string]struct {
		files   map[string]string
		path    string
		request Request
		want    map[string]string // files that have to be there, with their content; "-": must not be there
		summary string
	}{
		"helmchart 21: a directory is packaged": {
			files: demo(nil), path: "./demo",
			want:    map[string]string{"demo/templates/deployment.yaml": "kind: Deployment\n", "demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\n"},
			summary: "packaged 'demo' chart with version '1.0.0'",
		},
		"helmchart 21: an archive is copied": {
			files: map[string]string{"charts/demo.tgz": packed}, path: "charts/demo.tgz",
			summary: "pulled 'demo' chart with version '1.0.0'",
		},
		"helmchart 21: an archive with metadata is packaged": {
			files: map[string]string{"charts/demo.tgz": packed}, path: "charts/demo.tgz", request: Request{Revision: "0123456789ab"},
			want:    map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0+0123456789ab\n"},
			summary: "packaged 'demo' chart with version '1.0.0+0123456789ab'",
		},
		"helmchart 22: .helmignore, byte order marks": {
			files: demo(map[string]string{"demo/.helmignore": "ignored.txt\nlarge/\n", "demo/ignored.txt": "x", "demo/large/a": "x",
				"demo/Chart.yaml": chartfile.BOM + "apiVersion: v2\nname: demo\nversion: 1.0.0\n", "demo/values.yaml": chartfile.BOM + "a: 1\n", "demo/templates/.hidden": "x"}), path: "demo",
			want:    map[string]string{"demo/ignored.txt": "-", "demo/large/a": "-", "demo/values.yaml": "a: 1\n", "demo/templates/.hidden": "-", "demo/.helmignore": "ignored.txt\nlarge/\n"},
			summary: "packaged 'demo' chart with version '1.0.0'",
		},
		"helmchart 23, 74: requirements.yaml of an old chart": {
			files: demo(map[string]string{"demo/Chart.yaml": "name: demo\nversion: 1.0.0\n",
				"demo/requirements.yaml": "dependencies:\n- name: sub\n  version: 0.1.0\n  repository: file://../sub\n",
				"sub/Chart.yaml":         "apiVersion: v1\nname: sub\nversion: 0.1.0\n"}), path: "demo",
			want: map[string]string{"demo/Chart.yaml": "apiVersion: v1\nname: demo\nversion: 1.0.0\n", "demo/charts/sub/Chart.yaml": "apiVersion: v1\nname: sub\nversion: 0.1.0\n",
				"demo/requirements.yaml": "dependencies:\n- name: sub\n  version: 0.1.0\n  repository: file://../sub\n"},
			summary: "packaged 'demo' chart with version '1.0.0'",
		},
		"helmchart 26, 29, 30, 32, 68: values files of the source": {
			files: demo(map[string]string{"values.yaml": "image: {tag: \"2\"}\nlist: [c]\n", "env/prod.yaml": "image: {tag: \"3\"}\nbig: 12345678901234567890\n"}), path: "demo",
			request: Request{Values: Values{Files: []string{"values.yaml", "./env/prod.yaml"}}, Generation: 4, Revision: "0123456789ab"},
			want:    map[string]string{"demo/values.yaml": "big: 12345678901234567890\nimage:\n  tag: \"3\"\nlist:\n- c\n"},
			summary: "packaged 'demo' chart with version '1.0.0+0123456789ab.4' and merged values files [values.yaml ./env/prod.yaml]",
		},
		"helmchart 66: values.yaml alone is no merge": {
			files: demo(nil), path: "demo", request: Request{Values: Values{Files: []string{"./values.yaml"}}, Generation: 2},
			want:    map[string]string{"demo/values.yaml": demo(nil)["demo/values.yaml"]},
			summary: "packaged 'demo' chart with version '1.0.0'",
		},
		"helmchart 31: a missing values file is skipped": {
			files: demo(map[string]string{"a.yaml": "a: 1\n"}), path: "demo", request: Request{Values: Values{Files: []string{"missing.yaml", "a.yaml"}, IgnoreMissing: true}, Generation: 2},
			want:    map[string]string{"demo/values.yaml": "a: 1\n"},
			summary: "packaged 'demo' chart with version '1.0.0+2' and merged values files [a.yaml]",
		},
		"helmchart 31, 65: all values files missing": {
			files: demo(nil), path: "demo", request: Request{Values: Values{Files: []string{"missing.yaml"}, IgnoreMissing: true}, Generation: 2},
			want:    map[string]string{"demo/values.yaml": demo(nil)["demo/values.yaml"]},
			summary: "packaged 'demo' chart with version '1.0.0+2'",
		},
		"helmchart 27: build metadata is replaced": {
			files: demo(map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0-rc.1+old\n"}), path: "demo", request: Request{Revision: "abc"},
			summary: "packaged 'demo' chart with version '1.0.0-rc.1+abc'",
		},
		"the source itself is the chart": {
			files: map[string]string{"Chart.yaml": "apiVersion: v2\nname: root\nversion: 1.0.0\n"}, path: ".",
			summary: "packaged 'root' chart with version '1.0.0'",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := source(t, tt.files)
			result, err := local(t, dir, tt.path, tt.request, chartfile.DefaultLimits(), &shelf{})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "summary", tt.summary, result.Summary())
			files := unpack(t, result)
			for name, content := range tt.want {
				got, there := files[name]
				if there != (content != "-") {
					t.Errorf("%s is there: %t", name, there)
				} else if there {
					expect(t, name, content, got)
				}
			}
			again, err := local(t, dir, tt.path, tt.request, chartfile.DefaultLimits(), &shelf{})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "digest of a second build", digest(t, result.Path), digest(t, again.Path))
		})
	}
}

func TestLocalFails(t *testing.T) {
	small := func(change func(*chartfile.Limits)) chartfile.Limits {
		l := chartfile.DefaultLimits()
		change(&l)
		return l
	}
	tests := map[string]struct {
		files    map[string]string
		links    map[string]string
		path     string
		request  Request
		limits   chartfile.Limits
		reason   string
		stalls   bool
		contains string
		is       error
	}{
		"helmchart 20: no such path":     {files: demo(nil), path: "./charts/demo", reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "stat charts/demo: no such file or directory"},
		"helmchart 20: no Chart.yaml":    {files: demo(map[string]string{"demo/Chart.yaml": "-"}), path: "demo", reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "demo/Chart.yaml"},
		"helmchart 20: an absolute path": {files: demo(nil), path: "/demo", reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "leaves the source"},
		"helmchart 18, 20: an escape":    {files: demo(nil), path: "demo/../../x", reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "leaves the source"},
		"helmchart 27: a version that is none": {files: demo(map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: one\n"}), path: "demo",
			request: Request{Revision: "abc"}, reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "version"},
		"helmchart 31: a values file is missing": {files: demo(nil), path: "demo", request: Request{Values: Values{Files: []string{"prod.yaml"}}}, reason: sourcev1.ValuesFilesErrorReason,
			stalls: true, contains: "no values file found at path 'prod.yaml'"},
		"helmchart 32: no values.yaml": {files: demo(map[string]string{"demo/values.yaml": "-", "a.yaml": "a: 1"}), path: "demo", request: Request{Values: Values{Files: []string{"a.yaml"}}},
			reason: sourcev1.ValuesFilesErrorReason, stalls: true, contains: "no values.yaml"},
		"helmchart 67: a values file is no map": {files: demo(map[string]string{"a.yaml": "- 1\n"}), path: "demo", request: Request{Values: Values{Files: []string{"a.yaml"}}},
			reason: sourcev1.ValuesFilesErrorReason, stalls: true, contains: "not a YAML map"},
		"helmchart 30: a values file outside": {files: demo(nil), path: "demo", request: Request{Values: Values{Files: []string{"../a.yaml"}, IgnoreMissing: true}},
			reason: sourcev1.ValuesFilesErrorReason, stalls: true, contains: "leaves the source"},
		"helmchart 22: a link to outside": {files: demo(nil), links: map[string]string{"demo/templates/passwd": "/etc/passwd"}, path: "demo",
			reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "demo/templates/passwd"},
		"helmchart 22: a relative link to outside": {files: demo(nil), links: map[string]string{"demo/values.yaml": "../../../../etc/passwd"}, path: "demo",
			reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "values.yaml"},
		"helmchart 22: a link in a circle": {files: demo(nil), links: map[string]string{"demo/again": "../demo"}, path: "demo",
			reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "demo/again"},
		"helmchart 17, 72: a large archive": {files: map[string]string{"demo.tgz": string(tgz(t, demo(nil)))}, path: "demo.tgz", limits: small(func(l *chartfile.Limits) { l.ArchiveBytes = 100 }),
			reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "--helm-chart-max-size", is: chartfile.ErrTooLarge},
		"helmchart 17, 73: a large Chart.yaml": {files: demo(nil), path: "demo", limits: small(func(l *chartfile.Limits) { l.FileBytes = 10 }),
			reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "--helm-chart-file-max-size", is: chartfile.ErrTooLarge},
		"many files": {files: demo(nil), path: "demo", limits: small(func(l *chartfile.Limits) { l.Entries = 3 }), reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "3 files", is: chartfile.ErrTooLarge},
		"a deep path": {files: demo(map[string]string{"demo/a/b/c/d": "x"}), path: "demo", limits: small(func(l *chartfile.Limits) { l.Depth = 3 }), reason: sourcev1.InvalidChartReferenceReason, stalls: true,
			contains: "3 levels", is: chartfile.ErrTooLarge},
		"much in all": {files: demo(nil), path: "demo", limits: small(func(l *chartfile.Limits) { l.Bytes = 80 }), reason: sourcev1.InvalidChartReferenceReason, stalls: true, contains: "80 bytes", is: chartfile.ErrTooLarge},
		"helmchart 38: an alias": {files: demo(map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: '@stable'}]\n"}), path: "demo",
			reason: sourcev1.DependencyBuildErrorReason, contains: "alias"},
		"helmchart 38: another scheme": {files: demo(map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: 's3://a'}]\n"}), path: "demo",
			reason: sourcev1.DependencyBuildErrorReason, contains: "scheme 's3'"},
		"helmchart 36: a dependency outside": {files: demo(map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: 'file://../../sub'}]\n"}), path: "demo",
			reason: sourcev1.DependencyBuildErrorReason, contains: "leaves the source"},
		"helmchart 36: an absolute dependency": {files: demo(map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: 'file:///etc'}]\n"}), path: "demo",
			reason: sourcev1.DependencyBuildErrorReason, contains: "absolute path"},
		"helmchart 36: a dependency of another version": {files: demo(map[string]string{
			"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: '>=2.0.0', repository: 'file://../sub'}]\n",
			"sub/Chart.yaml":  "apiVersion: v2\nname: sub\nversion: 1.0.0\n"}), path: "demo",
			reason: sourcev1.DependencyBuildErrorReason, contains: "can't get a valid version for constraint '>=2.0.0'"},
		"helmchart 39: a dependency that is not there": {files: demo(map[string]string{
			"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: 'https://charts.test'}]\n"}), path: "demo",
			reason: sourcev1.DependencyBuildErrorReason, contains: "no 'sub' chart", is: ErrNotFound},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := source(t, tt.files)
			for link, target := range tt.links {
				link = filepath.Join(dir, link)
				if err := errors.Join(os.RemoveAll(link), os.Symlink(target, link)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.limits == (chartfile.Limits{}) {
				tt.limits = chartfile.DefaultLimits()
			}
			_, err := local(t, dir, tt.path, tt.request, tt.limits, &shelf{})
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("want an Error, got %v", err)
			}
			expect(t, "reason", tt.reason, e.Reason)
			expect(t, "stalls", tt.stalls, e.Stalls())
			if !strings.Contains(err.Error(), tt.contains) || strings.Contains(err.Error(), dir) {
				t.Errorf("want %q and no %s in: %v", tt.contains, dir, err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v lacks the property %v", err, tt.is)
			}
		})
	}
}

// helmchart 22: links that stay in the source are followed, wherever in it they lead.
func TestLinksInside(t *testing.T) {
	dir := source(t, demo(map[string]string{"shared/helpers.tpl": "shared\n", "shared/more/a.tpl": "more\n"}))
	for link, target := range map[string]string{"demo/templates/_helpers.tpl": "../../shared/helpers.tpl", "demo/templates/more": "../../shared/more", "linked": "demo"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"demo", "linked"} {
		result, err := local(t, dir, path, Request{}, chartfile.DefaultLimits(), &shelf{})
		if err != nil {
			t.Fatal(err)
		}
		files := unpack(t, result)
		expect(t, path+": a file", "shared\n", files["demo/templates/_helpers.tpl"])
		expect(t, path+": a directory", "more\n", files["demo/templates/more/a.tpl"])
	}
}

func TestDependencies(t *testing.T) {
	sub := func(name, version string) string {
		return "apiVersion: v2\nname: " + name + "\nversion: " + version + "\n"
	}
	archive := func(name, version string) []byte {
		return tgz(t, map[string]string{name + "/Chart.yaml": sub(name, version)})
	}
	offers := map[string][]offered{
		"https://charts.test a": {{"2.0.0", archive("a", "2.0.0")}, {"1.0.0", archive("a", "1.0.0")}},
		"oci://charts.test/x b": {{"1.0.0", archive("b", "1.0.0")}},
	}
	const both = "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies:\n" +
		"- {name: a, version: '>=1.0.0', repository: 'https://charts.test'}\n- {name: b, version: 1.0.0, repository: 'oci://charts.test/x', condition: b.enabled}\n"
	tests := map[string]struct {
		files    map[string]string
		want     []string // charts in the archive
		resolved int
		log      []string
	}{
		"helmchart 35: none is vendored": {
			files: map[string]string{"demo/Chart.yaml": both}, want: []string{"a 2.0.0", "b 1.0.0"}, resolved: 2,
			log: []string{"open https://charts.test", "find a >=1.0.0", "download 2.0.0", "open oci://charts.test/x", "find b 1.0.0", "download 1.0.0"},
		},
		"helmchart 35: one is vendored": {
			files: map[string]string{"demo/Chart.yaml": both, "demo/charts/a-1.0.0.tgz": string(archive("a", "1.0.0"))}, want: []string{"a 1.0.0", "b 1.0.0"}, resolved: 1,
			log: []string{"open oci://charts.test/x", "find b 1.0.0", "download 1.0.0"},
		},
		"helmchart 35: as many are vendored as are asked for": {
			files: map[string]string{"demo/Chart.yaml": both, "demo/charts/a/Chart.yaml": sub("a", "0.1.0"), "demo/charts/c/Chart.yaml": sub("c", "0.1.0")}, want: []string{"a 0.1.0", "c 0.1.0"},
		},
		"helmchart 34: the lock decides": {
			files: map[string]string{"demo/Chart.yaml": both, "demo/Chart.lock": "dependencies:\n- {name: a, version: 1.0.0, repository: 'https://charts.test'}\n"}, want: []string{"a 1.0.0"}, resolved: 1,
			log: []string{"open https://charts.test", "find a 1.0.0", "download 1.0.0"},
		},
		"helmchart 36: local ones": {
			files: map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies:\n" +
				"- {name: c, version: ~1.2.0, repository: 'file://../libs/c'}\n- {name: d, version: '', repository: ''}\n- {name: e, version: 1.0.0, repository: '../e.tgz'}\n",
				"libs/c/Chart.yaml": sub("c", "1.2.3"), "demo/charts/d/Chart.yaml": sub("d", "0.1.0"), "e.tgz": string(archive("e", "1.0.0"))},
			want: []string{"c 1.2.3", "d 0.1.0", "e 1.0.0"}, resolved: 2,
		},
		"helmchart 62: the same chart under two aliases": {
			files: map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies:\n" +
				"- {name: b, alias: one, version: 1.0.0, repository: 'oci://charts.test/x'}\n- {name: b, alias: two, version: 1.0.0, repository: 'oci://charts.test/x'}\n"},
			want: []string{"b 1.0.0"}, resolved: 2,
			log: []string{"open oci://charts.test/x", "find b 1.0.0", "download 1.0.0", "open oci://charts.test/x", "find b 1.0.0", "download 1.0.0"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := &shelf{charts: offers}
			result, err := local(t, source(t, demo(tt.files)), "demo", Request{}, chartfile.DefaultLimits(), s)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, file := range slices.Sorted(maps.Keys(unpack(t, result))) {
				if chart, ok := strings.CutPrefix(file, "demo/charts/"); ok && strings.HasSuffix(chart, "/Chart.yaml") {
					m, err := metadata([]byte(unpack(t, result)[file]))
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, m.Name+" "+m.Version)
				}
			}
			expect(t, "charts in the archive", tt.want, got)
			expect(t, "resolved", tt.resolved, result.Resolved)
			expect(t, "asked for", tt.log, s.log)
		})
	}
}

// Vendored charts come out of a map: their order in the archive must not.
func TestVendoredOrder(t *testing.T) {
	more := map[string]string{}
	for _, name := range strings.Fields("a b c d e f g h") {
		more["demo/charts/"+name+"/Chart.yaml"] = "apiVersion: v2\nname: " + name + "\nversion: 1.0.0\n"
	}
	dir, digests := source(t, demo(more)), map[string]bool{}
	for range 8 {
		result, err := local(t, dir, "demo", Request{}, chartfile.DefaultLimits(), &shelf{})
		if err != nil {
			t.Fatal(err)
		}
		digests[digest(t, result.Path)] = true
	}
	expect(t, "different archives", 1, len(digests))
}

// helmchart 63: dependencies are resolved one after another, and the first that fails is the last.
func TestFirstDependencyFails(t *testing.T) {
	const chart = "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies:\n" +
		"- {name: a, version: 1.0.0, repository: 'https://charts.test'}\n- {name: b, version: 1.0.0, repository: 'https://charts.test'}\n"
	s := &shelf{}
	if _, err := local(t, source(t, demo(map[string]string{"demo/Chart.yaml": chart})), "demo", Request{}, chartfile.DefaultLimits(), s); !errors.Is(err, ErrNotFound) {
		t.Fatalf("want ErrNotFound, got %v", err)
	}
	expect(t, "asked for", []string{"open https://charts.test", "find a 1.0.0"}, s.log)
}

func TestRemote(t *testing.T) {
	data := tgz(t, demo(map[string]string{"demo/extra.yaml": "image: {tag: \"2\"}\n"}))
	values := func(names ...string) Request { return Request{Values: Values{Files: names}, Generation: 3} }
	t.Run("helmchart 16: unmodified", func(t *testing.T) {
		result, err := Remote(t.Context(), data, "1.0.0", Request{}, chartfile.DefaultLimits(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "summary", "pulled 'demo' chart with version '1.0.0'", result.Summary())
		got, err := os.ReadFile(result.Path)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "bytes", data, got)
	})
	t.Run("helmchart 26, 30, 68: values files of the chart", func(t *testing.T) {
		result, err := Remote(t.Context(), data, "1.0.0+3", values("values.yaml", "extra.yaml"), chartfile.DefaultLimits(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "summary", "packaged 'demo' chart with version '1.0.0+3' and merged values files [values.yaml extra.yaml]", result.Summary())
		files := unpack(t, result)
		expect(t, "values.yaml", "image:\n  name: web\n  tag: \"2\"\nlist:\n- a\n- b\nreplicas: 1\n", files["demo/values.yaml"])
		expect(t, "Chart.yaml", "apiVersion: v2\nname: demo\nversion: 1.0.0+3\n", files["demo/Chart.yaml"])
		expect(t, "extra.yaml", "image: {tag: \"2\"}\n", files["demo/extra.yaml"])
	})
	vendored := func(n int) []byte {
		inner := tgz(t, map[string]string{"sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n", "sub/zeros": strings.Repeat("0", 1<<20)})
		files := demo(nil)
		for i := range n {
			files["demo/charts/sub"+string(rune('a'+i))+".tgz"] = string(inner)
		}
		return tgz(t, files)
	}
	nested := func(n int) []byte {
		data := tgz(t, demo(nil))
		for range n {
			data = tgz(t, demo(map[string]string{"demo/charts/sub.tgz": string(data)}))
		}
		return data
	}
	limits := chartfile.DefaultLimits()
	limits.Bytes = 4 << 20
	one := func(h *tar.Header) []byte {
		const chart = "apiVersion: v2\nname: demo\nversion: 1.0.0\n"
		return raw(t, []*tar.Header{{Typeflag: tar.TypeReg, Name: "demo/Chart.yaml", Mode: 0o644, Size: int64(len(chart))}, h}, []string{chart, ""})
	}
	for name, tt := range map[string]struct {
		data     []byte
		request  Request
		reason   string
		contains string
		is       error
	}{
		"helmchart 72: too large":                {make([]byte, 10<<20+1), Request{}, sourcev1.ChartPullErrorReason, "--helm-chart-max-size", chartfile.ErrTooLarge},
		"not an archive":                         {[]byte("<html>"), Request{}, sourcev1.ChartPullErrorReason, "not a gzipped tar", nil},
		"cut off":                                {data[:len(data)-20], Request{}, sourcev1.ChartPullErrorReason, "unexpected EOF", nil},
		"no Chart.yaml":                          {tgz(t, map[string]string{"demo/a": "x"}), Request{}, sourcev1.ChartPullErrorReason, "Chart.yaml file is missing", nil},
		"Chart.yaml is not in a directory":       {tgz(t, map[string]string{"Chart.yaml": "x"}), Request{}, sourcev1.ChartPullErrorReason, "not in a directory", nil},
		"the name of a chart is a path":          {tgz(t, map[string]string{"d/Chart.yaml": "apiVersion: v2\nname: ../x\nversion: 1.0.0\n"}), Request{}, sourcev1.ChartPullErrorReason, "name", nil},
		"reliability 010: vendored bombs":        {vendored(8), Request{}, sourcev1.ChartPullErrorReason, "unpacks to more", chartfile.ErrTooLarge},
		"reliability 010: boxes in boxes":        {nested(10), Request{}, sourcev1.ChartPullErrorReason, "vendored in each other", chartfile.ErrTooLarge},
		"reliability 010: a path to outside":     {one(&tar.Header{Typeflag: tar.TypeReg, Name: "demo/../../x"}), Request{}, sourcev1.ChartPullErrorReason, "outside of the chart", nil},
		"reliability 010: an absolute path":      {one(&tar.Header{Typeflag: tar.TypeReg, Name: "/etc/passwd"}), Request{}, sourcev1.ChartPullErrorReason, "outside of the chart", nil},
		"reliability 010: a path with a drive":   {one(&tar.Header{Typeflag: tar.TypeReg, Name: `demo\c:\x`}), Request{}, sourcev1.ChartPullErrorReason, "outside of the chart", nil},
		"helmchart 31: a values file is missing": {data, values("missing.yaml"), sourcev1.ValuesFilesErrorReason, "no values file found at path 'missing.yaml'", nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Remote(t.Context(), tt.data, "1.0.0+3", tt.request, limits, t.TempDir())
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("want an Error, got %v", err)
			}
			expect(t, "reason", tt.reason, e.Reason)
			if !strings.Contains(err.Error(), tt.contains) {
				t.Errorf("want %q in: %v", tt.contains, err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v lacks the property %v", err, tt.is)
			}
		})
	}
	t.Run("a link in an archive leads nowhere", func(t *testing.T) {
		linked := one(&tar.Header{Typeflag: tar.TypeSymlink, Name: "demo/values.yaml", Linkname: "/etc/passwd"})
		if _, err := Remote(t.Context(), linked, "1.0.0", values("values.yaml", "values.yaml"), limits, t.TempDir()); err == nil {
			t.Error("values came from nowhere")
		}
	})
}

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{ // helmchart 10, 58
		"demo": true, "my-chart": true, "team/demo": true, "a/b/c": true, "demo.v2": true, "1": true,
		"Demo": false, "": false, "team//demo": false, "demo..v2": false, "demo_x": false, "../x": false, "/demo": false, strings.Repeat("a", 300): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
	const text = "invalid chart reference: invalid chart name 'Demo': a valid name must be lower case letters and numbers and MAY be separated with dashes (-), slashes (/) or periods (.)"
	expect(t, "text", text, CheckName("Demo").Error())
}

func TestVersion(t *testing.T) {
	files := Values{Files: []string{"a.yaml"}}
	for _, tt := range []struct { // helmchart 25-27
		version, revision string
		values            Values
		want              string
	}{
		{"1.2.3", "", Values{}, "1.2.3"},
		{"1.2.3", "0123456789ab", Values{}, "1.2.3+0123456789ab"},
		{"1.2.3", "0123456789ab", files, "1.2.3+0123456789ab.4"},
		{"1.2.3", "", files, "1.2.3+4"},
		{"1.2.3", "", Values{Files: []string{"values.yaml"}}, "1.2.3"},
		{"1.2.3+old", "", files, "1.2.3+4"},
		{"1.2.3+kept", "", Values{}, "1.2.3+kept"},
		{"1.2", "", files, "1.2.0+4"},
		{"one", "", files, ""},
	} {
		got, err := Version(tt.version, tt.revision, tt.values, 4)
		expect(t, tt.version, tt.want, got)
		if e := (*Error)(nil); tt.want == "" && (!errors.As(err, &e) || e.Reason != sourcev1.MetadataPatchErrorReason || !e.Stalls()) {
			t.Errorf("%s: want MetadataPatchError that stalls, got %v", tt.version, err)
		}
	}
	for revision, want := range map[string]string{ // helmchart 25
		"main@sha1:8e79c6bf918ab36d9af41d1c55d31c19bfe333e6":                      "8e79c6bf918a",
		"sha256:3e356e3ec36f0442f82d725fb7311316b9192a3a9eb2743f3ac55cd72656a612": "3e356e3ec36f",
		"refs/heads/a@b@sha1:8e79c6bf918ab36d9af41d1c55d31c19bfe333e6":            "8e79c6bf918a",
		"short": "short",
	} {
		expect(t, revision, want, RevisionMetadata(revision))
	}
}

// helmchart 45, 46: which failure a condition tells of, and which wait for another spec.
func TestErrors(t *testing.T) {
	got := map[string]string{}
	for _, reason := range []string{sourcev1.InvalidChartReferenceReason, sourcev1.ChartPullErrorReason, sourcev1.MetadataPatchErrorReason, sourcev1.ValuesFilesErrorReason,
		sourcev1.DependencyBuildErrorReason, sourcev1.ChartPackageErrorReason, sourcev1.ChartVerificationErrorReason} {
		e := &Error{Reason: reason, Err: errors.New("x")}
		got[e.Error()] = e.Condition()
		if e.Stalls() {
			got[e.Error()] += ", stalls"
		}
	}
	expect(t, "errors", map[string]string{
		"invalid chart reference: x": "FetchFailed, stalls", "chart pull error: x": "FetchFailed", "chart metadata patch error: x": "BuildFailed, stalls",
		"values files merge error: x": "BuildFailed, stalls", "dependency build error: x": "BuildFailed", "chart package error: x": "BuildFailed", "chart verification error: x": "BuildFailed",
	}, got)
}
