package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// garbageBytes is how much the heap may grow between two collections above what is alive. In proportion to it, as the runtime does on
	// its own, a process of thousands of objects would need twice the memory of its objects for the garbage of a rollout.
	garbageBytes = 40 << 20
	// mostPercent is the growth of a small heap, which is the runtime's own choice. With less than leastPercent a very large one would be
	// collected all the time.
	mostPercent  = 100
	leastPercent = 25
	// quietTime without a collection means that nothing much happens: then the memory of what has happened is given back. Less than
	// worthwhile bytes of garbage are not worth a collection.
	quietTime  = 45 * time.Second
	worthwhile = 32 << 20
)

// boundMemory keeps the process small: while it works, by the bound of garbage, unless somebody has chosen another (GOGC, GOMEMLIMIT); and
// when it has worked.
var boundMemory = sync.OnceFunc(func() {
	c := &collector{tune: os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "", quiet: quietTime, release: releaseMemory}
	c.afterCollection(mostPercent)
})

// collector looks at the heap after each collection.
type collector struct {
	tune    bool
	quiet   time.Duration
	release func()

	mu       sync.Mutex // guards what follows
	timer    *time.Timer
	released uint64 // bytes allocated until the last release
}

// afterCollection calls itself again after the next collection: that is when an object that nobody refers to is cleaned up.
func (c *collector) afterCollection(percent int) {
	live, allocated := heap()
	// Each change stops the world for a moment.
	if next := growth(live); c.tune && (next < percent-2 || next > percent+2) {
		debug.SetGCPercent(next)
		percent = next
	}
	c.arm(allocated)
	runtime.AddCleanup(new([64]byte), c.afterCollection, percent)
}

// arm lets the memory be given back, unless another collection comes first.
func (c *collector) arm(allocated uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if allocated-c.released < worthwhile {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(c.quiet, c.rest)
}

func (c *collector) rest() {
	_, allocated := heap()
	c.mu.Lock()
	c.released = allocated
	c.mu.Unlock()
	c.release()
}

// growth is how much the heap may grow until the next collection, in percent of what is alive.
func growth(live uint64) int {
	return int(min(max(garbageBytes*100/max(live, 1), leastPercent), mostPercent))
}

// heap returns how many bytes the last collection has left, and how many were allocated since the start.
func heap() (live, allocated uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}
