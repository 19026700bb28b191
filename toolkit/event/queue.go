package event

import (
	"context"
	"fmt"
	"sync"
)

// queue is a bounded queue with one worker: it accepts without waiting, or refuses.
type queue[T any] struct {
	mu     sync.RWMutex // guards closed, and items against a send after its close
	closed bool
	items  chan T

	ctx    context.Context // ends when a shutdown ran out of time
	cancel context.CancelFunc
	done   chan struct{} // closed when the worker has left
}

// startQueue starts the worker, which calls handle for one item after another. handle returns soon once its context has ended.
func startQueue[T any](size int, handle func(context.Context, T)) *queue[T] {
	q := &queue[T]{items: make(chan T, size), done: make(chan struct{})}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(q.done)
		for item := range q.items {
			handle(q.ctx, item)
		}
	}()
	return q
}

// offer reports how the queue took the item: resultQueued, resultQueueFull or resultShutdown.
func (q *queue[T]) offer(item T) string {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return resultShutdown
	}
	select {
	case q.items <- item:
		return resultQueued
	default:
		return resultQueueFull
	}
}

// shutdown refuses new items and waits until the accepted ones are handled. When ctx ends first, the rest is handed to handle with an
// ended context and an error tells how many there were.
func (q *queue[T]) shutdown(ctx context.Context) error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.items)
	}
	q.mu.Unlock()
	select {
	case <-q.done:
		q.cancel()
		return nil
	case <-ctx.Done():
	}
	waiting := len(q.items)
	q.cancel()
	<-q.done
	return fmt.Errorf("deliver events before shutdown: %d still waited: %w", waiting, context.Cause(ctx))
}
