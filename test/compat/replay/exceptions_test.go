package replay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readLists(t *testing.T, differences, pending string) (*Exceptions, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"d.yaml": differences, "p.yaml": pending} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ReadExceptions(filepath.Join(dir, "d.yaml"), filepath.Join(dir, "p.yaml"))
}

func TestExceptions(t *testing.T) {
	const differences = `
- recording: kustomization/a
  path: end.objects[Kustomization/app].status.history[0].totalReconciliations
  ours: 1
  reason: an unchanged run writes nothing
- recording: kustomization/*
  path: "*.events[*].message"
  ours: new words
  reason: they say more
- recording: kustomization/a
  path: end.objects[Kustomization/app].status.conditions[*].message
  inserted: ": Pod/.+"
  reason: the cause goes with it
`
	const path = "end.objects[Kustomization/app].status.history[0].totalReconciliations"
	all := []string{"kustomization/a", "kustomization/b", "gitrepository/a"}
	for _, tt := range []struct {
		name  string
		seen  map[string][]Diff
		left  int
		stale string
	}{
		{"all of use", map[string][]Diff{"kustomization/a": {{Path: path, Ours: 1.0}, inserted("it failed", "it failed: Pod/x")}, "kustomization/b": {{Path: "end.events[Kustomization/app Normal R].message", Ours: "new words"}}}, 0, ""},
		{"another value", map[string][]Diff{"kustomization/a": {{Path: path, Ours: 2.0}}}, 1, "totalReconciliations"},
		{"inserted in the middle", map[string][]Diff{"kustomization/a": {{Path: path, Ours: 1.0}, inserted("it failed\n\nlog", "it failed: Pod/x\n\nlog")}}, 0, ""},
		{"something else inserted", map[string][]Diff{"kustomization/a": {{Path: path, Ours: 1.0}, inserted("it failed", "it failed: Job/x")}}, 1, "conditions"},
		{"another text and an insertion", map[string][]Diff{"kustomization/a": {{Path: path, Ours: 1.0}, inserted("it failed early", "it failed: Pod/x")}}, 1, "conditions"},
		{"no text", map[string][]Diff{"kustomization/a": {{Path: path, Ours: 1.0}, {Path: inserted("", "").Path, Want: absent, Ours: 3.0}}}, 1, "conditions"},
		{"another recording", map[string][]Diff{"gitrepository/a": {{Path: "end.events[Kustomization/app Normal R].message", Ours: "new words"}}}, 1, ""},
		{"a star stays within its brackets", map[string][]Diff{"kustomization/b": {{Path: "end.events[A/x].annotations[y].message", Ours: "new words"}}}, 1, ""},
		{"nothing seen", map[string][]Diff{"kustomization/a": nil, "kustomization/b": nil}, 0, "totalReconciliations kustomization/* conditions"},
		{"half of a pattern played", map[string][]Diff{"kustomization/b": nil}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := readLists(t, differences, "[]")
			if err != nil {
				t.Fatal(err)
			}
			left := 0
			for name, diffs := range tt.seen {
				left += len(e.Unexpected(name, diffs))
			}
			if left != tt.left {
				t.Errorf("%d differences were left, want %d", left, tt.left)
			}
			stale := strings.Join(e.Stale(all), "\n")
			for _, part := range strings.Fields(tt.stale) {
				if !strings.Contains(stale, part) {
					t.Errorf("stale entries are %q, want %q among them", stale, part)
				}
			}
			if tt.stale == "" && stale != "" {
				t.Errorf("stale entries are %q, want none", stale)
			}
		})
	}
}

// inserted is a difference in the message of a condition.
func inserted(want, ours string) Diff {
	return Diff{Path: "end.objects[Kustomization/app].status.conditions[Ready].message", Want: want, Ours: ours}
}

func TestExceptionsMustBeComplete(t *testing.T) {
	for _, bad := range []string{
		"- {recording: a, path: b, reason: c}", "- {recording: a, path: b, ours: c, inserted: d, reason: e}", "- {recording: a, path: b, inserted: '(', reason: e}",
	} {
		if _, err := readLists(t, bad, "[]"); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	if _, err := readLists(t, "- {recording: a, path: b, ours: c}", "[]"); err == nil {
		t.Error("a difference without a reason was accepted")
	}
	if _, err := readLists(t, "[]", "- {recording: a, reason: b}"); err == nil {
		t.Error("a pending entry without an issue was accepted")
	}
	e, err := readLists(t, "[]", "- {recording: a/b, issue: later, reason: c}")
	if err != nil {
		t.Fatal(err)
	}
	if e.PendingFor("a/b") == nil || e.PendingFor("a/c") != nil {
		t.Error("pending entries are not found by name")
	}
	if stale := e.Stale(nil); len(stale) != 1 {
		t.Errorf("a pending entry without a recording is stale, got %q", stale)
	}
}
