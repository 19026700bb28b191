package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
)

// Canary is part of every credential of the suite: no error shows it.
const Canary = "c4nary"

// Subject is a kind of bucket under test, with an empty bucket.
type Subject struct {
	// Open connects to the bucket.
	Open func(t testing.TB, l storage.Limits) storage.Bucket
	// Missing connects to a bucket that does not exist.
	Missing func(t testing.TB) storage.Bucket
	// Denied connects with credentials that the server does not accept.
	Denied func(t testing.TB) storage.Bucket
	// Put and Delete change the bucket.
	Put    func(t testing.TB, key, content string)
	Delete func(t testing.TB, key string)
	// Page is more than a page of a listing holds.
	Page int
}

// Run runs the suite. Each case gets a subject of its own.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"nothing", nothing}, {"pages", pages}, {"prefix", prefix}, {"names", names}, {"read", read}, {"changed", changed},
		{"gone", gone}, {"missing", missing}, {"denied", denied}, {"cancelled", cancelled}, {"stopped", stopped}, {"limits", limits},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, subject(t)) })
	}
}

func list(t testing.TB, b storage.Bucket, prefix string) []storage.Object {
	t.Helper()
	var out []storage.Object
	if err := b.List(t.Context(), prefix, func(o storage.Object) error {
		out = append(out, o)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func keys(objects []storage.Object) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.Key)
	}
	return out
}

func expect(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// fails checks the property of an error and that it shows no credentials.
func fails(t testing.TB, err, property error) {
	t.Helper()
	if !errors.Is(err, property) {
		t.Errorf("error = %v, want %v", err, property)
	}
	if err != nil && strings.Contains(err.Error(), Canary) {
		t.Errorf("the error shows a credential: %v", err)
	}
}

func nothing(t *testing.T, s Subject) {
	expect(t, "an empty bucket", 0, len(list(t, s.Open(t, storage.Limits{}), "")))
}

func pages(t *testing.T, s Subject) {
	var want []string
	for i := range s.Page {
		want = append(want, fmt.Sprintf("object-%05d", i))
		s.Put(t, want[i], "x")
	}
	expect(t, "keys", want, keys(list(t, s.Open(t, storage.Limits{}), "")))
}

func prefix(t *testing.T, s Subject) {
	for _, key := range []string{"app/one", "app/two", "apple", "other/app/one"} {
		s.Put(t, key, key)
	}
	b := s.Open(t, storage.Limits{})
	expect(t, "prefix app/", []string{"app/one", "app/two"}, keys(list(t, b, "app/")))
	expect(t, "prefix app", []string{"app/one", "app/two", "apple"}, keys(list(t, b, "app")))
	expect(t, "prefix of nothing", 0, len(list(t, b, "nothing/")))
}

func names(t *testing.T, s Subject) {
	for _, key := range []string{"a b+c&d=e", "dir/über/☃.yaml", "100%.yaml", "x<y>'\"z", "q?r#s", ".sourceignore", "%2e%2e/x"} {
		s.Put(t, key, "content of "+key)
		b := s.Open(t, storage.Limits{})
		found := list(t, b, key)
		expect(t, "listed", []string{key}, keys(found))
		var content bytes.Buffer
		if _, err := b.Get(t.Context(), found[0], &content); err != nil {
			t.Errorf("reading %q: %v", key, err)
		}
		expect(t, "content of "+key, "content of "+key, content.String())
		s.Delete(t, key)
	}
}

// read: an object is read as it was listed; its ETag is the same wherever it comes from (bucket 24).
func read(t *testing.T, s Subject) {
	s.Put(t, "app.yaml", "one")
	s.Put(t, "empty", "")
	b := s.Open(t, storage.Limits{})
	listed := list(t, b, "")
	expect(t, "listed", []string{"app.yaml", "empty"}, keys(listed))
	expect(t, "size", int64(3), listed[0].Size)
	for _, as := range []storage.Object{listed[0], {Key: "app.yaml"}} {
		var content bytes.Buffer
		o, err := b.Get(t.Context(), as, &content)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "content", "one", content.String())
		expect(t, "ETag", listed[0].ETag, o.ETag)
	}
	var content bytes.Buffer
	if _, err := b.Get(t.Context(), listed[1], &content); err != nil || content.Len() > 0 {
		t.Errorf("an empty object: %q, %v", content.String(), err)
	}
	expect(t, "another listing", listed, list(t, b, ""))
}

// changed: what has changed since the listing is told, and read when asked for as it is now (bucket 23, 25).
func changed(t *testing.T, s Subject) {
	s.Put(t, "app.yaml", "one")
	b := s.Open(t, storage.Limits{})
	was := list(t, b, "")[0]
	s.Put(t, "app.yaml", "two!")
	var content bytes.Buffer
	_, err := b.Get(t.Context(), was, &content)
	fails(t, err, storage.ErrChanged)
	expect(t, "written", 0, content.Len())
	is, err := b.Get(t.Context(), storage.Object{Key: "app.yaml"}, &content)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "content", "two!", content.String())
	expect(t, "ETag", list(t, b, "")[0].ETag, is.ETag)
	if is.ETag == was.ETag {
		t.Errorf("other content has the same ETag %s", is.ETag)
	}
}

func gone(t *testing.T, s Subject) {
	s.Put(t, "app.yaml", "one")
	b := s.Open(t, storage.Limits{})
	was := list(t, b, "")[0]
	s.Delete(t, "app.yaml")
	for _, o := range []storage.Object{was, {Key: "app.yaml"}, {Key: "never"}} {
		var content bytes.Buffer
		_, err := b.Get(t.Context(), o, &content)
		fails(t, err, storage.ErrNoObject)
		expect(t, "written", 0, content.Len())
	}
}

// bucket 15
func missing(t *testing.T, s Subject) {
	err := s.Missing(t).List(t.Context(), "", func(storage.Object) error { return nil })
	fails(t, err, storage.ErrNoBucket)
}

func denied(t *testing.T, s Subject) {
	s.Put(t, "app.yaml", "one")
	b := s.Denied(t)
	fails(t, b.List(t.Context(), "", func(storage.Object) error { return nil }), storage.ErrDenied)
	_, err := b.Get(t.Context(), storage.Object{Key: "app.yaml"}, &bytes.Buffer{})
	fails(t, err, storage.ErrDenied)
}

func cancelled(t *testing.T, s Subject) {
	s.Put(t, "app.yaml", "one")
	b := s.Open(t, storage.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fails(t, b.List(ctx, "", func(storage.Object) error { return nil }), context.Canceled)
	_, err := b.Get(ctx, storage.Object{Key: "app.yaml"}, &bytes.Buffer{})
	fails(t, err, context.Canceled)
}

// stopped: the error of who listens to a listing ends it.
func stopped(t *testing.T, s Subject) {
	for _, key := range []string{"a", "b", "c"} {
		s.Put(t, key, "x")
	}
	enough := errors.New("enough")
	heard := 0
	err := s.Open(t, storage.Limits{}).List(t.Context(), "", func(storage.Object) error {
		heard++
		return enough
	})
	fails(t, err, enough)
	expect(t, "heard", 1, heard)
}

// limits: neither pages nor answers are without end (reliability 075).
func limits(t *testing.T, s Subject) {
	for i := range s.Page {
		s.Put(t, fmt.Sprintf("object-%05d", i), "x")
	}
	ignore := func(storage.Object) error { return nil }
	fails(t, s.Open(t, storage.Limits{Pages: 1}).List(t.Context(), "", ignore), storage.ErrLimit)
	fails(t, s.Open(t, storage.Limits{PageBytes: 100}).List(t.Context(), "", ignore), storage.ErrLimit)
}
