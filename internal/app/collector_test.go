package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestPercent(t *testing.T) {
	const mib = 1 << 20
	for live, want := range map[uint64]int{0: 100, 10 * mib: 100, 40 * mib: 100, 80 * mib: 50, 100 * mib: 40, 160 * mib: 25, 4096 * mib: 25} {
		if got := percent(live); got != want {
			t.Errorf("%d MiB alive: %d %%, want %d %%", live/mib, got, want)
		}
	}
}

// The heap of a process that holds much grows by less than it holds, and again by as much once it holds little.
func TestBoundGarbage(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(mostPercent)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	boundGarbage()
	held := make([]byte, 100<<20)
	awaitPercent(t, func(percent uint64) bool { return percent < 50 })
	runtime.KeepAlive(held)
	held = nil
	awaitPercent(t, func(percent uint64) bool { return percent == mostPercent })
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
