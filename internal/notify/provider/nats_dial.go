package provider

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"

	"github.com/seed-79636ae9/flux/toolkit/guard"
)

// natsDialer opens connections that end with a context, send no more than natsIncoming bytes, and go through a proxy if there is one.
type natsDialer struct {
	ctx   context.Context
	proxy *url.URL

	err  error // of the last dial; the library drops some
	stop []func() bool
}

// dialError is an error of reaching the server. It holds nothing that the server has said.
type dialError struct{ error }

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.error }

// Dial implements the dialer of the library, which knows no context.
func (d *natsDialer) Dial(network, address string) (net.Conn, error) {
	connection, err := d.dial(network, address)
	if err != nil {
		d.err = &dialError{err}
		return nil, d.err
	}
	d.err = nil
	d.stop = append(d.stop, context.AfterFunc(d.ctx, func() { _ = connection.Close() }))
	return &boundedConn{Conn: connection, left: natsIncoming}, nil
}

// close forgets the context; the library closes the connections.
func (d *natsDialer) close() {
	for _, stop := range d.stop {
		stop()
	}
}

func (d *natsDialer) dial(network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: guard.Control}
	if d.proxy == nil {
		return dialer.DialContext(d.ctx, network, address)
	}
	switch d.proxy.Scheme {
	case "http", "https":
		return tunnel(d.ctx, dialer, d.proxy, address)
	}
	through, err := proxy.FromURL(d.proxy, dialer)
	if err != nil {
		return nil, errors.New("the proxy has a scheme that is not known: use http, https or socks5")
	}
	if aware, ok := through.(proxy.ContextDialer); ok {
		return aware.DialContext(d.ctx, network, address)
	}
	return through.Dial(network, address)
}

// tunnel has an HTTP proxy connect to the address (RFC 9110, section 9.3.6).
func tunnel(ctx context.Context, dialer *net.Dialer, through *url.URL, address string) (_ net.Conn, err error) {
	port := through.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[through.Scheme]
	}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(through.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("connecting to the proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = connection.Close() })
	defer func() {
		if !stop() {
			err = ctx.Err()
		}
		if err != nil {
			_ = connection.Close()
		}
	}()
	if through.Scheme == "https" {
		secured := tls.Client(connection, &tls.Config{ServerName: through.Hostname(), MinVersion: tls.VersionTLS12})
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("connecting to the proxy: %w", err)
		}
		connection = secured
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := through.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(connection); err != nil {
		return nil, fmt.Errorf("asking the proxy: %w", err)
	}
	reader := bufio.NewReader(&boundedConn{Conn: connection, left: natsIncoming})
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, errors.New("the proxy does not answer as proxies do")
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the proxy refuses to connect: status code %d", response.StatusCode)
	}
	return &readerConn{connection, reader}, nil
}

// readerConn is a connection of which a part is read already.
type readerConn struct {
	net.Conn
	reader *bufio.Reader
}

// Read implements net.Conn.
func (c *readerConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// boundedConn is a connection from which a bounded number of bytes is read: those who read lines do not ask how long they are.
type boundedConn struct {
	net.Conn
	left int
}

var errTooMuch = errors.New("the other side sends without end")

// Read implements net.Conn.
func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
