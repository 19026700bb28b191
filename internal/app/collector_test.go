package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

const mebibyte = 1 << 20

func TestGrowth(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 100, 10 * mebibyte: 100, 40 * mebibyte: 100, 80 * mebibyte: 50, 100 * mebibyte: 40, 160 * mebibyte: 25, 4096 * mebibyte: 25,
	} {
		if got := growth(live); got != want {
			t.Errorf("%d MiB alive: %d %%, want %d %%", live/mebibyte, got, want)
		}
	}
}

// The heap of a process that holds much grows by less than it holds, and by as much again once it holds little. What it no longer needs
// is given back when it has been quiet for a while.
func TestCollector(t *testing.T) {
	before := debug.SetGCPercent(mostPercent)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	given := make(chan struct{}, 100)
	_, start := heap()
	c := &collector{tune: true, quiet: time.Microsecond, release: func() { given <- struct{}{} }, released: start}
	c.afterCollection(mostPercent)
	held := make([]byte, 100*mebibyte)
	awaitPercent(t, func(percent uint64) bool { return percent < 50 })
	runtime.KeepAlive(held)
	<-given
	held = nil
	awaitPercent(t, func(percent uint64) bool { return percent == mostPercent })
}

// A little garbage is not worth a collection.
func TestCollectorAtRest(t *testing.T) {
	given := make(chan struct{}, 1)
	c := &collector{quiet: time.Microsecond, release: func() { given <- struct{}{} }, released: 1000}
	if c.arm(1000 + worthwhile - 1); c.timer != nil {
		t.Error("memory is to be given back although there is little")
	}
	c.arm(1000 + worthwhile)
	<-given
	if _, allocated := heap(); c.released == 1000 || c.released > allocated {
		t.Errorf("%d bytes were allocated before the release, of %d", c.released, allocated)
	}
}

// awaitPercent collects until the growth is as it should be: a cleanup runs some time after the collection that has called for it.
func awaitPercent(t *testing.T, good func(uint64) bool) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for {
		runtime.GC()
		metrics.Read(sample)
		if good(sample[0].Value.Uint64()) {
			return
		}
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}
