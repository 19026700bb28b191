package git_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/git"
)

// recorded is a GitRepository of a 2.9 cluster: the commits behind it and the
// artifact that source-controller made.
type recorded struct {
	Recording string
	Commits   []recordedCommit
	Ref       map[string]string
	Ignore    string
	Revision  string
	Digest    string
	Size      int
}

type recordedCommit struct {
	Branch, Message   string
	Files             map[string]json.RawMessage
	Tag, AnnotatedTag string
	Bundle            string
}

// TestRecordedArtifacts rebuilds the repositories of the recordings and expects
// the artifacts of 2.9, byte for byte (gitrepository 26, 28-30, 60-65; wire 8).
func TestRecordedArtifacts(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("testdata", "recorded.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []recorded
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	server := gitServer(t)
	for i, c := range cases {
		t.Run(fmt.Sprintf("%s-%d", c.Recording, i), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprint("app", i)
			c.commit(t, must(server.Repo(name)))
			client := must(git.New(git.Options{URL: server.URL + "/" + name + ".git"}))
			defer client.Close()

			checkout := must(client.Fetch(t.Context(), c.reference(), t.TempDir()))
			defer checkout.Close()
			var artifact bytes.Buffer
			ignore := must(archive.ReadIgnore(t.Context(), checkout.Tree(), c.Ignore))
			check(t, archive.Write(t.Context(), &artifact, checkout.Tree(), ignore))
			got := []any{checkout.Revision.String(), digest(artifact.Bytes()), artifact.Len()}
			if diff := cmp.Diff([]any{c.Revision, c.Digest, c.Size}, got); diff != "" {
				t.Errorf("artifact (-recorded +got):\n%s", diff)
			}

			if c.Ref["commit"] == "" {
				revision := must(client.Resolve(t.Context(), c.reference()))
				if revision.String() != c.Revision {
					t.Errorf("resolved %s, want %s (gitrepository 37)", revision, c.Revision)
				}
			}
		})
	}
}

func (c recorded) reference() git.Reference {
	return git.Reference{Branch: c.Ref["branch"], Tag: c.Ref["tag"], SemVer: c.Ref["semver"], Name: c.Ref["name"], Commit: c.Ref["commit"]}
}

func (c recorded) commit(t *testing.T, repo *testkit.GitRepo) {
	t.Helper()
	for _, commit := range c.Commits {
		if commit.Bundle != "" {
			check(t, repo.Bundle(must(base64.StdEncoding.DecodeString(commit.Bundle))))
			continue
		}
		files := map[string]*testkit.GitFile{}
		for name, raw := range commit.Files {
			files[name] = recordedFile(t, raw)
		}
		must(repo.Commit(testkit.GitCommit{
			Branch: commit.Branch, Message: commit.Message, Files: files,
			Tag: commit.Tag, AnnotatedTag: commit.AnnotatedTag,
		}))
	}
}

func recordedFile(t *testing.T, raw json.RawMessage) *testkit.GitFile {
	t.Helper()
	if string(raw) == "null" {
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return &testkit.GitFile{Content: text}
	}
	var special struct{ Content, Mode, Symlink string }
	check(t, json.Unmarshal(raw, &special))
	return &testkit.GitFile{Content: special.Content, Executable: special.Mode == "755", Symlink: special.Symlink}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func gitServer(t testing.TB) *testkit.GitServer {
	t.Helper()
	s := must(testkit.NewGitServer(t.TempDir(), nil))
	t.Cleanup(s.Close)
	return s
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
