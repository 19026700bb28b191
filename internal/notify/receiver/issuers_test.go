package receiver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	testclock "k8s.io/utils/clock/testing"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/internal/notify/receiver/receivertest"
)

// issuerLab is an OIDC issuer on loopback.
type issuerLab struct {
	*httptest.Server
	t     *testing.T
	clock *testclock.FakeClock

	mu       sync.Mutex // guards what follows
	keys     map[string]crypto.Signer
	document func(w http.ResponseWriter)
	set      func(w http.ResponseWriter)
	asked    []string
}

func newIssuer(t *testing.T) *issuerLab {
	t.Helper()
	i := &issuerLab{t: t, keys: map[string]crypto.Signer{}, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))}
	i.Server = httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	i.rotate("one")
	return i
}

func (i *issuerLab) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = append(i.asked, r.URL.Path)
	switch {
	case r.URL.Path == "/.well-known/openid-configuration" && i.document != nil:
		i.document(w)
	case r.URL.Path == "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
	case r.URL.Path == "/keys" && i.set != nil:
		i.set(w)
	case r.URL.Path == "/keys":
		var set jose.JSONWebKeySet
		for id, key := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: id, Key: key.Public(), Use: "sig"})
		}
		if err := json.NewEncoder(w).Encode(set); err != nil {
			i.t.Error(err)
		}
	default:
		http.NotFound(w, r)
	}
}

// answering changes what the issuer answers; nil: what it should.
func (i *issuerLab) answering(document, set func(w http.ResponseWriter)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.document, i.set = document, set
}

// rotate replaces the keys by a new one.
func (i *issuerLab) rotate(id string) crypto.Signer {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = map[string]crypto.Signer{id: key}
	return key
}

func (i *issuerLab) requests() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.asked)
}

// issuers are ours, as Google's.
func (i *issuerLab) issuers() *issuers {
	return newIssuers(issuersOptions{clock: i.clock, google: i.URL})
}

// claims of a token that is good for an hour.
func (i *issuerLab) claims(change map[string]any) map[string]any {
	now := i.clock.Now()
	out := map[string]any{
		"iss": i.URL, "aud": DefaultAudience, "sub": "repo:x/app", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(out, change)
	for name, value := range out {
		if value == nil {
			delete(out, name)
		}
	}
	return out
}

// token returns a token of the issuer with the claims changed; nil takes one away.
func (i *issuerLab) token(change map[string]any) string {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, key := range i.keys {
		return tokenOf(i.t, jose.ES256, jose.JSONWebKey{KeyID: id, Key: key}, i.claims(change))
	}
	i.t.Fatal("the issuer has no key")
	return ""
}

func tokenOf(t *testing.T, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signature.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func bearerOf(token string) func(http.Header, []byte) { return set("Authorization", "Bearer "+token) }

// publicPEM is a public key as an attacker would use it for a secret.
func publicPEM(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// wrongOIDCTokens are what no issuer has signed for this audience, now.
func (i *issuerLab) wrongOIDCTokens() []receivertest.Wrong {
	t, now := i.t, i.clock.Now()
	i.mu.Lock()
	real := i.keys["one"]
	i.mu.Unlock()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(part string) string { return base64.RawURLEncoding.EncodeToString([]byte(part)) }
	payload, err := json.Marshal(i.claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	good := i.token(nil)
	parts := strings.Split(good, ".")
	out := []receivertest.Wrong{
		{Name: "other key", Change: bearerOf(tokenOf(t, jose.ES256, jose.JSONWebKey{KeyID: "one", Key: other}, i.claims(nil)))},
		{Name: "other key, not named", Change: bearerOf(tokenOf(t, jose.ES256, other, i.claims(nil)))},
		{Name: "algorithm none", Change: bearerOf(raw(`{"alg":"none","typ":"JWT"}`) + "." + raw(string(payload)) + ".")},
		{Name: "algorithm none with a signature", Change: bearerOf(raw(`{"alg":"none"}`) + "." + raw(string(payload)) + "." + parts[2])},
		{Name: "HMAC with the public key", Change: bearerOf(tokenOf(t, jose.HS256, publicPEM(t, real), i.claims(nil)))},
		{Name: "other claims", Change: bearerOf(parts[0] + "." + raw(`{"iss":"`+i.URL+`"}`) + "." + parts[2])},
		{Name: "no signature", Change: bearerOf(parts[0] + "." + parts[1] + ".")},
		{Name: "no JWT", Change: bearerOf(receivertest.Canary)},
		{Name: "empty", Change: set("Authorization", "")},
		{Name: "empty bearer", Change: set("Authorization", "Bearer ")},
		{Name: "no bearer", Change: set("Authorization", good)},
		{Name: "basic", Change: set("Authorization", "Basic "+good)},
		{Name: "too large", Change: bearerOf(i.token(map[string]any{"x": strings.Repeat("x", 17<<10)}))},
		{Name: "nested", Change: bearerOf(parts[0] + "." + raw(strings.Repeat("[", 11<<10)) + "." + parts[2])},
	}
	for name, change := range map[string]map[string]any{
		"issuer": {"iss": "https://elsewhere.test"}, "no issuer": {"iss": nil}, "issuer of another type": {"iss": []string{i.URL}},
		"audience": {"aud": "somebody"}, "no audience": {"aud": nil}, "audience of another type": {"aud": 1},
		"expired": {"exp": now.Unix()}, "never expires": {"exp": nil}, "expires as text": {"exp": "tomorrow"},
		"future": {"nbf": now.Add(2 * time.Minute).Unix()}, "made in the future": {"iat": now.Add(2 * time.Minute).Unix()},
	} {
		out = append(out, receivertest.Wrong{Name: name, Change: bearerOf(i.token(change))})
	}
	return out
}

func oidcSpec(i *issuerLab, change ...func(*notificationv1.OIDCProvider)) func(*notificationv1.ReceiverSpec) {
	return func(spec *notificationv1.ReceiverSpec) {
		spec.OIDCProviders = []notificationv1.OIDCProvider{{
			IssuerURL:   i.URL,
			Variables:   []notificationv1.OIDCVariable{{Name: "sub", Expression: "claims.sub"}, {Name: "isApp", Expression: "vars.sub == 'repo:x/app'"}},
			Validations: []notificationv1.OIDCValidation{{Expression: "vars.isApp", Message: "another repository"}},
		}}
		for _, f := range change {
			f(&spec.OIDCProviders[0])
		}
	}
}

// receiver 28, 37, 38
func TestGenericOIDC(t *testing.T) {
	i := newIssuer(t)
	i.clock.SetTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	receivertest.Suite{
		Type: "generic-oidc", Body: pushed, Spec: oidcSpec(i), Prove: func(h http.Header, body []byte) { bearerOf(i.token(nil))(h, body) },
		Wrong: append(i.wrongOIDCTokens(), receivertest.Wrong{Name: "validation", Change: bearerOf(i.token(map[string]any{"sub": "repo:x/other"}))}),
	}.Run(t, func(t *testing.T, spec notificationv1.ReceiverSpec, secret map[string][]byte) receivertest.Served {
		return serveWith(t, spec, secret, i.issuers())
	})
}

// receiver 25
func TestGCR(t *testing.T) {
	i := newIssuer(t)
	const email = "push@project.iam.gserviceaccount.com"
	google := func(change map[string]any) string {
		claims := map[string]any{"aud": "https://hooks.test", "email": email, "email_verified": true}
		maps.Copy(claims, change)
		return i.token(claims)
	}
	body := func(data string) string {
		return fmt.Sprintf(`{"message":{"data":%q,"messageId":"1"},"subscription":"s"}`, base64.StdEncoding.EncodeToString([]byte(data)))
	}
	wrong := i.wrongOIDCTokens() // for another audience, all of them
	for name, change := range map[string]map[string]any{
		"email": {"email": "x@project.iam.gserviceaccount.com"}, "no email": {"email": nil}, "unverified": {"email_verified": false},
		"verified as text": {"email_verified": "true"}, "verified unknown": {"email_verified": nil}, "issuer": {"iss": "https://elsewhere.test"},
		"expired": {"exp": i.clock.Now().Unix()},
	} {
		wrong = append(wrong, receivertest.Wrong{Name: "Google/" + name, Change: bearerOf(google(change))})
	}
	suite := receivertest.Suite{
		Type: "gcr", Parses: true, Secret: map[string][]byte{"email": []byte(email), "audience": []byte("https://hooks.test")},
		Body:  body(`{"action":"INSERT","digest":"europe-docker.pkg.dev/p/r/app@sha256:0","tag":"europe-docker.pkg.dev/p/r/app:v1"}`),
		Prove: func(h http.Header, body []byte) { bearerOf(google(nil))(h, body) }, Wrong: wrong,
		Refused: map[string]string{
			"message": `{"message":null}`, "message text": `{"message":"x"}`, "data": `{"message":{"data":1}}`, "no data": `{"message":{}}`,
			"data null": `{"message":{"data":null}}`, "no base64": `{"message":{"data":"*"}}`, "no JSON": body(receivertest.Canary),
			"inner null": body("null"), "inner type": body(`{"tag":1}`),
		},
	}
	start := func(t *testing.T, spec notificationv1.ReceiverSpec, secret map[string][]byte) receivertest.Served {
		return serveWith(t, spec, secret, i.issuers())
	}
	suite.Run(t, start)
	t.Run("short issuer", func(t *testing.T) {
		suite.Prove = func(h http.Header, body []byte) {
			bearerOf(google(map[string]any{"iss": strings.TrimPrefix(i.URL, "http://")}))(h, body)
		}
		suite.Wrong = nil
		suite.Run(t, start)
	})
	// receiver 14: filters see what is in the message.
	t.Run("filter", func(t *testing.T) {
		spec := notificationv1.ReceiverSpec{
			Type: "gcr", ResourceFilter: `req.tag.endsWith(":v1")`, Resources: []notificationv1.ReceiverResource{resource("GitRepository", "app")},
		}
		l := serveWith(t, spec, map[string][]byte{"token": []byte("t"), "email": []byte(email), "audience": []byte("https://hooks.test")}, i.issuers())
		header := http.Header{"Authorization": {"Bearer " + google(nil)}}
		if code := l.post(header, body(`{"tag":"x:v2"}`)); code != 200 || l.Asked() != "" {
			t.Errorf("another tag: status %d, asked %q", code, l.Asked())
		}
		if code := l.post(header, body(`{"tag":"x:v1"}`)); code != 200 || l.Asked() == "" {
			t.Errorf("the tag: status %d, asked %q", code, l.Asked())
		}
	})
}

// receiver 37: every validation that does not hold is told, and errors of expressions count as such.
func TestValidations(t *testing.T) {
	i := newIssuer(t)
	spec := notificationv1.ReceiverSpec{Type: "generic-oidc", Resources: []notificationv1.ReceiverResource{resource("GitRepository", "app")}}
	oidcSpec(i, func(p *notificationv1.OIDCProvider) {
		p.Audience = "flux"
		p.Validations = []notificationv1.OIDCValidation{
			{Expression: "vars.isApp", Message: "another repository"}, {Expression: "true", Message: "never told"},
			{Expression: "claims.ref == 'main'", Message: "another branch"}, {Expression: "claims.missing", Message: "x"},
			{Expression: "claims.sub", Message: "x"},
		}
	})(&spec)
	l := serveWith(t, spec, nil, i.issuers())
	if code := l.post(http.Header{"Authorization": {"bearer " + i.token(map[string]any{"aud": "flux", "sub": "x", "ref": "y"})}}, ""); code != 400 {
		t.Errorf("status %d", code)
	}
	for _, want := range []string{"another repository; another branch; ", "no such key: missing", "the result is not a boolean"} {
		if !strings.Contains(l.Logs(), want) {
			t.Errorf("%q is not in the log:\n%s", want, l.Logs())
		}
	}
	if strings.Contains(l.Logs(), "never told") {
		t.Errorf("a validation that holds is told:\n%s", l.Logs())
	}
}

// receiver 2, 14: claims in the filters of generic-oidc.
func TestClaimsInFilters(t *testing.T) {
	i := newIssuer(t)
	spec := notificationv1.ReceiverSpec{
		Type: "generic-oidc", ResourceFilter: "res.metadata.name == claims.app",
		Resources: []notificationv1.ReceiverResource{resource("GitRepository", "app")},
	}
	oidcSpec(i)(&spec)
	l := serveWith(t, spec, nil, i.issuers())
	for app, asked := range map[string]bool{"other": false, "app": true} {
		before := l.Asked()
		code := l.post(http.Header{"Authorization": {"Bearer " + i.token(map[string]any{"app": app})}}, "")
		if code != 200 || (l.Asked() != before) != asked {
			t.Errorf("%s: status %d, asked %t", app, code, l.Asked() != before)
		}
	}
}

// receiver 38: keys are asked for once, a rotation shows at once, and tokens with made-up keys cost the issuer nothing.
func TestKeysAreKept(t *testing.T) {
	i := newIssuer(t)
	keys := i.issuers()
	verify := func(token string) error {
		t.Helper()
		parsed, issuer, err := bearer(http.Header{"Authorization": {"Bearer " + token}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = keys.verify(t.Context(), parsed, issuer, []string{issuer}, DefaultAudience)
		return err
	}
	for range 3 {
		if err := verify(i.token(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.requests(); n != 2 {
		t.Errorf("%d requests to the issuer, want 2", n)
	}
	old := i.token(nil)
	i.rotate("two")
	i.clock.Step(askAgain)
	if err := verify(i.token(nil)); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	if err := verify(old); err == nil {
		t.Error("a key that was taken back still counts")
	}
	before := i.requests()
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		if verify(tokenOf(t, jose.ES256, jose.JSONWebKey{KeyID: fmt.Sprint(n), Key: stranger}, i.claims(nil))) == nil {
			t.Fatal("a made-up key is accepted")
		}
	}
	if n := i.requests(); n != before {
		t.Errorf("made-up keys cost %d requests", n-before)
	}
	i.clock.Step(keysFor)
	if err := verify(i.token(nil)); err != nil {
		t.Error(err)
	}
	if n := i.requests(); n != before+2 {
		t.Errorf("%d requests after the keys have aged, want 2", n-before)
	}
}

// What an issuer may answer, and what becomes of it: an error of the call, and the next one goes well.
func TestIssuerFails(t *testing.T) {
	i := newIssuer(t)
	text := func(s string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = io.WriteString(w, s) }
	}
	status := func(code int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(code) }
	}
	large := func(w http.ResponseWriter) { _, _ = io.Copy(w, io.LimitReader(zeros{}, maxAnswer+1)) }
	elsewhere := func(w http.ResponseWriter) {
		w.Header().Set("Location", "http://169.254.169.254/keys")
		w.WriteHeader(http.StatusFound)
	}
	for name, test := range map[string]struct {
		document, set func(http.ResponseWriter)
		want          string
	}{
		"discovery is down":        {status(503), nil, "unexpected status 503"},
		"discovery is no JSON":     {text(receivertest.Canary), nil, "not valid JSON"},
		"discovery is large":       {large, nil, "larger than"},
		"discovery redirects":      {elsewhere, nil, "redirects elsewhere"},
		"another issuer":           {text(`{"issuer":"https://elsewhere.test","jwks_uri":"` + i.URL + `/keys"}`), nil, "of another issuer"},
		"no keys address":          {text(`{"issuer":"` + i.URL + `"}`), nil, "jwks_uri"},
		"keys in a file":           {text(`{"issuer":"` + i.URL + `","jwks_uri":"file:///etc/passwd"}`), nil, "jwks_uri"},
		"keys where clouds listen": {text(`{"issuer":"` + i.URL + `","jwks_uri":"http://169.254.169.254/keys"}`), nil, "an address that no issuer has"},
		"keys are down":            {nil, status(500), "unexpected status 500"},
		"keys are no JSON":         {nil, text("x"), "not valid JSON"},
		"keys are a list":          {nil, text("[]"), "wrong type"},
		"keys are large":           {nil, large, "larger than"},
		"no keys":                  {nil, text(`{"keys":[]}`), "there are none"},
		"keys are null":            {nil, text(`{"keys":null}`), "there are none"},
		"unknown keys":             {nil, text(`{"keys":[null,1,{},{"kty":"oct","k":"AAAA","kid":"one"},{"kty":"new"}]}`), "there are none"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := i.issuers()
			spec := notificationv1.ReceiverSpec{Type: "generic-oidc", Resources: []notificationv1.ReceiverResource{resource("GitRepository", "app")}}
			oidcSpec(i)(&spec)
			l := serveWith(t, spec, nil, keys)
			header := http.Header{"Authorization": {"Bearer " + i.token(nil)}}
			i.answering(test.document, test.set)
			if code := l.post(header, ""); code != 400 || l.Asked() != "" {
				t.Errorf("status %d, asked %q", code, l.Asked())
			}
			if !strings.Contains(l.Logs(), test.want) || strings.Contains(l.Logs(), receivertest.Canary) {
				t.Errorf("want %q in the log:\n%s", test.want, l.Logs())
			}
			i.answering(nil, nil)
			before := i.requests()
			if code := l.post(header, ""); code != 400 || i.requests() != before {
				t.Errorf("the issuer is asked again at once: status %d", code)
			}
			i.clock.Step(askAgain)
			if code := l.post(header, ""); code != 200 || l.Asked() == "" {
				t.Errorf("the issuer is well again: status %d, log:\n%s", code, l.Logs())
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A set with keys that nobody knows, or for other algorithms, still serves.
func TestMixedKeys(t *testing.T) {
	i := newIssuer(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "rsa", Algorithm: "RS512"})
	if err != nil {
		t.Fatal(err)
	}
	i.answering(nil, func(w http.ResponseWriter) {
		fmt.Fprintf(w, `{"keys":[{"kty":"new","kid":"rsa"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"rsa"},%s]}`, public)
	})
	keys := i.issuers()
	for algorithm, good := range map[jose.SignatureAlgorithm]bool{jose.RS512: true, jose.RS256: false, jose.PS512: false} {
		raw := tokenOf(t, algorithm, jose.JSONWebKey{KeyID: "rsa", Key: rsaKey}, i.claims(nil))
		parsed, issuer, err := bearer(http.Header{"Authorization": {"Bearer " + raw}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.verify(t.Context(), parsed, issuer, []string{issuer}, DefaultAudience); (err == nil) != good {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

// What is remembered of issuers has an end.
func TestIssuersAreBounded(t *testing.T) {
	clock := testclock.NewFakeClock(time.Now())
	keys := newIssuers(issuersOptions{clock: clock})
	for n := range 3 * maxIssuers {
		clock.Step(time.Second)
		keys.remember(fmt.Sprint("https://issuer.test/", n))
		keys.remember("https://busy.test")
	}
	if len(keys.known) > maxIssuers {
		t.Errorf("%d issuers are remembered", len(keys.known))
	}
	if keys.known["https://busy.test"] == nil {
		t.Error("the issuer that is in use made room")
	}
}
