package sourcetest

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// fault is what the front does to requests in place of, or with, the answer of the server behind it.
type fault int

const (
	well fault = iota
	// hangs: the request is taken and never answered.
	hangs
	// halves: the answer ends after half of its bytes.
	halves
	// throttles: 429, with Retry-After.
	throttles
	// breaks: 500.
	breaks
)

// retryAfter is what a throttling front asks for, in seconds.
const retryAfter = 77

// front is the server that a source talks to: the kind's own one, behind faults.
type front struct {
	server *httptest.Server
	behind http.Handler

	mu       sync.Mutex // guards what follows
	fault    fault
	requests int
	user     string
	password string
	released chan struct{}
}

// newFront serves the handler over HTTP, or over TLS with a certificate of the authority.
func newFront(t testing.TB, behind http.Handler, ca *testkit.CA) *front {
	t.Helper()
	f := &front{behind: behind, released: make(chan struct{})}
	f.server = httptest.NewUnstartedServer(f)
	if ca == nil {
		f.server.Start()
	} else {
		certPEM, keyPEM, err := ca.Issue("server")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		f.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		f.server.StartTLS()
	}
	t.Cleanup(f.close)
	return f
}

// close ends the server; hanging requests end, too.
func (f *front) close() {
	f.mu.Lock()
	released := f.released
	f.released = nil
	f.mu.Unlock()
	if released != nil {
		close(released)
		f.server.CloseClientConnections()
		f.server.Close()
	}
}

func (f *front) set(fault fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// protect asks for credentials from now on.
func (f *front) protect(user, password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.user, f.password = user, password
}

// seen returns how many requests arrived since the last call.
func (f *front) seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.requests
	f.requests = 0
	return n
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests++
	fault, user, password, released := f.fault, f.user, f.password, f.released
	f.mu.Unlock()
	if user != "" {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
	}
	switch fault {
	case hangs:
		select {
		case <-released:
		case <-r.Context().Done():
		}
	case halves:
		halve(w, r, f.behind)
	case throttles:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		http.Error(w, "slow down", http.StatusTooManyRequests)
	case breaks:
		http.Error(w, "out of order", http.StatusInternalServerError)
	default:
		f.behind.ServeHTTP(w, r)
	}
}

// halve sends the answer of the handler with its full length announced, and closes the connection half way.
func halve(w http.ResponseWriter, r *http.Request, behind http.Handler) {
	answer := httptest.NewRecorder()
	behind.ServeHTTP(answer, r)
	body := answer.Body.Bytes()
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	if r.Method == http.MethodHead || len(body) < 2 {
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body[:len(body)/2])
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	panic(http.ErrAbortHandler)
}

// refused is the address of a server that is gone: nobody listens there.
func refused(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}
