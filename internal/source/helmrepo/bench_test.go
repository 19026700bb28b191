package helmrepo

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// writeLarge writes a very large index and returns its size in bytes.
func writeLarge(tb testing.TB, file string) int64 {
	tb.Helper()
	f, err := os.Create(file)
	if err != nil {
		tb.Fatal(err)
	}
	if err := testkit.WriteLargeHelmIndex(f); err != nil {
		tb.Fatal(err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err = errors.Join(err, f.Close()); err != nil {
		tb.Fatal(err)
	}
	return size
}

// peak returns how far beyond its start the heap grew while f ran.
func peak(f func()) uint64 {
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	idle := inUse()
	done, most := make(chan struct{}), make(chan uint64)
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		var highest uint64
		for {
			highest = max(highest, inUse())
			select {
			case <-ticker.C:
			case <-done:
				most <- highest
				return
			}
		}
	}()
	f()
	close(done)
	if highest := <-most; highest > idle {
		return highest - idle
	}
	return 0
}

// An index of 50 MB with 200,000 versions costs at most 100 MiB above idle (catalogue 009). The second pass reads what the
// first one stored, as a lookup does.
func BenchmarkLargeIndex(b *testing.B) {
	dir := b.TempDir()
	upstream, stored := filepath.Join(dir, "index.yaml"), filepath.Join(dir, "index.json")
	size := writeLarge(b, upstream)
	in := func(file string, f func(io.Reader) error) {
		r, err := os.Open(file)
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		if err := f(r); err != nil {
			b.Fatal(err)
		}
	}
	limits := DefaultLimits()
	b.Run("store", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			most := peak(func() {
				in(upstream, func(r io.Reader) error {
					w, err := os.Create(stored)
					if err != nil {
						return err
					}
					defer w.Close()
					return WriteJSON(b.Context(), w, r, dir, limits)
				})
			})
			b.ReportMetric(float64(most)/(1<<20), "peak-MiB")
		}
	})
	limits.IndexBytes *= 4
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var index *Index
			most := peak(func() {
				in(stored, func(r io.Reader) (err error) {
					index, err = Parse(b.Context(), r, limits)
					return err
				})
			})
			b.ReportMetric(float64(most)/(1<<20), "peak-MiB")
			b.ReportMetric(float64(index.Size())/(1<<20), "kept-MiB")
			if v, err := index.Find("chart-0999", "1.200.x"); err != nil || v.Version != "1.200.0" {
				b.Fatalf("found %v, %v", v, err)
			}
		}
	})
}

// BenchmarkFind looks for a range among 200 versions.
func BenchmarkFind(b *testing.B) {
	dir := b.TempDir()
	file := filepath.Join(dir, "index.yaml")
	writeLarge(b, file)
	r, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	index, err := Parse(b.Context(), r, DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := index.Find("chart-0500", "^1.100.0"); err != nil {
			b.Fatal(err)
		}
	}
}
