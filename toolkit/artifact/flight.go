package artifact

import (
	"context"
	"fmt"
	"sync"
)

// flights lets callers that want the same thing at the same time share one piece of work. The work goes on while anybody waits for it,
// and is cancelled when the last one has left: no caller's deadline fails another. The key says which work is the same, so that it also
// fails for all alike.
type flights struct {
	mu      sync.Mutex // guards running and the waiters of each flight
	running map[string]*flight
}

type flight struct {
	waiters int
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // to be read after done is closed
}

func (f *flights) do(ctx context.Context, key string, work func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f.mu.Lock()
	fl := f.running[key]
	if fl == nil {
		if f.running == nil {
			f.running = map[string]*flight{}
		}
		fl = f.start(ctx, key, work)
	}
	fl.waiters++
	f.mu.Unlock()

	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
	}
	if !f.leave(key, fl) {
		return context.Cause(ctx)
	}
	// The work ends soon now, and knows what it was stuck on.
	<-fl.done
	if fl.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), fl.err)
}

// leave cancels the work and returns true if nobody else waits for it.
func (f *flights) leave(key string, fl *flight) (last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiters--; fl.waiters > 0 {
		return false
	}
	fl.cancel()
	// Whoever asks from now on must not join work that is being given up.
	if f.running[key] == fl {
		delete(f.running, key)
	}
	return true
}

func (f *flights) start(ctx context.Context, key string, work func(context.Context) error) *flight {
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl := &flight{cancel: cancel, done: make(chan struct{})}
	f.running[key] = fl
	go func() {
		defer cancel()
		err := work(shared)
		f.mu.Lock()
		defer f.mu.Unlock()
		fl.err = err
		if f.running[key] == fl {
			delete(f.running, key)
		}
		close(fl.done)
	}()
	return fl
}
