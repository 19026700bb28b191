package artifact_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// pipes is a listener whose connections are in memory, unbuffered, and obey the clock of the test.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	server, client := net.Pipe()
	p.accept <- server
	return client, nil
}

// serve runs the server of a store with one file; done ends it.
func serve(t *testing.T, size int) (p *pipes, path string, done func()) {
	t.Helper()
	s := open(t, t.TempDir(), artifact.StoreOptions{})
	a, err := s.Put(t.Context(), app("f"), func(w io.Writer) error {
		_, err := w.Write(make([]byte, size))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p = &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	server := artifact.Server(":9090", s.Handler())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(p) }()
	return p, a.Path, func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}

// reliability 077: clients that open a connection and say nothing, or not all, are cut off, and others are served meanwhile.
func TestServerCutsOffHalfOpenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, path, done := serve(t, 10)
		defer done()
		for _, said := range []string{"", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-Never: "} {
			conn, _ := p.dial(t.Context(), "", "")
			if _, err := io.WriteString(conn, said); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			client := &http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}}
			response, err := client.Get("http://store.test/" + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if took := time.Since(start); response.StatusCode != http.StatusOK || took > time.Second {
				t.Errorf("after %q another client got %d in %s", said, response.StatusCode, took)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("after %q: %v", said, err)
			}
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("after %q the connection stayed open for %s", said, took)
			}
			_ = conn.Close()
		}
	})
}

// reliability 127: a slow reader gets everything, however long it takes; one that has stopped reading is cut off.
func TestServerIsPatientWithSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		p, path, done := serve(t, size)
		defer done()
		get := func() *http.Response {
			t.Helper()
			transport := &http.Transport{DialContext: p.dial, DisableKeepAlives: true}
			response, err := transport.RoundTrip(must(http.NewRequest(http.MethodGet, "http://store.test/"+path, nil)))
			if err != nil {
				t.Fatal(err)
			}
			return response
		}
		slow := get()
		defer slow.Body.Close()
		start := time.Now()
		for got := int64(0); got < size; {
			n, err := io.CopyN(io.Discard, slow.Body, 64<<10)
			if got += n; err != nil {
				t.Fatalf("after %d bytes and %s: %v", got, time.Since(start), err)
			}
			time.Sleep(30 * time.Second)
		}
		if took := time.Since(start); took < 30*time.Minute {
			t.Errorf("the reader was not slow: %s", took)
		}

		stopped := get()
		defer stopped.Body.Close()
		time.Sleep(5 * time.Minute)
		if n, err := io.Copy(io.Discard, stopped.Body); err == nil {
			t.Errorf("got all %d bytes after a pause of five minutes", n)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
