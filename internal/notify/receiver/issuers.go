package receiver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/utils/clock"
)

const (
	// googleIssuer signs the tokens of type gcr (receiver 25).
	googleIssuer = "https://accounts.google.com"
	// maxToken is the largest token in bytes.
	maxToken = 16 << 10
	// maxKeys is how many keys of an issuer are tried on a token that does not say which.
	maxKeys = 20
	// maxIssuers is how many issuers are remembered; the one that was asked for longest ago makes room.
	maxIssuers = 100
	// keysFor is how long keys are used without asking again (receiver 38).
	keysFor = time.Hour
	// askAgain is how long an issuer is left alone after it was asked: tokens with unknown keys cost nothing to make.
	askAgain = 10 * time.Second
	// answerTime bounds each of the two requests to an issuer.
	answerTime = 5 * time.Second
	// maxAnswer is the largest answer of an issuer in bytes.
	maxAnswer = 1 << 20
	// maxRedirects is how many redirects of an issuer are followed, all to itself.
	maxRedirects = 3
	// skew is how far the clocks of issuers may be ahead.
	skew = time.Minute
)

// algorithms are those with a public key. That "none" and HMACs are missing is what keeps a public key from signing tokens.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
	}
}

// issuersOptions are what tests replace.
type issuersOptions struct {
	transport http.RoundTripper
	clock     clock.PassiveClock
	google    string
}

// issuers verifies tokens with the keys that their issuers publish.
type issuers struct {
	http   *http.Client
	clock  clock.PassiveClock
	google string

	mu    sync.Mutex // guards known and the used of its values
	known map[string]*issuer
}

// issuer is what is remembered of one.
type issuer struct {
	url  string
	used time.Time

	turn  chan struct{} // held by who reads or writes what follows
	keys  []jose.JSONWebKey
	until time.Time // keys are good until then
	asked time.Time // when the issuer was asked last
	err   error     // what came of it
}

func newIssuers(o issuersOptions) *issuers {
	if o.transport == nil {
		o.transport = issuerTransport()
	}
	if o.clock == nil {
		o.clock = clock.RealClock{}
	}
	if o.google == "" {
		o.google = googleIssuer
	}
	return &issuers{
		http:  &http.Client{Transport: o.transport, CheckRedirect: stayAtHome},
		clock: o.clock, google: o.google, known: map[string]*issuer{},
	}
}

// issuerTransport refuses link-local addresses: users name issuers, and there the clouds keep the credentials of machines.
func issuerTransport() http.RoundTripper {
	dialer := &net.Dialer{Timeout: answerTime, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("the address of the issuer: %w", err)
		}
		if ip := at.Addr().Unmap(); ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
			return errors.New("the issuer has an address that no issuer has")
		}
		return nil
	}}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: answerTime,
		MaxIdleConns: maxIssuers, MaxIdleConnsPerHost: 1, IdleConnTimeout: idleTimeout, MaxResponseHeaderBytes: 64 << 10,
	}
}

// stayAtHome follows a few redirects within one origin.
func stayAtHome(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > maxRedirects || r.URL.Scheme != first.Scheme || r.URL.Host != first.Host {
		return errors.New("the issuer redirects elsewhere, or too often")
	}
	return nil
}

// bearer returns the token of a call and the issuer it claims to have.
func bearer(h http.Header) (*jwt.JSONWebToken, string, error) {
	scheme, raw, _ := strings.Cut(h.Get("Authorization"), " ")
	if raw = strings.TrimSpace(raw); !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return nil, "", errors.New("the header Authorization with a Bearer token is missing")
	}
	if len(raw) > maxToken {
		return nil, "", fmt.Errorf("the token is larger than %d bytes", maxToken)
	}
	token, err := jwt.ParseSigned(raw, algorithms())
	if err != nil {
		return nil, "", errors.New("the bearer token is not a JWT that is signed with a key pair")
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return nil, "", errors.New("the claims of the token cannot be read")
	}
	return token, claims.Issuer, nil
}

// verifyGoogle verifies an ID token of Google, which has two ways to write its name.
func (i *issuers) verifyGoogle(ctx context.Context, h http.Header, audience string) (map[string]any, error) {
	token, _, err := bearer(h)
	if err != nil {
		return nil, err
	}
	_, short, _ := strings.Cut(i.google, "://")
	return i.verify(ctx, token, i.google, []string{i.google, short}, audience)
}

// verify checks the signature of a token with the keys of the issuer at a URL, and that the token is of one of the names of the issuer, for
// the audience, and of now. It returns the claims.
func (i *issuers) verify(ctx context.Context, token *jwt.JSONWebToken, from string, names []string, audience string) (map[string]any, error) {
	header := token.Headers[0]
	keys, err := i.keysOf(ctx, from, header.KeyID)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	var standard jwt.Claims
	signed := false
	for _, key := range keys {
		if key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if token.Claims(key.Key, &standard, &claims) == nil {
			signed = true
			break
		}
	}
	if !signed {
		return nil, errors.New("the token is not signed with a key of its issuer")
	}
	now := i.clock.Now()
	switch {
	case standard.Issuer == "" || !slices.Contains(names, standard.Issuer):
		return nil, errors.New("the token is of another issuer")
	case !standard.Audience.Contains(audience):
		return nil, errors.New("the token is for another audience")
	case standard.Expiry == nil || !now.Before(standard.Expiry.Time()):
		return nil, errors.New("the token has expired, or does not say when it will")
	case standard.NotBefore != nil && now.Add(skew).Before(standard.NotBefore.Time()),
		standard.IssuedAt != nil && now.Add(skew).Before(standard.IssuedAt.Time()):
		return nil, errors.New("the token is of the future")
	}
	return claims, nil
}

// keysOf returns the keys of an issuer that may have signed a token with the key id; an empty id is that of all. An unknown id lets the
// issuer be asked, unless it just was: that is how a rotation shows.
func (i *issuers) keysOf(ctx context.Context, url, id string) ([]jose.JSONWebKey, error) {
	is := i.remember(url)
	select {
	case is.turn <- struct{}{}:
		defer func() { <-is.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the keys of the issuer: %w", ctx.Err())
	}
	now := i.clock.Now()
	if now.Before(is.until) {
		if keys := is.pick(id); len(keys) > 0 {
			return keys, nil
		}
	}
	if is.asked.IsZero() || now.Sub(is.asked) >= askAgain {
		keys, err := i.fetch(ctx, url)
		is.asked, is.err = i.clock.Now(), err
		if err == nil {
			is.keys, is.until = keys, is.asked.Add(keysFor)
		}
	}
	switch keys := is.pick(id); {
	case is.err != nil:
		return nil, fmt.Errorf("asking the issuer '%s' for its keys: %w", url, is.err)
	case len(keys) == 0:
		return nil, errors.New("the issuer does not know the key of the token")
	default:
		return keys, nil
	}
}

// remember returns the issuer of a URL.
func (i *issuers) remember(url string) *issuer {
	i.mu.Lock()
	defer i.mu.Unlock()
	is := i.known[url]
	if is == nil {
		if len(i.known) >= maxIssuers {
			var oldest *issuer
			for _, other := range i.known {
				if oldest == nil || other.used.Before(oldest.used) {
					oldest = other
				}
			}
			delete(i.known, oldest.url)
		}
		is = &issuer{url: url, turn: make(chan struct{}, 1)}
		i.known[url] = is
	}
	is.used = i.clock.Now()
	return is
}

func (is *issuer) pick(id string) []jose.JSONWebKey {
	var out []jose.JSONWebKey
	for _, key := range is.keys {
		if (id == "" || key.KeyID == id) && len(out) < maxKeys {
			out = append(out, key)
		}
	}
	return out
}

// fetch asks an issuer where its keys are, and then for them.
func (i *issuers) fetch(ctx context.Context, issuer string) ([]jose.JSONWebKey, error) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := i.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &document); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if document.Issuer != issuer {
		return nil, errors.New("discovery: the document is of another issuer")
	}
	at, err := url.Parse(document.Keys)
	if err != nil || at.Host == "" || at.Scheme != "https" && (at.Scheme != "http" || strings.HasPrefix(issuer, "https:")) {
		return nil, errors.New("discovery: jwks_uri is no URL with https")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := i.get(ctx, at.String(), &set); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// Keys of a sort that is not known are of no use, but no reason to do without the others.
		if key.UnmarshalJSON(raw) == nil && key.IsPublic() && key.Valid() && key.Use != "enc" {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("keys: there are none for signatures")
	}
	return keys, nil
}

// get reads JSON. The error repeats nothing of the answer.
func (i *issuers) get(ctx context.Context, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("the address is not a URL")
	}
	r.Header.Set("Accept", "application/json")
	answer, err := i.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("unexpected status %d", answer.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return decodeJSON(data, into)
}
