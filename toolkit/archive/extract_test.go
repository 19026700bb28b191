package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tgz packs headers as they are; regular files have the content "x" unless
// their size says otherwise.
func tgz(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = 1
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.CopyN(tw, xs{}, h.Size); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type xs struct{}

func (xs) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func file(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }

func tree(t testing.TB, dir string) []string {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(dir, p)
		got = append(got, info.Mode().String()+" "+rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestExtract(t *testing.T) {
	content := tgz(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./"},
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "abc"}},
		tar.Header{Typeflag: tar.TypeReg, Name: "./a", Mode: 0o6444},
		tar.Header{Typeflag: tar.TypeReg, Name: "dir/run", Mode: 0o700},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/etc/passwd"},
		tar.Header{Typeflag: tar.TypeDir, Name: "empty/"},
		file("a..b/..c"),
	)
	dir := t.TempDir()
	if err := Extract(t.Context(), bytes.NewReader(content), dir, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	want := []string{"-rw-r--r-- a", "drwxr-x--- a..b", "-rw-r--r-- a..b/..c", "drwxr-x--- dir", "-rwx------ dir/run", "drwxr-x--- empty"}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	back := write(t, Dir(dir), Matcher{})
	again := t.TempDir()
	if err := Extract(t.Context(), bytes.NewReader(back), again, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back, write(t, Dir(again), Matcher{})) {
		t.Error("writing what was extracted gives another archive")
	}
}

// TestExtractAttacks: the attack archives; nothing appears beside the directory
// and no file outside changes.
func TestExtractAttacks(t *testing.T) {
	outside := t.TempDir()
	keep := filepath.Join(outside, "keep.txt")
	if err := os.WriteFile(keep, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	evil := tar.Header{Typeflag: tar.TypeReg, Name: "ok", PAXRecords: map[string]string{"path": "../evil"}, Format: tar.FormatPAX}
	tests := []struct {
		name    string
		content []byte
		safe    bool // accepted, but without effect outside
	}{
		{"path to the parent", tgz(t, file("../evil.yaml")), false},
		{"path to the parent and back", tgz(t, file("a/../../work/b")), false},
		{"path with dots inside", tgz(t, file("a/../b")), false},
		{"absolute path", tgz(t, file("/evil")), false},
		{"absolute path that exists", tgz(t, file(keep)), false},
		{"directory of the parent", tgz(t, tar.Header{Typeflag: tar.TypeDir, Name: "../evil/"}), false},
		{"path in an extended header", rename(t, evil), false},
		{"file through a link", tgz(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "d", Linkname: outside}, file("d/keep.txt")), true},
		{"hard link", tgz(t, tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "../" + filepath.Base(outside) + "/keep.txt"}, file("h")), false},
		{"hard link inside", tgz(t, file("a"), tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: "a"}), false},
		{"pipe", tgz(t, tar.Header{Typeflag: tar.TypeFifo, Name: "p"}), false},
		{"device", tgz(t, tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3}), false},
		{"size beyond the data", lie(t), false},
		{"file where a directory is", tgz(t, tar.Header{Typeflag: tar.TypeDir, Name: "a/"}, file("a")), false},
		{"directory where a file is", tgz(t, file("a"), file("a/b")), false},
		{"root as a file", tgz(t, file(".")), false},
		{"not gzip", []byte("hello"), false},
		{"cut", tgz(t, file("a"))[:40], false},
		{"wrong checksum", flip(tgz(t, file("a"))), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "work")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			err := Extract(t.Context(), bytes.NewReader(test.content), dir, DefaultLimits())
			if (err == nil) != test.safe {
				t.Errorf("extract: %v", err)
			}
			if entries, _ := os.ReadDir(parent); len(entries) != 1 {
				t.Errorf("beside the directory: %v", entries)
			}
			if got, _ := os.ReadFile(keep); string(got) != "kept" {
				t.Errorf("a file outside was written: %q", got)
			}
			_ = compare(t, test.content, DefaultLimits())
		})
	}
}

// TestExtractThroughExistingLink: a link that is there already leads nowhere.
func TestExtractThroughExistingLink(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	if err := Extract(t.Context(), bytes.NewReader(tgz(t, file("d/evil"))), dir, DefaultLimits()); err == nil {
		t.Error("no error")
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("written outside: %v", entries)
	}
}

// rename makes the PAX header carry the path, which tar.Writer would not.
func rename(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	record := func(k, v string) string {
		for n := len(k) + len(v) + 3; ; n++ {
			if s := fmt.Sprintf("%d %s=%s\n", n, k, v); len(s) == n {
				return s
			}
		}
	}
	body := record("path", h.PAXRecords["path"])
	tw := tar.NewWriter(&b)
	_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "PaxHeader", Size: int64(len(body)), Mode: 0o644, Format: tar.FormatUSTAR})
	_, _ = io.WriteString(tw, body)
	_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: h.Name, Size: 1, Mode: 0o644, Format: tar.FormatUSTAR})
	_, _ = io.WriteString(tw, "x")
	_ = tw.Close()
	raw := b.Bytes()
	raw[156] = tar.TypeXHeader
	checksum(raw[:512])
	return compress(t, raw)
}

// lie is a file whose header announces more than the archive holds.
func lie(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1, Mode: 0o644})
	_, _ = io.WriteString(tw, "x")
	_ = tw.Close()
	raw := b.Bytes()
	copy(raw[124:136], fmt.Sprintf("%011o\x00", 1<<20))
	checksum(raw[:512])
	return compress(t, raw)
}

func checksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func compress(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	_, err := zw.Write(raw)
	if err = errors.Join(err, zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func flip(content []byte) []byte {
	content[len(content)-6] ^= 1
	return content
}

func TestExtractLimits(t *testing.T) {
	deep := strings.Repeat("d/", 200) + "f"
	big := tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: 10 << 20}
	sparse := tar.Header{Typeflag: tar.TypeReg, Name: "s", Size: 1 << 20}
	tests := []struct {
		name    string
		content []byte
		limits  Limits
		want    string
	}{
		{"bytes", tgz(t, big), Limits{Bytes: 1 << 20}, "content exceeds the limit of 1048576 bytes"},
		{"bytes of headers", tgz(t, file("a"), file("b"), file("c")), Limits{Bytes: 1024}, "content exceeds the limit of 1024 bytes"},
		{"bytes of several files", tgz(t, sparse, sparse), Limits{Bytes: 1<<20 + 4096}, "content exceeds the limit"},
		{"file", tgz(t, big), Limits{FileBytes: 1 << 20}, "'big' has 10485760 bytes, the limit is 1048576"},
		{"entries", tgz(t, file("a"), file("b"), file("c")), Limits{Entries: 2}, "more than 2 entries"},
		{"path", tgz(t, file(strings.Repeat("x", 5000))), DefaultLimits(), "path of 5000 bytes exceeds the limit of 4096"},
		{"depth", tgz(t, file(deep)), DefaultLimits(), "path of 201 elements exceeds the limit of 128"},
		{"ratio", tgz(t, tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: 80 << 20}), Limits{Ratio: 200}, "content is more than 200 times larger than the archive"},
		{"none", tgz(t, big, file(deep)), Limits{}, ""},
		{"ratio below its floor", tgz(t, big), Limits{Ratio: 2}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := compare(t, test.content, test.limits)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestExtractEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	content := tgz(t, file("a"), tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: 10 << 20})
	r := io.MultiReader(bytes.NewReader(content[:100]), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, nil
	}), bytes.NewReader(content[100:]))
	if err := Extract(ctx, r, t.TempDir(), DefaultLimits()); !errors.Is(err, context.Canceled) {
		t.Errorf("extract: %v, want the context's error", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) {
	n, err := f(p)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func FuzzExtract(f *testing.F) {
	raw := func(gz []byte) []byte {
		zr, err := gzip.NewReader(bytes.NewReader(gz))
		if err != nil {
			f.Fatal(err)
		}
		content, err := io.ReadAll(zr)
		if err != nil {
			f.Fatal(err)
		}
		return content
	}
	f.Add(raw(tgz(f, file("a"), file("d/b"), tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."})))
	f.Add(raw(rename(f, tar.Header{Name: "ok", PAXRecords: map[string]string{"path": "../evil"}})))
	f.Add(raw(lie(f)))
	// No limit of entries, which Unpack counts in its own way.
	limits := Limits{Bytes: 1 << 20, FileBytes: 1 << 20, PathBytes: 200, Depth: 20}
	f.Fuzz(func(t *testing.T, content []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "work")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = Extract(t.Context(), bytes.NewReader(compress(t, content)), dir, limits)
		_ = compare(t, compress(t, content), limits)
		if entries, _ := os.ReadDir(parent); len(entries) != 1 {
			t.Errorf("beside the directory: %v", entries)
		}
		var size int64
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && !info.IsDir() {
				if !info.Mode().IsRegular() {
					t.Errorf("'%s' has mode %s", p, info.Mode())
				}
				size += info.Size()
			}
			return err
		})
		if size > limits.Bytes {
			t.Errorf("%d bytes were extracted", size)
		}
	})
}
