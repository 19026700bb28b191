package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// garbageBytes is how much the heap may grow between two collections above what is alive. In proportion to it, as the runtime does on its
// own, a process of thousands of objects would need twice the memory of its objects for the garbage of a rollout.
const garbageBytes = 40 << 20

// How much the heap may grow in percent: no more than without a collector, and not so little that a very large heap is collected all the
// time.
const (
	mostPercent  = 100
	leastPercent = 25
)

// boundGarbage sets, after each collection, how much the heap may grow until the next. It leaves the choice to whoever has made one
// (GOGC, GOMEMLIMIT).
var boundGarbage = sync.OnceFunc(func() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	afterCollection(mostPercent)
})

// afterCollection calls itself again after the next collection: that is when an object that nobody refers to is cleaned up.
func afterCollection(current int) {
	next := percent(liveBytes())
	// Each change stops the world for a moment.
	if next < current-2 || next > current+2 {
		debug.SetGCPercent(next)
		current = next
	}
	runtime.AddCleanup(new([64]byte), afterCollection, current)
}

func percent(live uint64) int {
	return int(min(max(garbageBytes*100/max(live, 1), leastPercent), mostPercent))
}

// liveBytes is what the last collection has left.
func liveBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
