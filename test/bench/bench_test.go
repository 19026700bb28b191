package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScan(t *testing.T) {
	const metrics = `# HELP apiserver_request_total Counter of apiserver requests.
apiserver_request_total{code="200",dry_run="All",resource="services",subresource="",verb="APPLY"} 20
apiserver_request_total{code="409",dry_run="",resource="kustomizations",subresource="status",verb="PATCH"} 1e+06
other_total{code="200"} 3
`
	type series struct {
		Labels map[string]string
		Value  float64
	}
	var got []series
	err := scan(strings.NewReader(metrics), "apiserver_request_total{", func(labels map[string]string, value float64) {
		got = append(got, series{labels, value})
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []series{
		{map[string]string{"code": "200", "dry_run": "All", "resource": "services", "subresource": "", "verb": "APPLY"}, 20},
		{map[string]string{"code": "409", "dry_run": "", "resource": "kustomizations", "subresource": "status", "verb": "PATCH"}, 1e6},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	for _, bad := range []string{`x{a="b"`, `x{a="b"} many`} {
		if err := scan(strings.NewReader(bad), "x{", func(map[string]string, float64) {}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestCounts(t *testing.T) {
	before := counts{"GET services": 3, "APPLY services": 1}
	after := counts{"GET services": 3, "APPLY services": 5, "APPLY services (dry run)": 4, "APPLY deployments/scale": 2, "LIST pods": 1}
	got := after.since(before)
	if diff := cmp.Diff(counts{"APPLY services": 4, "APPLY services (dry run)": 4, "APPLY deployments/scale": 2, "LIST pods": 1}, got); diff != "" {
		t.Errorf("since (-want +got):\n%s", diff)
	}
	if want := "APPLY 6, APPLY (dry run) 4, LIST 1"; got.verbs().String() != want {
		t.Errorf("%s, want %s", got.verbs(), want)
	}
	if got := got.sum(isWrite); got != 6 {
		t.Errorf("%g writes, want 6: neither a dry run nor a list is one", got)
	}
	// The process counts by method, and does not know which of its patches are dry runs.
	r := &row{Requests: got, Sent: counts{"GET": 10, "PATCH": 7, "POST": 2}}
	if r.writes() != 5 {
		t.Errorf("the process has written %g times, want 5", r.writes())
	}
}

func TestChanged(t *testing.T) {
	before := []object{{"/a", []byte("1")}, {"/b", []byte("1")}, {"/c", []byte("1")}}
	after := []object{{"/a", []byte("1")}, {"/b", []byte("2")}, {"/d", []byte("1")}}
	var got []string
	for _, o := range changed(before, after) {
		got = append(got, o.path)
	}
	if diff := cmp.Diff([]string{"/b", "/d"}, got); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if all := union([2][][]object{{before}, {after}}); len(all) != 1 || len(all[0]) != 4 {
		t.Errorf("both versions have %v, want four objects", all)
	}
}

func TestSpread(t *testing.T) {
	var sum atomic.Int64
	if err := spread(1000, func(_, i int) error { sum.Add(int64(i)); return nil }); err != nil || sum.Load() != 499_500 {
		t.Errorf("sum %d, %v", sum.Load(), err)
	}
	if err := spread(1000, func(_, i int) error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}

func TestTable(t *testing.T) {
	var out, progress strings.Builder
	s := &sheet{out: &out, progress: &progress}
	floor := &row{Scenario: "kustomizations", Applications: 500, Phase: "floor: install", Wall: 2, Server: 4}
	install := &row{Scenario: "kustomizations", Applications: 500, Phase: "install", Wall: 5, Server: 16, Peak: 100, Sent: counts{"GET": 1}}
	if err := s.addAll(floor, install.over(floor).times(3).memory()); err != nil {
		t.Fatal(err)
	}
	if err := s.print(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, wants := range [][]string{
		{"| Scenario", "| x floor |"}, {"| ---"}, {"floor: install |   2.00 |       - |", "| - | - | none | - |"},
		{"|   5.00 |     2.5 |", "wall 2.5 <= 3x: met; API CPU 4 <= 3x: NOT MET", "peak 100 <= 250 MiB: met", "| GET 1 |"}, {}, {"2 of 3 goals met"},
	} {
		for _, want := range wants {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d is %q, want %q in it", i, lines[i], want)
			}
		}
	}
	if !strings.Contains(progress.String(), "kustomizations, 500, install: 5.0 s\n") {
		t.Errorf("progress: %q", progress.String())
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		text    string
		growing bool
		want    []int
	}{
		{"", false, []int{100, 500, 1000}}, {"", true, []int{10, 100, 1000, 5000}}, {"7,20", true, []int{7, 20}},
		{"x", false, nil}, {"0", false, nil}, {"10000", false, nil},
	} {
		got, err := parseSizes(tt.text, tt.growing)
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.want != nil) {
			t.Errorf("%q: %v, %v", tt.text, got, err)
		}
	}
	if _, err := choose([]string{"chain", "fly"}); err == nil || !strings.Contains(err.Error(), `no bench "fly"`) {
		t.Errorf("error: %v", err)
	}
}
