package git_test

import (
	"fmt"
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/git"
)

// BenchmarkDraft makes a commit that changes ten of 1,000 files in ten of 50 directories.
func BenchmarkDraft(b *testing.B) {
	checkout := must(thousandFiles(b).Fetch(b.Context(), git.Reference{Branch: "main"}, b.TempDir()))
	defer checkout.Close()
	files := map[string][]byte{}
	for i := range 10 {
		files[fmt.Sprintf("apps/%02d/deployment-%d.yaml", i, i)] = []byte("image: web:1.1.0\n")
	}
	b.ReportAllocs()
	for b.Loop() {
		must(checkout.Draft(b.Context(), git.DraftOptions{Files: files, Author: bot, Message: "edit"}))
	}
}

// BenchmarkPush fetches a commit with 1,000 files, changes one and pushes; the server, four processes of git for each round, is part
// of the time.
func BenchmarkPush(b *testing.B) {
	client := thousandFiles(b)
	dir := b.TempDir()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		checkout := must(client.Fetch(b.Context(), git.Reference{Branch: "main"}, dir))
		d := must(checkout.Draft(b.Context(), git.DraftOptions{
			Files: map[string][]byte{"apps/00/deployment-0.yaml": fmt.Appendf(nil, "image: web:1.1.%d\n", i)}, Author: bot, Message: "edit",
		}))
		if err := checkout.Close(); err != nil {
			b.Fatal(err)
		}
		if err := client.Push(b.Context(), d, git.Update{Ref: "refs/heads/main", From: &d.Parent}, dir); err != nil {
			b.Fatal(err)
		}
	}
}
