package bucket

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes/fake"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// canary is part of every credential here; no condition and no event shows it.
const canary = buckettest.Canary + "-of-the-kind"

// fakeCloud issues one credential and remembers what for.
type fakeCloud struct {
	name, value string
	err         error

	mu    sync.Mutex // guards calls
	calls []auth.Call
}

func (c *fakeCloud) Name() string { return c.name }

func (c *fakeCloud) note(call *auth.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, *call)
}

func (c *fakeCloud) Keys(_ context.Context, call *auth.Call) (auth.Keys, error) {
	c.note(call)
	if call.Account != nil && call.Region == "" {
		return auth.Keys{}, auth.ErrRegion
	}
	return auth.Keys{AccessKey: "access", SecretKey: c.value, SessionToken: "session-" + canary, Expires: time.Now().Add(time.Hour)}, c.err
}

func (c *fakeCloud) Token(_ context.Context, call *auth.Call, _ []string) (auth.Token, error) {
	c.note(call)
	return auth.Token{Value: c.value, Expires: time.Now().Add(time.Hour)}, c.err
}

// identities are those of a process in a cloud; tenants lets objects name accounts.
func identities(t testing.TB, tenants bool, clouds ...auth.Cloud) *auth.Authenticator {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: "tenant"}}
	a, err := auth.New(auth.Options{
		Clouds: clouds, ObjectLevel: tenants, CacheSize: 10, ServiceAccounts: clientset.NewClientset(account).CoreV1(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func named(name string) *meta.LocalObjectReference { return &meta.LocalObjectReference{Name: name} }

// quiet complains about credentials that show.
func (l *lab) quiet() {
	l.t.Helper()
	var text strings.Builder
	for _, c := range l.get().Status.Conditions {
		text.WriteString(c.Message + "\n")
	}
	text.WriteString(strings.Join(l.Lines(), "\n"))
	if strings.Contains(text.String(), buckettest.Canary) || strings.Contains(text.String(), "?") {
		l.t.Errorf("a credential shows:\n%s", text.String())
	}
}

// bucket 5, 54: keys come in pairs, and those of a Secret go before any service.
func TestStaticKeys(t *testing.T) {
	for name, test := range map[string]struct {
		data map[string]string
		want string
	}{
		"nothing":    {nil, "False AuthenticationFailed: invalid secret 'apps/keys': key 'accesskey': key is required"},
		"access key": {map[string]string{"accesskey": "access"}, "False AuthenticationFailed: invalid secret 'apps/keys': key 'secretkey': key is required"},
		"secret key": {map[string]string{"secretkey": canary}, "False AuthenticationFailed: invalid secret 'apps/keys': key 'accesskey': key is required"},
		"both":       {map[string]string{"accesskey": "access", "secretkey": canary}, "True Succeeded: "},
		"wrong":      {map[string]string{"accesskey": "access", "secretkey": canary + "!"}, "False BucketOperationFailed: "},
	} {
		for _, provider := range []string{"generic", "aws"} {
			t.Run(name+" "+provider, func(t *testing.T) {
				server := &buckettest.S3{}
				server.Protect("access", canary)
				l := newLab(t, server, Options{})
				l.keep("keys", test.data)
				l.create(func(o *sourcev1.Bucket) {
					o.Spec.Provider, o.Spec.SecretRef = provider, named("keys")
					if provider == "aws" {
						// It is checked, but not asked: there are keys.
						o.Spec.STS = &sourcev1.BucketSTS{Provider: "aws", Endpoint: "https://sts.test"}
					}
				})
				// That a run fails is what the conditions tell.
				_, _ = l.Run(t.Context(), key())
				has(t, "Ready", l.condition("Ready"), test.want)
				l.quiet()
			})
		}
	}
}

// bucket 7, 64: settings of a token service that do not fit stall; what the API server refuses now may be older than its
// rules.
func TestTokenServiceSettings(t *testing.T) {
	for name, test := range map[string]struct {
		provider string
		sts      sourcev1.BucketSTS
		want     string
	}{
		"ldap with aws":      {"aws", sourcev1.BucketSTS{Provider: "ldap", Endpoint: "https://x"}, "InvalidSTSConfiguration: spec.sts.provider 'ldap'"},
		"aws with generic":   {"generic", sourcev1.BucketSTS{Provider: "aws", Endpoint: "https://x"}, "InvalidSTSConfiguration: spec.sts.provider 'aws'"},
		"gcp":                {"gcp", sourcev1.BucketSTS{Provider: "aws", Endpoint: "https://x"}, "InvalidSTSConfiguration: spec.sts is not supported"},
		"azure":              {"azure", sourcev1.BucketSTS{Provider: "ldap", Endpoint: "https://x"}, "InvalidSTSConfiguration: spec.sts is not supported"},
		"aws with a Secret":  {"aws", sourcev1.BucketSTS{Provider: "aws", Endpoint: "https://x", SecretRef: named("x")}, "InvalidSTSConfiguration: spec.sts.secretRef"},
		"aws with TLS":       {"aws", sourcev1.BucketSTS{Provider: "aws", Endpoint: "https://x", CertSecretRef: named("x")}, "InvalidSTSConfiguration: spec.sts.certSecretRef"},
		"no URL":             {"generic", sourcev1.BucketSTS{Provider: "ldap", Endpoint: "https://a b"}, "URLInvalid: spec.sts.endpoint"},
		"URL without a host": {"aws", sourcev1.BucketSTS{Provider: "aws", Endpoint: "https:///path"}, "URLInvalid: spec.sts.endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, &buckettest.S3{}, Options{})
			l.create(func(o *sourcev1.Bucket) { o.Spec.Provider, o.Spec.STS = test.provider, &test.sts })
			expect(t, "next run", time.Duration(0), l.step().RequeueAfter)
			for _, conditionType := range []string{"Stalled", "FetchFailed"} {
				has(t, conditionType, l.condition(conditionType), "True "+test.want)
			}
			has(t, "Ready", l.condition("Ready"), "False "+test.want)
			// It goes on with another spec.
			l.edit(func(o *sourcev1.Bucket) { o.Spec.Provider, o.Spec.STS = "generic", nil })
			l.step()
			has(t, "Ready", l.condition("Ready"), "True Succeeded")
		})
	}
}

// bucket 7, 56: keys from a token service for users of LDAP, whose authority is not that of the bucket.
func TestLDAP(t *testing.T) {
	service := &buckettest.LDAP{Username: "user", Password: canary, Access: "temporary", Secret: "temporary-" + canary, Session: "session-" + canary}
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	sts := httptest.NewUnstartedServer(service)
	cert, keyPEM, err := ca.Issue("sts")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	sts.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	sts.StartTLS()
	t.Cleanup(sts.Close)

	server := &buckettest.S3{}
	server.ProtectSession("temporary", "temporary-"+canary, "session-"+canary)
	server.Put("app.yaml", "a")
	l := newLab(t, server, Options{})
	l.keep("user", map[string]string{"username": "user", "password": canary})
	l.keep("wrong", map[string]string{"username": "user", "password": canary + "!"})
	l.keep("half", map[string]string{"username": "user", "password": ""})
	l.keep("ca", map[string]string{"ca.crt": string(ca.PEM)})
	l.keep("none", nil)
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.STS = &sourcev1.BucketSTS{Provider: "ldap", Endpoint: sts.URL, SecretRef: named("user"), CertSecretRef: named("ca")}
	})
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")

	for _, test := range []struct {
		change func(*sourcev1.BucketSTS)
		want   string
	}{
		{func(s *sourcev1.BucketSTS) { s.SecretRef = named("wrong") }, "False AuthenticationFailed: failed to get credentials from spec.sts.endpoint: "},
		{func(s *sourcev1.BucketSTS) { s.SecretRef = named("half") }, "False AuthenticationFailed: invalid secret 'apps/half': key 'password'"},
		{func(s *sourcev1.BucketSTS) { s.SecretRef = nil }, "False AuthenticationFailed: failed to get credentials"},
		{func(s *sourcev1.BucketSTS) { s.SecretRef, s.CertSecretRef = named("user"), nil }, "certificate"},
		{func(s *sourcev1.BucketSTS) { s.CertSecretRef = named("none") }, "False AuthenticationFailed: invalid secret 'apps/none': key 'ca.crt'"},
	} {
		l.edit(func(o *sourcev1.Bucket) { test.change(o.Spec.STS) })
		_, _ = l.Run(t.Context(), key())
		has(t, "Ready", l.condition("Ready"), test.want)
		l.quiet()
	}
	// The user is optional.
	service.Username, service.Password = "", ""
	l.edit(func(o *sourcev1.Bucket) { o.Spec.STS.SecretRef, o.Spec.STS.CertSecretRef = nil, named("ca") })
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
}

// bucket 8, 9, 58: certificates are of no use without TLS.
func TestInsecure(t *testing.T) {
	server := &buckettest.S3{}
	l := newLab(t, server, Options{})
	l.create(func(o *sourcev1.Bucket) { o.Spec.CertSecretRef = named("missing") })
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	// Nor are they with clouds, which have certificates that everybody knows.
	azure := &buckettest.Azure{}
	l = newLab(t, azure, Options{})
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.Provider, o.Spec.Endpoint, o.Spec.CertSecretRef = "azure", l.server.URL, named("missing")
	})
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
}

// bucket 6, 55, 57: keys of an identity, for the region and from the service that the spec names.
func TestAWS(t *testing.T) {
	server := &buckettest.S3{}
	server.ProtectSession("access", canary, "session-"+canary)
	server.Put("app.yaml", "a")
	cloud := &fakeCloud{name: "aws", value: canary}
	l := newLab(t, server, Options{Auth: identities(t, true, cloud)})
	l.keep("proxy", map[string]string{"address": l.server.URL})
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.Provider, o.Spec.Region, o.Spec.ProxySecretRef = "aws", "eu-west-1", named("proxy")
		o.Spec.STS = &sourcev1.BucketSTS{Provider: "aws", Endpoint: "https://sts.test"}
	})
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ServiceAccountName = "tenant" })
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	if len(cloud.calls) != 2 {
		t.Fatalf("%d requests for keys, want 2: %+v", len(cloud.calls), cloud.calls)
	}
	for i, account := range []string{"", "tenant"} {
		call := cloud.calls[i]
		expect(t, "request", auth.Request{
			Kind: "Bucket", Namespace: "apps", Name: "app", Operation: "reconcile", ServiceAccountName: account,
			Region: "eu-west-1", STSEndpoint: "https://sts.test", Proxy: call.Proxy,
		}, call.Request)
		expect(t, "proxy", l.server.URL, call.Proxy.String())
	}
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ServiceAccountName, o.Spec.Region = "tenant", "" })
	has(t, "Ready", l.fail(), "False AuthenticationFailed: ", "region")
	l.quiet()
}

// bucket 3: accounts of tenants need the gate.
func TestFeatureGate(t *testing.T) {
	for _, provider := range []string{"aws", "gcp", "azure"} {
		t.Run(provider, func(t *testing.T) {
			l := newLab(t, &buckettest.S3{}, Options{Auth: identities(t, false, &fakeCloud{name: provider})})
			l.create(func(o *sourcev1.Bucket) {
				o.Spec.Provider, o.Spec.ServiceAccountName, o.Spec.Endpoint = provider, "tenant", l.server.URL
			})
			expect(t, "next run", time.Duration(0), l.step().RequeueAfter)
			has(t, "Stalled", l.condition("Stalled"), "True FeatureGateDisabled: ", "ObjectLevelWorkloadIdentity")
			has(t, "FetchFailed", l.condition("FetchFailed"), "True FeatureGateDisabled: ")
		})
	}
}

// serviceAccountJSON is the key of a service account of Google.
func serviceAccountJSON(t testing.TB) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "x@y", "token_uri": "https://oauth2.googleapis.com/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// bucket 10, 47, 53: Google's storage, with a key and with identities. Reading is all it takes: buckets are not asked for
// their attributes.
func TestGCS(t *testing.T) {
	server := &buckettest.GCS{Token: canary, Issue: func(string) bool { return true }}
	server.Put("app.yaml", "a")
	cloud := &fakeCloud{name: "gcp", value: canary}
	o := Options{Auth: identities(t, true, cloud)}
	var l *lab
	o.wrap = func(next http.RoundTripper) http.RoundTripper { return l.cloud(next) }
	l = newLab(t, server, o)
	l.keep("key", map[string]string{"serviceaccount": serviceAccountJSON(t)})
	l.keep("none", map[string]string{"accesskey": "x"})
	l.keep("bad", map[string]string{"serviceaccount": "{" + canary})
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.Provider, o.Spec.Endpoint, o.Spec.SecretRef = "gcp", "storage.googleapis.com", named("key")
	})
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	_, content := l.stored()
	expect(t, "content", map[string]string{"app.yaml": "a"}, content)
	expect(t, "calls of the cloud", 0, len(cloud.calls))

	for secretName, want := range map[string]string{
		"none": "False AuthenticationFailed: invalid secret 'apps/none': key 'serviceaccount': key is required",
		"bad":  "False AuthenticationFailed: invalid secret 'apps/bad': key 'serviceaccount': no key of a service account",
	} {
		l.edit(func(o *sourcev1.Bucket) { o.Spec.SecretRef = named(secretName) })
		has(t, "Ready", l.fail(), want)
		l.quiet()
	}
	l.edit(func(o *sourcev1.Bucket) { o.Spec.SecretRef = nil })
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ServiceAccountName = "tenant" })
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ServiceAccountName = "nobody" })
	has(t, "Ready", l.fail(), "False AuthenticationFailed: ", "nobody")
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ServiceAccountName, o.Spec.BucketName = "", "another" })
	expect(t, "Ready", "False BucketOperationFailed: bucket 'another' not found", l.fail())
}

// bucket 11, 12, 48, 51: Azure's storage, with what a Secret holds, with identities, and as nobody.
func TestAzure(t *testing.T) {
	server := &buckettest.Azure{Token: canary}
	server.Put("app.yaml", "a")
	cloud := &fakeCloud{name: "azure", value: canary}
	o := Options{Auth: identities(t, true, cloud)}
	var l *lab
	o.wrap = func(next http.RoundTripper) http.RoundTripper { return l.cloud(next) }
	l = newLab(t, server, o)
	l.keep("sas", map[string]string{"sasKey": "?sv=1&sig=" + canary})
	l.keep("empty", nil)
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.Provider, o.Spec.Endpoint = "azure", "https://account.blob.core.windows.net"
	})
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ServiceAccountName = "tenant" })
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	expect(t, "accounts", []string{"", "tenant"}, []string{cloud.calls[0].ServiceAccountName, cloud.calls[1].ServiceAccountName})

	// A tenant must not see the token of the controller by naming a server of its own.
	l.edit(func(o *sourcev1.Bucket) {
		o.Spec.ServiceAccountName, o.Spec.Endpoint = "", "https://account.evil.example"
	})
	has(t, "Ready", l.fail(), "False BucketOperationFailed: failed to list bucket 'app-bucket': ", "hosts of Azure only", "'Storage Blob Data Reader'")

	l.edit(func(o *sourcev1.Bucket) {
		o.Spec.SecretRef, o.Spec.Endpoint = named("empty"), "https://account.blob.core.windows.net"
	})
	has(t, "Ready", l.fail(), "False AuthenticationFailed: invalid secret 'apps/empty': ", "'sasKey'")
	server.Token, server.SAS = "", canary
	l.edit(func(o *sourcev1.Bucket) { o.Spec.SecretRef = named("sas") })
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	server.SAS = "another"
	has(t, "Ready", l.fail(), "False BucketOperationFailed: failed to list bucket 'app-bucket': the server answered 403 AuthenticationFailed: ")
	l.quiet()

	// Without any identity a public container can be read all the same.
	server.SAS, cloud.err = "", auth.ErrUnsupported
	l.edit(func(o *sourcev1.Bucket) { o.Spec.SecretRef, o.Spec.Region = nil, "anywhere" })
	o.Auth = identities(t, true, cloud)
	l.options = o
	l.open("storage.test")
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
}

// bucket 14, 57: everything goes through the proxy.
func TestProxy(t *testing.T) {
	server := &buckettest.S3{}
	server.Put("app.yaml", "a")
	service := &buckettest.LDAP{Access: "temporary", Secret: canary, Session: "session"}
	server.ProtectSession("temporary", canary, "session")
	azure := &buckettest.Azure{}
	azure.Put("app.yaml", "a")
	var mu sync.Mutex // guards hosts
	hosts := map[string]bool{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.IsAbs() || r.Header.Get("Proxy-Authorization") == "" {
			http.Error(w, "not for me", http.StatusBadRequest)
			return
		}
		mu.Lock()
		hosts[r.URL.Host] = true
		mu.Unlock()
		switch r.URL.Hostname() {
		case "sts.test":
			service.ServeHTTP(w, r)
		case "account.blob.test":
			azure.ServeHTTP(w, r)
		default:
			server.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(proxy.Close)
	l := newLab(t, http.NotFoundHandler(), Options{})
	l.keep("proxy", map[string]string{"address": proxy.URL, "username": "user", "password": canary})
	l.keep("bad", map[string]string{"address": "ftp://user:" + canary + "@proxy"})
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.Endpoint, o.Spec.ProxySecretRef = "s3.test:9000", named("proxy")
		o.Spec.STS = &sourcev1.BucketSTS{Provider: "ldap", Endpoint: "http://sts.test"}
	})
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	l.edit(func(o *sourcev1.Bucket) {
		o.Spec.Provider, o.Spec.STS, o.Spec.Endpoint = "azure", nil, "http://account.blob.test"
	})
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
	expect(t, "hosts asked through the proxy", map[string]bool{"s3.test:9000": true, "sts.test": true, "account.blob.test": true}, hosts)
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ProxySecretRef = named("bad") })
	has(t, "Ready", l.fail(), "False AuthenticationFailed: failed to configure proxy options: invalid secret 'apps/bad': key 'address'")
	l.quiet()
	proxy.Close()
	l.edit(func(o *sourcev1.Bucket) { o.Spec.ProxySecretRef = named("proxy") })
	_, err := l.Run(t.Context(), key())
	if err == nil || strings.Contains(l.condition("Ready"), canary) {
		t.Errorf("without the proxy: %v; Ready = %s", err, l.condition("Ready"))
	}
}

// bucket 27: nobody learns from a message what was in the query of a URL.
func TestQuietErrors(t *testing.T) {
	l := newLab(t, http.NotFoundHandler(), Options{})
	l.keep("sas", map[string]string{"sasKey": "?sv=1&sig=" + url.QueryEscape(canary+"+/=")})
	l.server.Close()
	l.create(func(o *sourcev1.Bucket) {
		o.Spec.Provider, o.Spec.Endpoint, o.Spec.SecretRef = "azure", l.server.URL, named("sas")
	})
	_, err := l.Run(t.Context(), key())
	if err == nil {
		t.Fatal("no error")
	}
	has(t, "Ready", l.condition("Ready"), "connection refused")
	l.quiet()
}

// bucket 59: another Secret is seen in the next run.
func TestRotation(t *testing.T) {
	server := &buckettest.S3{}
	server.Protect("access", "first-"+canary)
	l := newLab(t, server, Options{})
	l.keep("keys", map[string]string{"accesskey": "access", "secretkey": "first-" + canary})
	l.create(func(o *sourcev1.Bucket) { o.Spec.SecretRef = named("keys") })
	l.step()
	server.Protect("access", "second-"+canary)
	l.fail()
	var keys corev1.Secret
	if err := l.client.Get(t.Context(), key(), &keys); err == nil {
		t.Fatal("a Secret of the object's name is not expected")
	}
	keys = corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "keys"}, Data: map[string][]byte{"accesskey": []byte("access"), "secretkey": []byte("second-" + canary)}}
	if err := l.client.Update(t.Context(), &keys); err != nil {
		t.Fatal(err)
	}
	l.step()
	has(t, "Ready", l.condition("Ready"), "True Succeeded")
}
