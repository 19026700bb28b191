package auth

import (
	"container/list"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// keptPercent is how much of its lifetime a credential is kept: who gets it must have time to use it (contract: _common 50).
const keptPercent = 80

// cache keeps credentials by the digest of all that shaped them; the least recently used makes room.
type cache struct {
	size     int
	duration time.Duration
	clock    clock.PassiveClock
	metrics  *metrics

	mu      sync.Mutex // guards order and entries
	order   *list.List // of *entry, the most recently used in front
	entries map[string]*list.Element
}

type entry struct {
	key   string
	value any
	until time.Time
}

func newCache(size int, duration time.Duration, c clock.PassiveClock, m *metrics) *cache {
	if duration <= 0 || duration > MaxCacheDuration {
		duration = MaxCacheDuration
	}
	return &cache{size: size, duration: duration, clock: c, metrics: m, order: list.New(), entries: map[string]*list.Element{}}
}

func (c *cache) get(key string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.entries[key]
	if found == nil || !c.clock.Now().Before(found.Value.(*entry).until) {
		return nil, false
	}
	c.order.MoveToFront(found)
	return found.Value.(*entry).value, true
}

// put keeps a value that expires; one without an end is kept as long as any may be.
func (c *cache) put(key string, value any, expires time.Time) {
	now := c.clock.Now()
	keep := c.duration
	if !expires.IsZero() {
		keep = min(keep, expires.Sub(now)/100*keptPercent)
	}
	if c.size <= 0 || keep <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeExpired(now)
	if old := c.entries[key]; old != nil {
		c.remove(old)
	}
	if c.order.Len() >= c.size {
		c.remove(c.order.Back())
		c.metrics.evictions.Inc()
	}
	c.entries[key] = c.order.PushFront(&entry{key, value, now.Add(keep)})
	c.metrics.items.Set(float64(c.order.Len()))
}

// removeExpired makes room, and keeps credentials that nobody asks for any more from lying in memory for ever.
func (c *cache) removeExpired(now time.Time) {
	for e := c.order.Back(); e != nil; {
		previous := e.Prev()
		if !now.Before(e.Value.(*entry).until) {
			c.remove(e)
		}
		e = previous
	}
}

func (c *cache) remove(e *list.Element) {
	c.order.Remove(e)
	delete(c.entries, e.Value.(*entry).key)
}
