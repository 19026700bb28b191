package tags

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

var app = types.NamespacedName{Namespace: "team", Name: "app"}

const image = "index.docker.io/library/app"

func open(t testing.TB, o Options) *Database {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func put(t testing.TB, d *Database, key types.NamespacedName, image string, tags ...string) List {
	t.Helper()
	list, err := d.Put(key, image, Normal(tags))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func get(t testing.TB, d *Database, key types.NamespacedName) List {
	t.Helper()
	list, err := d.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// imagerepository 14, 32: the checksums are those 2.9 was seen to compute, whatever the order of the registry.
func TestRevision(t *testing.T) {
	recorded := map[string][]string{
		"160432618":  {"1.0.0"},
		"495453000":  {"1.0.0", "1.1.0"},
		"1612056133": {"1.1.0", "latest", "1.0.0"},
		"577045453":  {"a", "c", "b", "Z"},
		"868092621":  {"1.0.0", "1.2.0", "v1.10.0", "2.0.0", "1.11.0-rc.1", "1.12"},
		"3617589990": {"main-9", "main-10", "dev-11", "latest"},
	}
	d := open(t, Options{})
	for want, tags := range recorded {
		if got := d.Revision(Normal(tags)); got != want {
			t.Errorf("the checksum of %q is %s, want %s", tags, got, want)
		}
	}
	if a, b := d.Revision(nil), d.Revision([]string{}); a != b || a == d.Revision([]string{"a"}) {
		t.Errorf("no tags have the checksums %s and %s", a, b)
	}
	// imagerepository 28: a digest of the lines.
	const want = "sha256:c4a78e5bdf318c857b19a6ae4678d9fc8ab0d9bf2b7dd11b41a06c4c1047d943"
	if got := open(t, Options{Digests: true}).Revision([]string{"b", "a"}); got != want {
		t.Errorf("the digest is %s, want %s", got, want)
	}
}

func TestNormal(t *testing.T) {
	got := Normal([]string{"a", "c", "b", "a", "B", "c"})
	if diff := cmp.Diff([]string{"c", "b", "a", "B"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// imagerepository 28: the layout is that of 2.9, and a large list is compressed.
func TestPutAndGet(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		file    string
	}{
		"plain":      {Options{CompressFrom: 1 << 10}, plainFile},
		"compressed": {Options{CompressFrom: 3}, packedFile},
		"digests":    {Options{CompressFrom: 1 << 10, Digests: true}, plainFile},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Dir = t.TempDir()
			d := open(t, test.options)
			if list := get(t, d, app); len(list.Tags) > 0 {
				t.Errorf("an empty database has %q", list.Tags)
			}
			stored := put(t, d, app, image, "b", "c", "a")
			want := List{Image: image, Tags: []string{"c", "b", "a"}, Revision: d.Revision([]string{"c", "b", "a"})}
			for what, got := range map[string]List{"Put": stored, "Get": get(t, d, app), "after a restart": get(t, open(t, test.options), app)} {
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
			if diff := cmp.Diff([]string{imageFile, test.file}, files(t, test.options.Dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, lists, app.Namespace, app.Name))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A list that grows or shrinks over the threshold leaves no other one behind.
func TestOneFormAtATime(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir, CompressFrom: 8})
	for _, tags := range [][]string{{"a"}, {"a", "bbbbbbbb"}, {"b"}} {
		put(t, d, app, image, tags...)
		if diff := cmp.Diff(Normal(tags), get(t, d, app).Tags); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := files(t, dir); len(got) != 2 {
			t.Errorf("files: %q", got)
		}
	}
}

// imagerepository 27: two objects with one image do not overwrite each other's lists.
func TestObjectsAreKeptApart(t *testing.T) {
	d := open(t, Options{})
	other := types.NamespacedName{Namespace: "team", Name: "other"}
	put(t, d, app, image, "a", "b")
	put(t, d, other, image, "b")
	if diff := cmp.Diff([]string{"b", "a"}, get(t, d, app).Tags); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// imagerepository 34: no tags are no list.
func TestNoTags(t *testing.T) {
	d := open(t, Options{})
	put(t, d, app, image, "a")
	if list := put(t, d, app, image); list.Revision == "" || len(list.Tags) > 0 {
		t.Errorf("put: %+v", list)
	}
	if list := get(t, d, app); len(list.Tags) > 0 {
		t.Errorf("got %q", list.Tags)
	}
}

// imagerepository 18
func TestRemove(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	put(t, d, app, image, "a")
	for range 2 {
		if err := d.Remove(app); err != nil {
			t.Fatal(err)
		}
	}
	if list := get(t, d, app); len(list.Tags) > 0 {
		t.Errorf("got %q", list.Tags)
	}
	if _, err := os.Stat(filepath.Join(dir, lists, app.Namespace)); !os.IsNotExist(err) {
		t.Errorf("the directory of the namespace is left behind: %v", err)
	}
}

// A process that dies at any step of replacing a list leaves the old one, the new one or none, and never one that is said to be
// of another image.
func TestCrash(t *testing.T) {
	const newImage = "ghcr.io/team/app"
	oldTags, newTags := []string{"3", "2", "1"}, []string{"b", "a"}
	for name, options := range map[string]Options{"plain": {CompressFrom: 1 << 10}, "compressed": {}} {
		for step := range 5 {
			t.Run(fmt.Sprintf("%s, step %d", name, step), func(t *testing.T) {
				options.Dir = t.TempDir()
				d := open(t, options)
				put(t, d, app, image, oldTags...)
				for i, f := range []func() error{
					func() error { return d.drop(app) },
					func() error { return d.write(app, imageFile, []byte(newImage)) },
					func() error {
						return os.WriteFile(filepath.Join(options.Dir, dirOf(app), draftFile), []byte("b"), 0o600)
					},
					func() error { return d.writeTags(app, text(newTags)) },
				} {
					if i == step {
						break
					}
					if err := f(); err != nil {
						t.Fatal(err)
					}
				}
				list := get(t, open(t, options), app)
				switch {
				case len(list.Tags) == 0 && step > 0 && step < 4:
				case list.Image == image && cmp.Equal(list.Tags, oldTags) && step == 0:
				case list.Image == newImage && cmp.Equal(list.Tags, newTags) && step == 4:
				default:
					t.Errorf("after the crash the list is %+v", list)
				}
				// The next scan heals it.
				put(t, open(t, options), app, newImage, newTags...)
				if list := get(t, open(t, options), app); list.Image != newImage || !cmp.Equal(list.Tags, newTags) {
					t.Errorf("after the next scan the list is %+v", list)
				}
			})
		}
	}
}

// What cannot be read counts as no list; a disk that fails is an error (imagerepository 41).
func TestDamage(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("b\na")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"no gzip": []byte("text"), "torn": packed.Bytes()[:packed.Len()-6], "a flipped bit": append(bytes.Clone(packed.Bytes()[:packed.Len()-8]), make([]byte, 8)...),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := open(t, Options{Dir: dir})
			put(t, d, app, image, "a", "b")
			if err := os.WriteFile(filepath.Join(dir, dirOf(app), packedFile), content, 0o600); err != nil {
				t.Fatal(err)
			}
			if list := get(t, d, app); len(list.Tags) > 0 {
				t.Errorf("read %q", list.Tags)
			}
			put(t, d, app, image, "c")
			if diff := cmp.Diff([]string{"c"}, get(t, d, app).Tags); diff != "" {
				t.Errorf("after the next scan (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a failing disk", func(t *testing.T) {
		dir := t.TempDir()
		d := open(t, Options{Dir: dir})
		put(t, d, app, image, "a")
		file := filepath.Join(dir, dirOf(app), packedFile)
		if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Get(app); err == nil {
			t.Error("no error")
		}
	})
	t.Run("an order of somebody else", func(t *testing.T) {
		dir := t.TempDir()
		d := open(t, Options{Dir: dir, CompressFrom: 1 << 10})
		put(t, d, app, image, "a")
		if err := os.WriteFile(filepath.Join(dir, dirOf(app), plainFile), []byte("a\nc\nb"), 0o600); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"c", "b", "a"}, get(t, d, app).Tags); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// imagerepository 14, 29: lists of an unknown layout go, the database of 2.9 beside them stays, and switching between the two
// kinds of revisions keeps the tags.
func TestVersion(t *testing.T) {
	for name, test := range map[string]struct {
		version string
		kept    bool
	}{"a new directory": {"", false}, "of another version": {"9", false}, "of this version": {"2", true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			badger := filepath.Join(dir, "000001.vlog")
			d := open(t, Options{Dir: dir})
			put(t, d, app, image, "a")
			if err := errors.Join(os.WriteFile(badger, []byte("x"), 0o600), os.Remove(filepath.Join(dir, versionFile))); err != nil {
				t.Fatal(err)
			}
			if test.version != "" {
				if err := os.WriteFile(filepath.Join(dir, versionFile), []byte(test.version), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, digests := range []bool{true, false} {
				list := get(t, open(t, Options{Dir: dir, Digests: digests}), app)
				if kept := len(list.Tags) > 0; kept != test.kept {
					t.Errorf("the list is kept: %t, want %t", kept, test.kept)
				}
			}
			if got, err := os.ReadFile(filepath.Join(dir, versionFile)); err != nil || string(got) != "2" {
				t.Errorf("the version is %q, error %v", got, err)
			}
			if _, err := os.Stat(badger); err != nil {
				t.Error(err)
			}
		})
	}
}

// imagerepository 20, 31
func TestCollect(t *testing.T) {
	d := open(t, Options{})
	gone := types.NamespacedName{Namespace: "team", Name: "gone"}
	elsewhere := types.NamespacedName{Namespace: "old", Name: "app"}
	for _, key := range []types.NamespacedName{app, gone, elsewhere} {
		put(t, d, key, image, "a")
	}
	failing := errors.New("no answer")
	if _, err := d.Collect(t.Context(), func(context.Context, string) (map[string]bool, error) { return nil, failing }); !errors.Is(err, failing) {
		t.Errorf("error %v, want that of the API server", err)
	}
	for _, key := range []types.NamespacedName{app, gone, elsewhere} {
		if len(get(t, d, key).Tags) == 0 {
			t.Errorf("%s was removed though nobody knows whether it exists", key)
		}
	}
	removed, err := d.Collect(t.Context(), func(_ context.Context, namespace string) (map[string]bool, error) {
		return map[string]bool{"app": namespace == "team"}, nil
	})
	if err != nil || removed != 2 {
		t.Errorf("removed %d, error %v", removed, err)
	}
	for key, want := range map[types.NamespacedName]int{app: 1, gone: 0, elsewhere: 0} {
		if got := len(get(t, d, key).Tags); got != want {
			t.Errorf("%s has %d tags, want %d", key, got, want)
		}
	}
}

func TestAwait(t *testing.T) {
	d := open(t, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- d.Await(ctx, app, image) }()
	}
	put(t, d, app, "ghcr.io/team/other", "a")
	put(t, d, app, image, "a")
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := d.Await(ctx, app, image); err != nil {
		t.Errorf("what is there is awaited: %v", err)
	}
	over := errors.New("over")
	cancel(over)
	if err := d.Await(ctx, app, "ghcr.io/team/other"); !errors.Is(err, over) {
		t.Errorf("error %v, want the cause", err)
	}
}

// Readers see the old list or the new one, while writers replace it.
func TestConcurrentUse(t *testing.T) {
	d := open(t, Options{CompressFrom: 1 << 10})
	long := make([]string, 200)
	for i := range long {
		long[i] = fmt.Sprintf("1.%d.0-some-suffix", i)
	}
	put(t, d, app, image, "a", "b")
	var wg sync.WaitGroup
	for writer := range 2 {
		wg.Go(func() {
			for i := range 20 {
				tags := []string{"a", "b"}
				if (i+writer)%2 == 0 {
					tags = long
				}
				if _, err := d.Put(app, image, Normal(append([]string(nil), tags...))); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				list, err := d.Get(app)
				if err != nil || len(list.Tags) != 2 && len(list.Tags) != len(long) {
					t.Errorf("read %d tags, error %v", len(list.Tags), err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzGet(f *testing.F) {
	f.Add([]byte("b\na"), false)
	f.Add([]byte{0x1f, 0x8b}, true)
	f.Fuzz(func(t *testing.T, content []byte, packed bool) {
		dir := t.TempDir()
		d := open(t, Options{Dir: dir, CompressFrom: 1 << 20})
		put(t, d, app, image, "a")
		name := plainFile
		if packed {
			name = packedFile
			if err := d.drop(app); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, dirOf(app), name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		list := get(t, d, app)
		if len(list.Tags) > 0 && !cmp.Equal(list.Tags, Normal(append([]string(nil), list.Tags...))) {
			t.Errorf("read %q", list.Tags)
		}
	})
}

func BenchmarkPutAndGet9000(b *testing.B) {
	tags := make([]string, 9000)
	for i := range tags {
		tags[i] = fmt.Sprintf("1.%d.%d", i/100, i%100)
	}
	d := open(b, Options{CompressFrom: 64 << 10})
	for i := 0; b.Loop(); i++ {
		put(b, d, app, image, append(tags[:len(tags)-1:len(tags)-1], fmt.Sprint(i))...)
		get(b, d, app)
	}
}
