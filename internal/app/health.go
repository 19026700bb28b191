package app

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
)

// readiness knows which components work, and why the others do not.
type readiness struct {
	mu      sync.Mutex // guards waiting
	waiting map[string]string
}

func newReadiness(components []chosen) *readiness {
	r := &readiness{waiting: map[string]string{}}
	for _, c := range components {
		r.waiting[c.Name] = "starting"
	}
	return r
}

// set notes why a component waits; empty: it works. It reports whether all components work now.
func (r *readiness) set(name, reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reason == "" {
		delete(r.waiting, name)
	} else {
		r.waiting[name] = reason
	}
	return len(r.waiting) == 0
}

func (r *readiness) get(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[name]
}

// check is the readiness endpoint. A process that waits for a lease is as ready as it can be.
func (r *readiness) check(*http.Request) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, reason := range r.waiting {
		if reason != "waiting for the lease" {
			return fmt.Errorf("%s: %s", name, reason)
		}
	}
	return nil
}

// debugHandlers are the profiling endpoints beside the metrics (wire.md 11). They answer on loopback only, which
// a port-forward reaches and a neighbour in the cluster does not.
func debugHandlers() map[string]http.Handler {
	handlers := map[string]http.Handler{
		"/debug/pprof/":        http.HandlerFunc(pprof.Index),
		"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
	}
	for path, h := range handlers {
		handlers[path] = loopbackOnly(h)
	}
	return handlers
}

func loopbackOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
