package update

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// longestWait is how long an automation waits for others on the same branch. Pushes are safe without: whoever is slower starts
// again. Waiting saves work, but one whose server or proxy hangs must not hold up those of others.
const longestWait = 15 * time.Second

// branches lets automations push to a branch one after the other: those of one process need not race.
type branches struct {
	clock clock.Clock

	mu    sync.Mutex // guards locks
	locks map[string]*branchLock
}

// branchLock is held by whoever has put something into held.
type branchLock struct {
	held  chan struct{}
	users int // guarded by branches.mu
}

func newBranches(c clock.Clock) *branches {
	return &branches{clock: c, locks: map[string]*branchLock{}}
}

// lock waits, without a work slot, until nobody else works on the branch or the wait has been long. What ends a parked wait does
// not end this one: the run looks at its object again before it pushes.
func (b *branches) lock(ctx context.Context, run *loop.Run, key string) (unlock func(), err error) {
	b.mu.Lock()
	l := b.locks[key]
	if l == nil {
		l = &branchLock{held: make(chan struct{}, 1)}
		b.locks[key] = l
	}
	l.users++
	b.mu.Unlock()
	held := true
	select {
	case l.held <- struct{}{}:
	default:
		held = false
		err = run.Park(ctx, func(context.Context) error {
			timer := b.clock.NewTimer(longestWait)
			defer timer.Stop()
			select {
			case l.held <- struct{}{}:
				held = true
				return nil
			case <-timer.C():
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}
	unlock = func() {
		if held {
			<-l.held
		}
		b.leave(key, l)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (b *branches) leave(key string, l *branchLock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(b.locks, key)
	}
}

// branchKey names a branch of a repository, whoever signs in and by whichever protocol.
func branchKey(rawURL, branch string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return rawURL + "\n" + branch
	}
	return strings.ToLower(u.Host) + strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git") + "\n" + branch
}

// patience is how long a call keeps its work slot while its server does not answer.
const patience = 3 * time.Second

// hosts keeps servers apart: a call that a server lets wait gives its work slot back, and while it does, further calls to the same
// server begin without one. A server that hangs costs only those who need it.
type hosts struct {
	clock clock.Clock

	mu   sync.Mutex // guards slow
	slow map[string]int
}

func newHosts(c clock.Clock) *hosts { return &hosts{clock: c, slow: map[string]int{}} }

// call runs f, which talks to the server and does not touch the object.
func (h *hosts) call(ctx context.Context, run *loop.Run, server string, f func() error) error {
	if h.isSlow(server) {
		h.mark(server, 1)
		defer h.mark(server, -1)
		return run.Park(ctx, func(context.Context) error { return f() })
	}
	type outcome struct {
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			o.panicked = recover()
			done <- o
		}()
		o.err = f()
	}()
	result := func(o outcome) error {
		if o.panicked != nil {
			// The loop makes an error of the object of it.
			panic(o.panicked)
		}
		return o.err
	}
	timer := h.clock.NewTimer(patience)
	defer timer.Stop()
	select {
	case o := <-done:
		return result(o)
	case <-timer.C():
	}
	h.mark(server, 1)
	defer h.mark(server, -1)
	var o outcome
	if err := run.Park(ctx, func(context.Context) error {
		o = <-done
		return nil
	}); err != nil {
		return err
	}
	return result(o)
}

func (h *hosts) isSlow(server string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.slow[server] > 0
}

func (h *hosts) mark(server string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.slow[server] += n; h.slow[server] == 0 {
		delete(h.slow, server)
	}
}
