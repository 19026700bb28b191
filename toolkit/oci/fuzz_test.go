package oci

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Whatever a registry sends as a manifest, there is one within the limits or an
// error.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73","size":2},"layers":[{"mediaType":"a/b","digest":"sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73","size":7,"urls":["http://127.0.0.1"]}],"annotations":{"a":"b"}}`))
	f.Add([]byte(`{"layers":[{"size":-1},{"digest":"sha256:"}]}`))
	f.Add([]byte(`{"annotations":{"a":null}}`))
	c, err := New(Options{Limits: Limits{Layers: 2, AnnotationBytes: 10}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := c.parse(&remote.Descriptor{Manifest: raw})
		if err != nil {
			return
		}
		size := 0
		for key, value := range m.Annotations {
			size += len(key) + len(value)
		}
		if len(m.Layers) > 2 || size > 10 {
			t.Errorf("%d layers and %d bytes of annotations", len(m.Layers), size)
		}
	})
}

// Whatever the tags and the range are, the chosen tag is one of them, and the
// order of the list does not matter.
func FuzzChooser(f *testing.F) {
	f.Add("1.0.0 v1.0.0 1.0 latest 2.0.0-rc.1 1.0.0_b", ">=1.0.0-0", "", true)
	f.Add("01.0.0 1.0.0+a 99999999999999999999.0.0", "*", "^1", false)
	f.Fuzz(func(t *testing.T, list, expression, filter string, helm bool) {
		choose, err := chooser(Reference{SemVer: expression, SemVerFilter: filter, Helm: helm})
		if err != nil {
			return
		}
		tags := strings.Fields(list)
		chosen := choose(tags)
		known := chosen == "" || slices.Contains(tags, chosen)
		slices.Reverse(tags)
		if again := choose(tags); !known || again != chosen {
			t.Errorf("of %q first %q was chosen, then %q", list, chosen, again)
		}
	})
}
