package event

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff waits twice as long each time, from firstRetry to lastRetry, half of it by chance so that processes that lost the same
// receiver do not return together.
type backoff struct{ next time.Duration }

func (b *backoff) pause(ctx context.Context) {
	if b.next == 0 {
		b.next = firstRetry
	}
	wait := b.next/2 + rand.N(b.next/2)
	b.next = min(2*b.next, lastRetry)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
