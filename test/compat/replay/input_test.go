package replay

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

const recordings = "../testdata/recordings"

// readKinds reads the recordings of the named folders.
func readKinds(t *testing.T, kinds ...string) []*Recording {
	t.Helper()
	var all []*Recording
	for _, kind := range kinds {
		rs, err := ReadDir(filepath.Join(recordings, kind))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rs...)
	}
	return all
}

// TestCommitHashesAreReproduced builds every repository of the recordings and wants to find every
// commit that a revision or an artifact path names.
func TestCommitHashesAreReproduced(t *testing.T) {
	named := regexp.MustCompile(`sha1:([0-9a-f]{40})`)
	for _, r := range readKinds(t, "gitrepository", "kustomization", "helmchart", "helmrelease") {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			vars := Vars{"NS": r.Namespace}
			repos := map[string]*testkit.GitRepo{}
			repo := func(name string) *testkit.GitRepo {
				if repos[name] == nil {
					g, err := testkit.NewGitRepo(filepath.Join(dir, name+".git"))
					if err != nil {
						t.Fatal(err)
					}
					repos[name] = g
				}
				return repos[name]
			}
			have := map[string]bool{}
			for _, s := range r.Steps {
				switch {
				case s.Commit != "":
					name, c, err := r.commit(s.Commit, vars)
					if err != nil {
						t.Fatal(err)
					}
					hash, err := repo(name).Commit(c)
					if err != nil {
						t.Fatal(err)
					}
					have[hash] = true
				case s.Bundle != "":
					name, content, err := r.bundle(s.Bundle)
					if err != nil {
						t.Fatal(err)
					}
					if err := repo(name).Bundle(content); err != nil {
						t.Fatal(err)
					}
					refs, err := os.ReadFile(filepath.Join(repo(name).Dir, "FETCH_HEAD"))
					if err != nil {
						t.Fatal(err)
					}
					for _, hash := range regexp.MustCompile(`[0-9a-f]{40}`).FindAllString(string(refs), -1) {
						have[hash] = true
					}
				}
			}
			// Only what came from a Git source counts: an OCI artifact may carry any commit as its origin.
			for _, snapshot := range r.Observed {
				b, err := json.Marshal(snapshot["artifacts"])
				if err != nil {
					t.Fatal(err)
				}
				b2, err := json.Marshal(snapshot["events"])
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(b), "ocirepository/") {
					continue
				}
				for _, m := range named.FindAllStringSubmatch(string(b)+string(b2), -1) {
					if !have[m[1]] {
						t.Errorf("commit %s was recorded but not built; built: %v", m[1], have)
					}
				}
			}
		})
	}
}

// TestImageDigestsAreReproduced builds every OCI input and wants to find each digest that an OCIRepository recorded.
func TestImageDigestsAreReproduced(t *testing.T) {
	named := regexp.MustCompile(`@(sha256:[0-9a-f]{64})`)
	found := 0
	for _, r := range readKinds(t, "ocirepository", "kustomization", "helmrelease") {
		have := map[string]bool{}
		for _, s := range r.Steps {
			if s.Push == "" {
				continue
			}
			_, _, img, err := r.image(s.Push, Vars{"NS": r.Namespace})
			if err != nil {
				t.Fatal(err)
			}
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			have[digest.String()] = true
		}
		if len(have) == 0 {
			continue
		}
		b, err := json.Marshal(r.Observed)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			found++
			if !have[m[1]] {
				t.Errorf("%s: digest %s was recorded but not built; built: %v", r.Name, m[1], have)
			}
		}
	}
	if found == 0 {
		t.Error("no recording names an image digest: the test looks at nothing")
	}
}

func TestExpand(t *testing.T) {
	vars := Vars{"NS": "apps", "LAB_CA": "first\nsecond\n", "GIT": "http://127.0.0.1:1"}
	for _, tt := range []struct{ name, in, want string }{
		{"known", "url: ${GIT}/${NS}-app.git", "url: http://127.0.0.1:1/apps-app.git"},
		{"unknown stays", "key: ${var:-x} ${OTHER}", "key: ${var:-x} ${OTHER}"},
		{"lines keep the indent", "a: |\n    ${LAB_CA}\nb: 1", "a: |\n    first\n    second\nb: 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := vars.Expand(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
