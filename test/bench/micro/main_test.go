package main

import (
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	const before = `goos: linux
cores: 4
pkg: example.com/house/flux/toolkit/archive
BenchmarkWrite-4   	 10	 100 ns/op	 10 B/op	 1 allocs/op
BenchmarkWrite-4   	 10	 300 ns/op	 10 B/op	 1 allocs/op
BenchmarkWrite-4   	 10	 200 ns/op	 10 B/op	 1 allocs/op
BenchmarkSizes/n=4-4	 10	 100 ns/op	 50.0 MB/s	 0 B/op	 0 allocs/op
BenchmarkOld-4   	 10	 100 ns/op	 10 B/op	 1 allocs/op
`
	const after = `cores: 2
pkg: example.com/house/flux/toolkit/archive
BenchmarkWrite-2   	 10	 150 ns/op	 20 B/op	 1 allocs/op
BenchmarkSizes/n=4-2	 10	 90 ns/op	 50.0 MB/s	 0 B/op	 0 allocs/op
BenchmarkNew-2   	 10	 100 ns/op	 10 B/op	 1 allocs/op
`
	var parsed [2]results
	for i, text := range []string{before, after} {
		var err error
		if parsed[i], err = parse(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := compare(&out, parsed[0], parsed[1]); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"machine with 4 cores",
		"toolkit/archive Write 150 200 -25% 20 10 +100% 1 1 +0% worse",
		"toolkit/archive Sizes/n=4 90 100 -10% 0 0 +0% 0 0 +0%",
		"toolkit/archive New 100 0 new 10 0 new 1 0 new",
		"toolkit/archive Old gone",
	} {
		found := false
		for line := range strings.Lines(out.String()) {
			found = found || strings.Contains(strings.Join(strings.Fields(line), " "), want)
		}
		if !found {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if _, err := parse(strings.NewReader("BenchmarkX-2 10 fast ns/op 1 B/op\n")); err == nil {
		t.Error("a figure that is no number was taken")
	}
}
