package git_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/git"
)

// thousandFiles is a repository of 1,000 manifests in 50 directories.
func thousandFiles(b *testing.B) *git.Client {
	b.Helper()
	server := gitServer(b)
	repo := must(server.Repo("app"))
	files := map[string]*testkit.GitFile{}
	for i := range 1000 {
		files[fmt.Sprintf("apps/%02d/deployment-%d.yaml", i%50, i)] = &testkit.GitFile{
			Content: fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app-%d\ndata:\n%s", i, strings.Repeat("  key: value\n", 80)),
		}
	}
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "many", Files: files}))
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	b.Cleanup(client.Close)
	return client
}

// BenchmarkArchive writes the artifact of a commit with 1,000 files.
func BenchmarkArchive(b *testing.B) {
	checkout := must(thousandFiles(b).Fetch(b.Context(), git.Reference{Branch: "main"}, b.TempDir()))
	defer checkout.Close()
	b.ReportAllocs()
	for b.Loop() {
		ignore := must(archive.ReadIgnore(b.Context(), checkout.Tree(), ""))
		if err := archive.Write(b.Context(), io.Discard, checkout.Tree(), ignore); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFetch fetches a commit with 1,000 files; the server, a process of
// git for each request, is part of the time.
func BenchmarkFetch(b *testing.B) {
	client := thousandFiles(b)
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		checkout := must(client.Fetch(b.Context(), git.Reference{Branch: "main"}, dir))
		if err := checkout.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResolve asks for the revision of a branch.
func BenchmarkResolve(b *testing.B) {
	client := thousandFiles(b)
	b.ReportAllocs()
	for b.Loop() {
		must(client.Resolve(b.Context(), git.Reference{Branch: "main"}))
	}
}

// BenchmarkVerify checks the signature of a commit, by a PGP and by an SSH key.
func BenchmarkVerify(b *testing.B) {
	pgp, ssh := signers(b)
	for name, s := range map[string]*testkit.GitSigner{"pgp": pgp, "ssh": ssh} {
		commit := signedTag(b, s).Commit
		keys := must(git.KeysFromSecret(keysOf(pgp, ssh)))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(keys.VerifyCommit(commit))
			}
		})
	}
}
