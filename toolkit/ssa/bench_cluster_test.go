package ssa_test

import (
	"strconv"
	"strings"
	"testing"
)

// BenchmarkFirstApply applies four new objects per iteration: four dry-runs and four writes.
func BenchmarkFirstApply(b *testing.B) {
	l := newLab(b)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		text := strings.NewReplacer("{name: web}", "{name: web-"+strconv.Itoa(i)+"}", "{name: a}", "{name: a-"+strconv.Itoa(i)+"}").Replace(fourObjects)
		l.inv, l.owner.Name = nil, "app-"+strconv.Itoa(i)
		l.mustApply(text)
	}
}

// BenchmarkUnchangedApply applies four objects that nobody touched: no request.
func BenchmarkUnchangedApply(b *testing.B) {
	l := newLab(b)
	text := strings.Replace(fourObjects, "replicas: 1", "replicas: 0", 1)
	l.synced(l.mustApply(text))
	l.mustApply(text)
	l.log.take()
	b.ReportAllocs()
	for b.Loop() {
		l.mustApply(text)
	}
	if got := l.log.take(); len(got) > 0 {
		b.Errorf("requests: %v", got)
	}
}
