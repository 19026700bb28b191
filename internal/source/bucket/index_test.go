package bucket

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// bucket 20: a digest over sorted lines, whatever the order of the listing.
func TestRevision(t *testing.T) {
	x := index{"b": {Key: "b", ETag: "2"}, "a b": {Key: "a b", ETag: "1"}, "a": {Key: "a", ETag: "3"}}
	// printf 'a 3\na b 1\nb 2\n' | sha256sum
	expect(t, "revision", "sha256:ea2c77554ba9278542724e6599bfa3e46b8cebc8d68a3b267d8778946f0ad87d", x.revision(artifact.SHA256))
}

// bucket 45: keys that want the same path.
func TestPathsTaken(t *testing.T) {
	for _, test := range []struct {
		keys []string
		ok   bool
	}{
		{[]string{"a", "b", "c/d", "c/e", "c.d"}, true},
		{[]string{"a//b", "c/./d", "./e"}, true},
		{[]string{"a", "a/b"}, false},
		{[]string{"a", "a/b/c"}, false},
		{[]string{"a-b", "a/b", "a"}, false},
		{[]string{"a/b", "a//b"}, false},
		{[]string{"a/b", "a//b/c"}, false},
		{[]string{"a//b/c", "a/b"}, false},
		{[]string{".sourceignore/x"}, false},
		{[]string{"./.sourceignore"}, false},
		{[]string{"dir/.sourceignore"}, true},
	} {
		x := index{}
		for _, k := range test.keys {
			x[k] = storage.Object{Key: k}
		}
		if err := x.check(storage.DefaultLimits()); (err == nil) != test.ok || err != nil && !errors.Is(err, errKey) {
			t.Errorf("check(%q) = %v", test.keys, err)
		}
	}
}

// FuzzFilePath: whatever becomes a file is below the directory, also for who decodes its name.
func FuzzFilePath(f *testing.F) {
	for _, seed := range []string{"a/b.yaml", "../x", "/abs", "a/../../b", "..%2fz", `x\..\y`, "a//b", "%252e%252e%252fx", "a\x00b", "é", "\xff", ".", "a/.", strings.Repeat("k", 300)} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, key string) {
		file, err := filePath(key)
		if err != nil {
			if !errors.Is(err, errKey) {
				t.Errorf("filePath(%q) = %v", key, err)
			}
			return
		}
		for _, name := range []string{file, decoded(file)} {
			if !filepath.IsLocal(name) || strings.ContainsAny(name, "\\\x00\n") || path.Clean(name) == "." {
				t.Errorf("filePath(%q) = %q", key, name)
			}
		}
		if text := printable(key); strings.ContainsAny(text, "\x00\n\r\x1b") {
			t.Errorf("printable(%q) = %q", key, text)
		}
		// Root refuses what leaves the directory; nothing of what is accepted here may get so far.
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if _, err := root.Stat(file); err != nil && !os.IsNotExist(err) && !strings.Contains(err.Error(), "not a directory") && !strings.Contains(err.Error(), "name too long") {
			t.Errorf("%q: %v", file, err)
		}
	})
}

func decoded(name string) string {
	if text, err := url.PathUnescape(name); err == nil {
		return text
	}
	return name
}

// bigIndex is an index of a large bucket.
func bigIndex(n int) index {
	x := make(index, n)
	for i := range n {
		k := fmt.Sprintf("cluster-%d/namespace-%d/object-%d.yaml", i%7, i%101, i)
		x[k] = storage.Object{Key: k, ETag: "d41d8cd98f00b204e9800998ecf8427e", Size: 1000}
	}
	return x
}

// BenchmarkIndex judges and names 10,000 keys.
func BenchmarkIndex(b *testing.B) {
	x := bigIndex(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if err := x.check(storage.DefaultLimits()); err != nil {
			b.Fatal(err)
		}
		x.revision(artifact.SHA256)
	}
}

// BenchmarkObserve looks at a bucket of 10,000 objects: ten pages over loopback, their parsing, ignore patterns, the
// revision. The fake server's share is in it.
func BenchmarkObserve(b *testing.B) {
	server := &buckettest.S3{}
	for k := range bigIndex(10_000) {
		server.Put(k, "x")
	}
	server.Put(".sourceignore", "*.txt\n/cluster-3\n!important.txt\n")
	u := newUpstream(b, server)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Observe(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(u.index)), "objects")
}
