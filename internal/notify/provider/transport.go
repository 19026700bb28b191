package provider

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/guard"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// maxTransports bounds how many transports with TLS material or a proxy of their own are kept.
const maxTransports = 128

// Transports are the ways out of the process, shared by the Providers that need the same one, so that their connections are used again.
// The zero value is ready.
type Transports struct {
	mu   sync.Mutex // guards what follows
	kept map[[sha256.Size]byte]*http.Transport
}

// Get returns the transport for TLS material and a proxy; either may be nil. Only the CA of the material is trusted (provider 7).
func (t *Transports) Get(material *secret.TLSMaterial, proxy *url.URL) (*http.Transport, *tls.Config, error) {
	var config *tls.Config
	key := sha256.New()
	if material != nil {
		var err error
		if config, err = material.Config(); err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(key, "%d %s%d %s%d %s", len(material.CA), material.CA, len(material.Cert), material.Cert, len(material.Key), material.Key)
	}
	if proxy != nil {
		fmt.Fprintf(key, "proxy %s", proxy)
	}
	var sum [sha256.Size]byte
	key.Sum(sum[:0])
	t.mu.Lock()
	defer t.mu.Unlock()
	if found := t.kept[sum]; found != nil {
		return found, config, nil
	}
	if t.kept == nil || len(t.kept) >= maxTransports {
		for _, old := range t.kept {
			old.CloseIdleConnections()
		}
		t.kept = map[[sha256.Size]byte]*http.Transport{}
	}
	made := newTransport(config, proxy)
	t.kept[sum] = made
	return made, config, nil
}

// Close closes the connections nobody uses.
func (t *Transports) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, each := range t.kept {
		each.CloseIdleConnections()
	}
}

func newTransport(config *tls.Config, proxy *url.URL) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: guard.Control}
	through := http.ProxyFromEnvironment
	if proxy != nil {
		through = http.ProxyURL(proxy)
	}
	return &http.Transport{
		Proxy: through, DialContext: dialer.DialContext, TLSClientConfig: config, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
	}
}
