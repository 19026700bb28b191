package notify

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// maxRemembered bounds how many events each of the two generations of a limiter remembers: 100,000 events are about 10 MB.
const maxRemembered = 50_000

// eventKey tells events that say the same (alert 4).
type eventKey [sha256.Size]byte

func keyOf(p *event.Payload) eventKey {
	h, group := sha256.New(), groupPrefix(p)
	o := &p.InvolvedObject
	parts := []string{o.Name, o.Namespace, o.Kind, p.Message}
	for _, key := range []string{originKey, revisionKey, tokenKey} {
		if value, ok := p.Metadata[group+key]; ok {
			parts = append(parts, key+"="+value)
		}
	}
	for _, part := range parts {
		// The length keeps "a"+"bc" apart from "ab"+"c".
		fmt.Fprintf(h, "%d %s", len(part), part)
	}
	var key eventKey
	h.Sum(key[:0])
	return key
}

// limiter lets an event through once per interval. It remembers two generations, so that old events are forgotten without a sweep.
type limiter struct {
	interval time.Duration
	now      func() time.Time

	mu            sync.Mutex // guards what follows
	begun         time.Time
	recent, older map[eventKey]time.Time
}

func newLimiter(interval time.Duration, now func() time.Time) *limiter {
	return &limiter{interval: interval, now: now, begun: now(), recent: map[eventKey]time.Time{}}
}

// allow reports whether the event was not let through within the interval.
func (l *limiter) allow(key eventKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.Sub(l.begun) >= l.interval || len(l.recent) >= maxRemembered {
		l.older, l.recent, l.begun = l.recent, map[eventKey]time.Time{}, now
	}
	last, ok := l.recent[key]
	if !ok {
		last, ok = l.older[key]
	}
	if ok && now.Sub(last) < l.interval {
		return false
	}
	l.recent[key] = now
	return true
}
