package oci_test

import (
	"fmt"
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// BenchmarkResolve looks at a tag over a connection and a session that are open.
func BenchmarkResolve(b *testing.B) {
	s := newServer(b)
	repo := s.repo(b, "app")
	s.push(b, repo, "latest", "content")
	pool := oci.NewPool(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client(b, oci.Options{Pool: pool, Fresh: true}).Resolve(b.Context(), repo, oci.Reference{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRemembered asks what was just answered.
func BenchmarkRemembered(b *testing.B) {
	s := newServer(b)
	repo := s.repo(b, "app")
	s.push(b, repo, "latest", "content")
	pool := oci.NewPool(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client(b, oci.Options{Pool: pool}).Resolve(b.Context(), repo, oci.Reference{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSemVer chooses among 1,000 tags.
func BenchmarkSemVer(b *testing.B) {
	s := newServer(b)
	repo := s.repo(b, "app")
	s.push(b, repo, "1.0.0", "content")
	c := client(b, oci.Options{})
	for i := range 1000 {
		if err := c.Tag(b.Context(), repo.Tag("1.0.0"), fmt.Sprintf("1.%d.%d", i/10, i%10)); err != nil {
			b.Fatal(err)
		}
	}
	pool := oci.NewPool(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client(b, oci.Options{Pool: pool, Fresh: true}).Resolve(b.Context(), repo, oci.Reference{SemVer: "1.x"}); err != nil {
			b.Fatal(err)
		}
	}
}
