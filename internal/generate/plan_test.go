package generate

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/toolkit/archive"
)

func repository() files {
	return files{
		"README.md": "readme", "deploy/a.yaml": "a", "deploy/sub/b.yaml": "b", "deploy/sub/deep/c.yaml": "c",
		"apps/one/x.yaml": "1x", "apps/one/y.md": "1y", "apps/two/x.yaml": "2x", "brace{d}.txt": "braces", "empty/": "",
	}
}

// What copy operations make of a source.
func TestCopy(t *testing.T) {
	tests := map[string]struct {
		ops  []v1beta1.CopyOperation
		want files
	}{
		"artifactgenerator 30: in order, later ones overwrite": {
			[]v1beta1.CopyOperation{op("@repo/deploy/a.yaml", "@artifact/x.yaml"), op("@repo/README.md", "@artifact/x.yaml")}, files{"x.yaml": "readme"}},
		"artifactgenerator 32: braces are no glob": {
			[]v1beta1.CopyOperation{op("@repo/brace{d}.txt", "@artifact/")}, files{"brace{d}.txt": "braces"}},
		"artifactgenerator 32: brackets are": {
			[]v1beta1.CopyOperation{op("@repo/apps/[ot]*/x.yaml", "@artifact/")}, files{"apps/one/x.yaml": "1x", "apps/two/x.yaml": "2x"}},
		"artifactgenerator 33: two stars are one": {
			[]v1beta1.CopyOperation{op("@repo/**/a.yaml", "@artifact/")}, files{"deploy/a.yaml": "a"}},
		"artifactgenerator 33: a matched directory comes with all": {
			[]v1beta1.CopyOperation{op("@repo/deplo?", "@artifact/")},
			files{"deploy/a.yaml": "a", "deploy/sub/b.yaml": "b", "deploy/sub/deep/c.yaml": "c"}},
		"artifactgenerator 34: the prefix of ** goes": {
			[]v1beta1.CopyOperation{op("@repo/deploy/**", "@artifact/")}, files{"a.yaml": "a", "sub/b.yaml": "b", "sub/deep/c.yaml": "c"}},
		"artifactgenerator 34: also one with globs": {
			[]v1beta1.CopyOperation{op("@repo/apps/*/**", "@artifact/out", "apps/two/**")}, files{"out/x.yaml": "1x", "out/y.md": "1y"}},
		"artifactgenerator 34: any other glob keeps the path": {
			[]v1beta1.CopyOperation{op("@repo/deploy/*", "@artifact/out")},
			files{"out/deploy/a.yaml": "a", "out/deploy/sub/b.yaml": "b", "out/deploy/sub/deep/c.yaml": "c"}},
		"artifactgenerator 36: a file to a name": {
			[]v1beta1.CopyOperation{op("@repo/deploy/a.yaml", "@artifact/k/new.yaml")}, files{"k/new.yaml": "a"}},
		"artifactgenerator 36: a file into a directory, by the slash": {
			[]v1beta1.CopyOperation{op("@repo/deploy/a.yaml", "@artifact/k/")}, files{"k/a.yaml": "a"}},
		"artifactgenerator 36: a file into a directory that is there": {
			[]v1beta1.CopyOperation{op("@repo/apps", "@artifact/"), op("@repo/deploy/a.yaml", "@artifact/apps/one")},
			files{"apps/one/a.yaml": "a", "apps/one/x.yaml": "1x", "apps/one/y.md": "1y", "apps/two/x.yaml": "2x"}},
		"artifactgenerator 36: a file into the root": {
			[]v1beta1.CopyOperation{op("@repo/deploy/a.yaml", "@artifact/")}, files{"a.yaml": "a"}},
		"artifactgenerator 37: a directory keeps its name": {
			[]v1beta1.CopyOperation{op("@repo/apps/one", "@artifact/out")}, files{"out/one/x.yaml": "1x", "out/one/y.md": "1y"}},
		"artifactgenerator 37: with slashes, too, and merges": {
			[]v1beta1.CopyOperation{op("@repo/deploy/a.yaml", "@artifact/out/one/x.yaml"), op("@repo/README.md", "@artifact/out/one/z"), op("@repo/apps/one/", "@artifact/out/")},
			files{"out/one/x.yaml": "1x", "out/one/y.md": "1y", "out/one/z": "readme"}},
		"artifactgenerator 38: the whole tree": {
			[]v1beta1.CopyOperation{op("@repo/.", "@artifact/all")}, func() files {
				out := files{}
				for p, text := range repository() {
					out["all/"+p] = text
				}
				return out
			}()},
		"artifactgenerator 39: a path from the root": {
			[]v1beta1.CopyOperation{op("@repo/deploy", "@artifact/", "deploy/sub/b.yaml")}, files{"deploy/a.yaml": "a", "deploy/sub/deep/c.yaml": "c"}},
		"artifactgenerator 39: relative to the directory": {
			[]v1beta1.CopyOperation{op("@repo/deploy", "@artifact/", "sub/*.yaml")}, files{"deploy/a.yaml": "a", "deploy/sub/deep/c.yaml": "c"}},
		"artifactgenerator 39: relative to what comes before the glob": {
			[]v1beta1.CopyOperation{op("@repo/deploy/**", "@artifact/", "sub/**")}, files{"a.yaml": "a"}},
		"artifactgenerator 39: without a slash by the name": {
			[]v1beta1.CopyOperation{op("@repo/deploy", "@artifact/", "c.yaml")},
			files{"deploy/a.yaml": "a", "deploy/sub/b.yaml": "b", "deploy/sub/deep/": ""}},
		"artifactgenerator 39: doublestar": {
			[]v1beta1.CopyOperation{op("@repo/.", "@artifact/", "**/{b,c}.yaml", "apps", "*.md", "brace*", "empty")},
			files{"deploy/a.yaml": "a", "deploy/sub/deep/": ""}},
		"artifactgenerator 40: an excluded file is nothing": {
			[]v1beta1.CopyOperation{op("@repo/README.md", "@artifact/", "*.md"), op("@repo/deploy/a.yaml", "@artifact/")}, files{"a.yaml": "a"}},
		"artifactgenerator 40: an excluded directory with all": {
			[]v1beta1.CopyOperation{op("@repo/deploy", "@artifact/", "sub")}, files{"deploy/a.yaml": "a"}},
		"artifactgenerator 43: overwrite, when nothing is said": {
			[]v1beta1.CopyOperation{op("@repo/apps/one/x.yaml", "@artifact/"), with(v1beta1.OverwriteStrategy, op("@repo/apps/two/x.yaml", "@artifact/"))}, files{"x.yaml": "2x"}},
		"paths are cleaned": {
			[]v1beta1.CopyOperation{op("@repo//deploy/./sub/../a.yaml", "@artifact//x/./y/")}, files{"x/y/a.yaml": "a"}},
	}
	source := onDisk(t, repository())
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := staged(t, source, test.ops...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, contentOf(t, s.root)); diff != "" {
				t.Errorf("artifact (-want +got):\n%s", diff)
			}
		})
	}
}

// What cannot be copied says why.
func TestCopyRefuses(t *testing.T) {
	source := onDisk(t, repository())
	many := strings.Repeat("{a,b}", 11)
	for name, test := range map[string]struct {
		ops  []v1beta1.CopyOperation
		want string
	}{
		"artifactgenerator 31: unknown alias":       {[]v1beta1.CopyOperation{op("@nope/**", "@artifact/")}, "source alias 'nope' not found"},
		"artifactgenerator 31: no alias":            {[]v1beta1.CopyOperation{op("deploy/**", "@artifact/")}, "is not of the form @alias/path"},
		"artifactgenerator 31: another target":      {[]v1beta1.CopyOperation{op("@repo/**", "@repo/")}, "does not begin with @artifact/"},
		"artifactgenerator 35: no match":            {[]v1beta1.CopyOperation{op("@repo/absent/**", "@artifact/")}, "no files match pattern 'absent/**' in source 'repo'"},
		"artifactgenerator 35: no match within":     {[]v1beta1.CopyOperation{op("@repo/deploy/*.json", "@artifact/")}, "no files match pattern 'deploy/*.json' in source 'repo'"},
		"artifactgenerator 35: all excluded":        {[]v1beta1.CopyOperation{op("@repo/deploy/*.yaml", "@artifact/", "*.yaml")}, "are excluded"},
		"artifactgenerator 38: a missing path":      {[]v1beta1.CopyOperation{op("@repo/deploy/absent.yaml", "@artifact/")}, "path 'deploy/absent.yaml' not found in source 'repo'"},
		"artifactgenerator 38: below a file":        {[]v1beta1.CopyOperation{op("@repo/README.md/x", "@artifact/")}, "not found"},
		"artifactgenerator 39: a bad pattern":       {[]v1beta1.CopyOperation{op("@repo/README.md", "@artifact/", "[")}, "exclude pattern '[' is not a valid glob"},
		"artifactgenerator 41: out of the source":   {[]v1beta1.CopyOperation{op("@repo/../x", "@artifact/")}, "leads out of its root"},
		"artifactgenerator 41: out of the artifact": {[]v1beta1.CopyOperation{op("@repo/README.md", "@artifact/a/../../x")}, "leads out of its root"},
		"a bad glob":                            {[]v1beta1.CopyOperation{op("@repo/deploy/[", "@artifact/")}, "is not a valid glob"},
		"a glob with too many alternatives":     {[]v1beta1.CopyOperation{op("@repo/README.md", "@artifact/", many)}, "alternatives"},
		"a pattern that is too long":            {[]v1beta1.CopyOperation{op("@repo/README.md", "@artifact/", strings.Repeat("x", 1025))}, "longer than the limit"},
		"a file where a directory is":           {[]v1beta1.CopyOperation{op("@repo/apps", "@artifact/"), op("@repo/.", "@artifact/apps/one/x.yaml")}, "is a file of the artifact"},
		"a directory where a file is":           {[]v1beta1.CopyOperation{op("@repo/deploy/a.yaml", "@artifact/apps"), op("@repo/apps", "@artifact/")}, "is a file of the artifact"},
		"a file of a directory on a directory":  {[]v1beta1.CopyOperation{op("@repo/apps/one", "@artifact/one/x.yaml/"), op("@repo/apps/one", "@artifact/")}, "is a directory of the artifact"},
		"artifactgenerator 46: a directory":     {[]v1beta1.CopyOperation{with(v1beta1.ExtractStrategy, op("@repo/deploy", "@artifact/"))}, "is not an archive"},
		"artifactgenerator 46: another file":    {[]v1beta1.CopyOperation{with(v1beta1.ExtractStrategy, op("@repo/README.md", "@artifact/"))}, "is not an archive"},
		"artifactgenerator 46: no match":        {[]v1beta1.CopyOperation{with(v1beta1.ExtractStrategy, op("@repo/**/*.tgz", "@artifact/"))}, "no files match pattern '**/*.tgz'"},
		"artifactgenerator 46: an absent start": {[]v1beta1.CopyOperation{with(v1beta1.ExtractStrategy, op("@repo/absent/*.tgz", "@artifact/"))}, "no files match"},
		"artifactgenerator 46: a bad glob":      {[]v1beta1.CopyOperation{with(v1beta1.ExtractStrategy, op("@repo/[", "@artifact/"))}, "is not a valid glob"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := staged(t, source, test.ops...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
		})
	}
}

// artifactgenerator 41: links do not lead anywhere: a directory with one is no source.
func TestLinksAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, goal := range map[string]string{"out": secret, "inside": "real"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "real"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(goal, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if _, err := readTree(t.Context(), diskFS(t, dir)); err == nil {
			t.Errorf("a link that leads %s was taken", name)
		}
	}
	// One that is swapped in later leads nowhere either.
	dir := t.TempDir()
	swapped := filepath.Join(dir, "a")
	if err := os.WriteFile(swapped, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := treeOf(t, dir)
	if err := errors.Join(os.Remove(swapped), os.Symlink(secret, swapped)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.at("a").file.open(); err == nil {
		t.Error("a link that was swapped in is followed")
	}
}

// artifactgenerator 46, 47: archives are unpacked into the artifact, under the rules of all archives.
func TestExtract(t *testing.T) {
	source := onDisk(t, files{
		"a.tgz":          tarball(t, files{"x.yaml": "ax", "d/y.yaml": "ay"}),
		"d/b.TAR.GZ":     tarball(t, files{"x.yaml": "bx"}, &tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"d/note.txt":     "note",
		"bad/up.tgz":     tarball(t, files{"../x": "x"}),
		"bad/noise.tgz":  "noise",
		"bad/device.tgz": tarball(t, nil, &tar.Header{Name: "null", Typeflag: tar.TypeChar}),
	})
	for name, test := range map[string]struct {
		from string
		want files
	}{
		"one":                         {"@repo/a.tgz", files{"out/x.yaml": "ax", "out/d/y.yaml": "ay"}},
		"any case, links are dropped": {"@repo/d/b.TAR.GZ", files{"out/x.yaml": "bx"}},
		"artifactgenerator 33: doublestar, others are skipped": {"@repo/{a.tgz,d/**}*", files{"out/x.yaml": "bx", "out/d/y.yaml": "ay"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := staged(t, source, with(v1beta1.ExtractStrategy, op(test.from, "@artifact/out")))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, contentOf(t, s.root)); diff != "" {
				t.Errorf("artifact (-want +got):\n%s", diff)
			}
		})
	}
	for name, from := range map[string]string{"up": "up.tgz", "noise": "noise.tgz", "device": "device.tgz"} {
		_, err := staged(t, source, with(v1beta1.ExtractStrategy, op("@repo/bad/"+from, "@artifact/")))
		if err == nil || name != "noise" && !errors.Is(err, archive.ErrUnsafe) {
			t.Errorf("%s: error = %v", name, err)
		}
	}
}

// All archives of a run together are held to the size of an artifact, and each is unpacked once.
func TestExtractBudget(t *testing.T) {
	source := onDisk(t, files{"a.tgz": tarball(t, files{"a": strings.Repeat("a", 40_000)}), "b.tgz": tarball(t, files{"b": strings.Repeat("b", 40_000)})})
	limits := DefaultLimits()
	limits.Bytes = 70_000
	w := newWorkshop(t, limits, nil)
	a := source.at("a.tgz").file
	first, err := w.extract(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.extract(t.Context(), a); err != nil || again != first {
		t.Errorf("unpacked again: %v", err)
	}
	if _, err := w.extract(t.Context(), source.at("b.tgz").file); !errors.Is(err, archive.ErrUnsafe) {
		t.Errorf("error = %v, want one about the size", err)
	}
	temp := w.unpacked.Name()
	w.close(t.Context())
	if _, err := os.Stat(temp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", temp, err)
	}
}

// An artifact beyond the limits is an error that says which.
func TestLimits(t *testing.T) {
	source := onDisk(t, files{"a/b/c.txt": "12345", "d.txt": "12345"})
	for name, test := range map[string]struct {
		change func(*Limits)
		want   string
	}{
		"files": {func(l *Limits) { l.Files = 3 }, "at most 3 files"},
		"bytes": {func(l *Limits) { l.Bytes = 9 }, "at most 9 bytes"},
		"path":  {func(l *Limits) { l.PathBytes = 8 }, "at most 8 bytes"},
		"depth": {func(l *Limits) { l.Depth = 2 }, "at most 2 elements"},
		"merge": {func(l *Limits) { l.MergeBytes = 4 }, "at most 4 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			limits := DefaultLimits()
			test.change(&limits)
			s := &stage{root: newDir(), limits: limits}
			w := newWorkshop(t, limits, map[string]*node{"repo": source})
			err := w.apply(t.Context(), s, op("@repo/.", "@artifact/"))
			if err == nil {
				err = w.apply(t.Context(), s, with(v1beta1.MergeStrategy, op("@repo/d.txt", "@artifact/")))
			}
			if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
		})
	}
	// What is overwritten does not count twice.
	limits := DefaultLimits()
	limits.Bytes, limits.Files = 10, 4
	s := &stage{root: newDir(), limits: limits}
	w := newWorkshop(t, limits, map[string]*node{"repo": source})
	for range 3 {
		if err := w.apply(t.Context(), s, op("@repo/.", "@artifact/")); err != nil {
			t.Fatal(err)
		}
	}
}

// artifactgenerator 48: the name is a checksum of names and contents; the two numbers are recorded.
func TestFilename(t *testing.T) {
	config := func(name string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\ndata:\n  key: one\n"
	}
	source := onDisk(t, files{
		"deploy/a.yaml": config("a"), "deploy/sub/b.yaml": config("b"), "base/values.yaml": "a: 1\nm: {x: 1}\n",
		"over/values.yaml": "m: {y: 2}\nlist: [1]\n", "README.md": "x",
	})
	for want, c := range map[string]v1beta1.CopyOperation{
		"745737570.tar.gz": op("@repo/deploy/**", "@artifact/"),
		"14884021.tar.gz":  op("@repo/**", "@artifact/", "*.md", "deploy/sub/**"),
	} {
		s, err := staged(t, source, c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.filename(t.Context(), "one")
		if err != nil || got != want {
			t.Errorf("%s: file %s (%v), want %s", c.From, got, err, want)
		}
		if other, err := s.filename(t.Context(), "two"); err != nil || other == got {
			t.Errorf("%s: file %s (%v) whatever the artifact", c.From, other, err)
		}
	}
}

// artifactgenerator 42, 49: the archive is that of every source: modes are normalised, files of version control, media
// and CI are left out, and ignore files of the content have no say.
func TestArchive(t *testing.T) {
	dir := dirOf(t, files{
		"a.yaml": "a", "run.sh": "#!/bin/sh\n", ".sourceignore": "a.yaml\n", ".git/config": "x", ".github/w.yaml": "x", "logo.png": "x", "sub/b.tar.gz": "x",
	})
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := staged(t, treeOf(t, dir), op("@repo/.", "@artifact/"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := s.write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if want := "d 750 ., - 600 .sourceignore, - 600 a.yaml, - 700 run.sh, d 750 sub"; entriesOf(t, b.String()) != want {
		t.Errorf("archive has %s\nwant %s", entriesOf(t, b.String()), want)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.write(ended, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error after the end = %v", err)
	}
}

// entriesOf lists an archive.
func entriesOf(t *testing.T, data string) string {
	t.Helper()
	tr := tar.NewReader(gunzip(t, data))
	var out []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, ", ")
		}
		if err != nil {
			t.Fatal(err)
		}
		kind := "-"
		if h.Typeflag == tar.TypeDir {
			kind = "d"
		}
		out = append(out, fmt.Sprintf("%s %o %s", kind, h.Mode, h.Name))
	}
}

// FuzzCopy: no operation makes an artifact with a path that leads out of it, and none hangs or panics.
func FuzzCopy(f *testing.F) {
	for _, seed := range [][3]string{
		{"@repo/deploy/**", "@artifact/", ""}, {"@repo/.", "@artifact/x", "*.md"}, {"@repo/../..", "@artifact/..", "**"},
		{"@repo/[a-", "@artifact/", "{a,b}"}, {"@repo/\\*", "@artifact/\x00", "[^"}, {"@/", "@artifact/", "{{"}, {"@repo/*/*", "@artifact//", "}"},
	} {
		f.Add(seed[0], seed[1], seed[2], uint8(0))
		f.Add(seed[0], seed[1], seed[2], uint8(2))
	}
	source := onDisk(f, repository())
	strategies := []v1beta1.CopyStrategy{v1beta1.OverwriteStrategy, v1beta1.MergeStrategy, v1beta1.ExtractStrategy}
	f.Fuzz(func(t *testing.T, from, to, exclude string, strategy uint8) {
		c := with(strategies[int(strategy)%len(strategies)], op(from, to, exclude))
		s, err := staged(t, source, op("@repo/apps", "@artifact/"), c)
		if err != nil {
			return
		}
		_ = s.root.walk(".", func(p string, _ *node) error {
			if !filepath.IsLocal(p) {
				t.Errorf("%q leads out of the artifact", p)
			}
			return nil
		})
	})
}
