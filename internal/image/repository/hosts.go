package repository

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

const (
	// perHost is how many calls to one registry are under way at a time; further ones stand in line. It is what lets
	// hundreds of images of one registry be scanned in seconds without a crowd of connections.
	perHost = 16
	// grace is how long a call may go on when something newer is to be done for its object. Nearly all end in time, so that
	// no answer of a registry is thrown away.
	grace = 3 * time.Second
)

// hosts keeps registries apart: calls hold no work slot, so that a registry that hangs delays its own images and no others.
type hosts struct {
	mu    sync.Mutex // guards lines
	lines map[string]*line
}

// line is the calls to one registry.
type line struct {
	callers int
	slots   chan struct{}
}

// call runs f without a work slot, when it is its turn at the registry, for at most the timeout.
func (h *hosts) call(ctx context.Context, run *loop.Run, host string, timeout time.Duration, f func(context.Context) error) error {
	l := h.enter(host)
	defer h.leave(host)
	err := run.Park(ctx, func(parked context.Context) error {
		if err := l.take(parked); err != nil {
			return err
		}
		defer func() { <-l.slots }()
		// The wait may be interrupted, what runs gets some time to end.
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stop := context.AfterFunc(parked, func() {
			t := time.NewTimer(grace)
			defer t.Stop()
			select {
			case <-t.C:
				cancel(context.Cause(parked))
			case <-ctx.Done():
			}
		})
		defer stop()
		bounded, cancelBounded := context.WithTimeout(ctx, timeout)
		defer cancelBounded()
		err := f(bounded)
		if err != nil && bounded.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("%w: the registry took longer than %s (spec.timeout)", err, timeout)
		}
		return err
	})
	if errors.Is(err, loop.ErrInterrupted) {
		return loop.Interrupted(meta.ProgressingReason, errors.New("interrupted by a newer request")).Quiet()
	}
	return err
}

// take waits for its turn. Whose turn it is already, is not interrupted.
func (l *line) take(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *hosts) enter(host string) *line {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lines == nil {
		h.lines = map[string]*line{}
	}
	l := h.lines[host]
	if l == nil {
		l = &line{slots: make(chan struct{}, perHost)}
		h.lines[host] = l
	}
	l.callers++
	return l
}

func (h *hosts) leave(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lines[host]
	if l.callers--; l.callers == 0 {
		delete(h.lines, host)
	}
}
