package hostile

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Stalled accepts connections, says its greeting and nothing more.
type Stalled struct {
	// Addr is its host:port on loopback.
	Addr string

	listener net.Listener
	mu       sync.Mutex // guards conns
	conns    []net.Conn
}

// NewStalled starts a listener. With hangUp it closes each connection after the greeting.
func NewStalled(greeting string, hangUp bool) (*Stalled, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	s := &Stalled{Addr: l.Addr().String(), listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// A client that is gone already is no concern of a server that says nothing.
			_, _ = c.Write([]byte(greeting))
			if hangUp {
				c.Close()
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
		}
	}()
	return s, nil
}

// Close ends the listener and its connections.
func (s *Stalled) Close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

// Connections is how many were accepted and kept.
func (s *Stalled) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Hang sends what was written so far and waits until the client goes.
func Hang(w http.ResponseWriter, r *http.Request) {
	// A client that cannot be sent anything goes soon.
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// Drip sends a byte now and then until the client goes.
func Drip(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, _ = w.Write([]byte("1"))
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// Echo refuses every request and repeats in the body what it was sent as credentials.
func Echo(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		w.WriteHeader(status)
		fmt.Fprintf(w, "refused: Authorization: %s (%s:%s) for %s", r.Header.Get("Authorization"), user, password, r.URL)
	})
}
