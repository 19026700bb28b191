package setters

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// corpus are the YAML files of this repository: CRDs, manifests and objects of all sizes.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	root := os.DirFS("../../../..")
	files := map[string][]byte{}
	for _, dir := range []string{"api/crds", "internal/manifests/testdata", "test/compat/testdata"} {
		err := fs.WalkDir(root, dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || path.Ext(name) != ".yaml" {
				return err
			}
			info, err := entry.Info()
			if err != nil || info.Size() > 16<<10 {
				return err
			}
			files[name], err = fs.ReadFile(root, name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 50 {
		t.Fatalf("only %d files", len(files))
	}
	return files
}

// mark appends markers to lines, whatever they are, and varies what surrounds them.
func mark(content []byte, r *rand.Rand) []byte {
	lines := strings.Split(string(content), "\n")
	for i, line := range lines {
		if r.IntN(4) == 0 && line != "" {
			lines[i] = line + " " + m([]string{"apps:web", "apps:web:tag", "apps:num:tag", "apps:pin:digest", "apps:none"}[r.IntN(5)])
		}
	}
	text := strings.Join(lines, []string{"\n", "\r\n"}[r.IntN(2)])
	if r.IntN(2) == 0 {
		text = "\ufeff" + text
	}
	if r.IntN(2) == 0 {
		text = strings.TrimRight(text, "\r\n")
	}
	return []byte(text)
}

// An edit touches lines with a marker alone, and can be taken back byte for byte.
func TestEditIsReversible(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	edits := 0
	for name, content := range corpus(t) {
		for range 2 {
			marked := mark(content, r)
			edited, changes, err := Edit(marked, images())
			if errors.Is(err, ErrUnparseable) {
				continue // a marker has got into a text of several lines
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			edits += len(changes)
			reversible(t, name, marked, edited, changes)
		}
	}
	if edits < 1000 {
		t.Errorf("only %d edits: the test has nothing to look at", edits)
	}
}

// reversible undoes the changes by their old bytes, which it finds as what the two texts have not in common.
func reversible(t testing.TB, name string, before, after []byte, changes []Change) {
	t.Helper()
	old, edited := bytes.SplitAfter(before, []byte("\n")), bytes.SplitAfter(after, []byte("\n"))
	if len(changes) == 0 {
		if !bytes.Equal(before, after) {
			t.Errorf("%s: no change is told, and there is one", name)
		}
		return
	}
	// Again, and there is nothing left to do.
	if again, more, err := Edit(after, images()); err != nil || len(more) > 0 || !bytes.Equal(again, after) {
		t.Errorf("%s: a second edit changes %+v, %v", name, more, err)
	}
	if len(old) != len(edited) {
		return // a value of several lines has become one of one line
	}
	for i := range old {
		if bytes.Equal(old[i], edited[i]) {
			continue
		}
		marked := slices.ContainsFunc(changes, func(c Change) bool { return c.Line == i+1 })
		// The value of a literal or folded scalar stands below its marker.
		block := slices.ContainsFunc(changes, func(c Change) bool { return c.Line <= i && bytes.ContainsAny(old[c.Line-1], "|>") })
		if !marked && !block {
			t.Errorf("%s: line %d has no marker:\n%q\n%q", name, i+1, old[i], edited[i])
		}
		if marked && !bytes.HasSuffix(edited[i], old[i][bytes.Index(old[i], []byte(Token)):]) {
			t.Errorf("%s: line %d changes behind the value:\n%q\n%q", name, i+1, old[i], edited[i])
		}
	}
}

// TestRevert sets a value and sets it back: the file is what it was.
func TestRevert(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	first := map[string]Image{"apps:web": {Name: "registry.test/web", Tag: "1.0.0"}}
	second := map[string]Image{"apps:web": {Name: "registry.test/web", Tag: "1.1.0"}}
	edits := 0
	for name, content := range corpus(t) {
		marked := mark(content, r)
		edited := [4][]byte{}
		for i, images := range []map[string]Image{first, second, first, second} {
			var changes []Change
			var err error
			if edited[i], changes, err = Edit(marked, images); errors.Is(err, ErrUnparseable) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			edits += len(changes)
			marked = edited[i]
		}
		if !bytes.Equal(edited[0], edited[2]) || !bytes.Equal(edited[1], edited[3]) {
			t.Errorf("%s: there and back again is another file", name)
		}
	}
	if edits < 1000 {
		t.Errorf("only %d edits: the test has nothing to look at", edits)
	}
}

// FuzzEdit feeds files of strangers: whatever they are, an edit fails or changes marked scalars alone, and is final.
func FuzzEdit(f *testing.F) {
	for _, seed := range []string{
		"a: x " + m("apps:web") + "\n", "- |\n x\n- 'y' " + m("apps:num:tag"), "{a: [x, " + m("apps:pin") + "\n y]}", "\ufeffa: &b !!str \"x\" " + m("apps:web:tag") + "\r\n---\n",
		"? [a, b " + m("apps:web") + "\n]\n: >-\n  x", "a: | " + m("apps:web:tag") + "\n   x\n", "a: !<x> &y z\u2028 " + m("apps:web:tag"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		edited, changes, err := Edit(content, images())
		if err != nil {
			return
		}
		if len(changes) == 0 && !bytes.Equal(content, edited) {
			t.Fatalf("%q became %q without a change", content, edited)
		}
		again, more, err := Edit(edited, images())
		if err != nil || len(more) > 0 || !bytes.Equal(again, edited) {
			t.Fatalf("%q became %q, and then %q: %+v %v", content, edited, again, more, err)
		}
	})
}

// A file of strangers with very many scalars, all of them marked, takes a moment and not a minute (reliability 025).
func TestManyMarkers(t *testing.T) {
	var b bytes.Buffer
	for range 20_000 {
		b.WriteString("- 'x' " + m("apps:web:tag") + "\n")
	}
	start := time.Now()
	if _, changes, err := Edit(b.Bytes(), images()); err != nil || len(changes) != 20_000 {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func BenchmarkEdit(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	var files [][]byte
	size := 0
	for _, content := range corpus(b) {
		marked := mark(content, r)
		files = append(files, marked)
		size += len(marked)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		for _, content := range files {
			if _, _, err := Edit(content, images()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
