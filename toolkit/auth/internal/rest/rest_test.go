package rest

import (
	"compress/gzip"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// A proxy must not be asked who this machine is.
func TestProxy(t *testing.T) {
	proxy := &url.URL{Scheme: "http", Host: "proxy:3128"}
	for target, through := range map[string]bool{
		"https://sts.amazonaws.com/":                 true,
		"http://127.0.0.1:1/":                        true,
		"http://169.254.169.254/latest":              false,
		"http://169.254.170.23/v1/credentials":       false,
		"http://[fd00:ec2::254]/latest":              false,
		"http://[fd00:ec2::23]/v1/credentials":       false,
		"http://metadata.google.internal/x":          false,
		"http://metadata.google.internal.evil.test/": true,
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := proxyFor(proxy)(&http.Request{URL: u})
		if err != nil || (got != nil) != through {
			t.Errorf("proxy of %s = %v, %v, want one: %t", target, got, err, through)
		}
	}
}

// The limit is that of the unpacked answer.
func TestLimit(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(strings.Repeat("x", 1000)))
		_ = z.Close()
	}))
	t.Cleanup(server.Close)
	for limit, fits := range map[int64]bool{999: false, 1000: true} {
		request, err := Get(t.Context(), server.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := Bytes(Client(nil, nil, limit), request)
		if fits != (err == nil) || !fits && !errors.Is(err, ErrLimit) || fits && len(body) != 1000 {
			t.Errorf("limit %d: %d bytes, error = %v", limit, len(body), err)
		}
	}
}

// What a server says is shortened to one line.
func TestReason(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("a\n\xff b " + strings.Repeat("c", 1000)))
	}))
	t.Cleanup(server.Close)
	request, err := Get(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Bytes(Client(nil, nil, 1<<20), request)
	status, ok := errors.AsType[*StatusError](err)
	if !ok || status.Code != http.StatusTeapot || !strings.HasPrefix(status.Reason, "a b ccc") || len(status.Reason) > maxReason {
		t.Errorf("error = %v", err)
	}
}
