package action

import (
	"context"
	"testing"

	"github.com/go-logr/logr/funcr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
)

// A watch that is refused answers nothing, says so once, and asks nobody before the first question.
func TestRecordWatchRefused(t *testing.T) {
	server := clustertest.NewServer(t, "uid")
	w := newRecordWatch(server.Clients(t).Own())
	said := make(chan string, 10)
	log := funcr.New(func(_, args string) { said <- args }, funcr.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.run(ctx, clock.RealClock{}, log) }()
	if r := server.Requests(); len(r) > 0 {
		t.Errorf("before the first question there were the requests %q", r)
	}
	if _, ok := w.newest("apps", "app"); ok {
		t.Error("a watch that has shown nothing answers")
	}
	<-said
	if _, ok := w.newest("apps", "app"); ok {
		t.Error("a watch that was refused answers")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(said) > 0 {
		t.Errorf("it says more than once that it was refused: %s", <-said)
	}
}

// What the watch tells follows additions, changes, deletions, and labels that come and go.
func TestRecordWatch(t *testing.T) {
	record := func(secret, resourceVersion, release, version string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "apps", Name: secret, ResourceVersion: resourceVersion, Labels: map[string]string{"owner": "helm", "name": release, "version": version},
		}}
	}
	w := newRecordWatch(nil)
	s := recordStore{w}
	for _, step := range []struct {
		name   string
		do     func() error
		want   string
		silent bool
	}{
		{"nothing was listed", func() error { return nil }, "", true},
		{"a list", func() error {
			return s.Replace([]any{record("a.v9", "5", "a", "9"), record("a.v10", "3", "a", "10"), record("b.v11", "9", "b", "11")}, "9")
		}, "3", false},
		{"a new version", func() error { return s.Add(record("a.v11", "12", "a", "11")) }, "12", false},
		{"a change of it", func() error { return s.Update(record("a.v11", "13", "a", "11")) }, "13", false},
		{"a change of an old one", func() error { return s.Update(record("a.v9", "14", "a", "9")) }, "13", false},
		{"it goes to another release", func() error { return s.Update(record("a.v11", "15", "b", "11")) }, "3", false},
		{"it comes back", func() error { return s.Update(record("a.v11", "16", "a", "11")) }, "16", false},
		{"it is deleted", func() error { return s.Delete(record("a.v11", "17", "a", "11")) }, "3", false},
		{"a version that nobody can read", func() error { return s.Update(record("a.v9", "18", "a", "nine")) }, "", true},
		{"a list without them", func() error { return s.Replace([]any{record("b.v11", "9", "b", "11")}, "20") }, "", false},
		{"the watch ends", func() error { w.lose(); return nil }, "", true},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got, ok := w.newest("apps", "a"); got != step.want || ok == step.silent {
			t.Errorf("%s: the newest record is %q, answered: %t; want %q", step.name, got, ok, step.want)
		}
	}
	if len(w.records) != 1 || len(w.releases) != 1 {
		t.Errorf("%d records of %d releases are kept, want one", len(w.records), len(w.releases))
	}
	if err := s.Add(&metav1.Status{}); err == nil {
		t.Error("what is no record is taken for one")
	}
}
