package frame

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/loop"
)

const (
	// patience is how long a call keeps its work slot while its server does not answer. Most answer sooner by far. It is
	// divided among the servers that are known to be slow and one more: many that hang must not hold the slots for as
	// long as all of them together are waited for (reliability 069).
	patience = 3 * time.Second
	// perHost is how many calls without a work slot wait for one server at a time; further ones stand in line.
	perHost = 8
)

// DefaultMaxFetchTime bounds what spec.timeout can ask for: a run has to end some day.
const DefaultMaxFetchTime = time.Hour

// Hosts keeps servers apart. A call that a server lets wait gives its work slot back, and as long as such a call is under
// way, further ones to the same server begin without one: a server that hangs delays its own sources and no others
// (reliability 069).
type Hosts struct {
	// MaxFetchTime bounds what spec.timeout can ask for; zero: DefaultMaxFetchTime.
	MaxFetchTime time.Duration

	clock clock.Clock

	mu   sync.Mutex // guards slow
	slow map[string]*slowHost
}

// slowHost is a server with calls that have lost their patience.
type slowHost struct {
	calls int
	slots chan struct{}
}

// NewHosts returns a Hosts without any slow server; a nil clock is the system's.
func NewHosts(c clock.Clock) *Hosts {
	if c == nil {
		c = clock.RealClock{}
	}
	return &Hosts{clock: c, slow: map[string]*slowHost{}}
}

// maxFetchTime bounds a step of a run against any server.
func (h *Hosts) maxFetchTime() time.Duration {
	if h == nil || h.MaxFetchTime <= 0 {
		return DefaultMaxFetchTime
	}
	return h.MaxFetchTime
}

// call runs f, which talks to the server, with the work slot of the run or, where that takes long, without.
func (h *Hosts) call(ctx context.Context, run *loop.Run, server string, f func(context.Context) error) error {
	if host := h.enter(server, false); host != nil {
		defer h.leave(server)
		return run.Park(ctx, func(ctx context.Context) error {
			select {
			case host.slots <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			defer func() { <-host.slots }()
			return f(ctx)
		})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := h.clock.NewTimer(h.patience())
	defer timer.Stop()
	done := make(chan outcome, 1)
	go func() { done <- protect(func() error { return f(ctx) }) }()
	select {
	case o := <-done:
		return o.result()
	case <-timer.C():
	}
	h.enter(server, true)
	defer h.leave(server)
	var o outcome
	err := run.Park(ctx, func(parked context.Context) error {
		select {
		case o = <-done:
			return o.err
		case <-parked.Done():
			cancel(context.Cause(parked))
			o = <-done
			return context.Cause(parked)
		}
	})
	if o.panicked != nil {
		return o.result()
	}
	return err
}

// patience is that of the next call.
func (h *Hosts) patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return patience / time.Duration(1+len(h.slow))
}

// enter counts a call to a slow server. It returns nil for a server that is not slow, unless the call says it is.
func (h *Hosts) enter(server string, slow bool) *slowHost {
	h.mu.Lock()
	defer h.mu.Unlock()
	host := h.slow[server]
	if host == nil {
		if !slow {
			return nil
		}
		host = &slowHost{slots: make(chan struct{}, perHost)}
		h.slow[server] = host
	}
	host.calls++
	return host
}

func (h *Hosts) leave(server string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	host := h.slow[server]
	if host.calls--; host.calls == 0 {
		delete(h.slow, server)
	}
}

// outcome is how a call ended. A panic is carried to the goroutine of the run, where the loop contains it.
type outcome struct {
	err      error
	panicked any
}

func (o outcome) result() error {
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

func protect(f func() error) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	return outcome{err: f()}
}
