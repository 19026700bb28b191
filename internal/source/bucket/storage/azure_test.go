package storage_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
)

// azureCloud is the storage with its login.
type azureCloud struct {
	storage buckettest.Azure
	login   buckettest.AzureLogin
}

func (c *azureCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Host, "account.") {
		c.storage.ServeHTTP(w, r)
		return
	}
	c.login.ServeHTTP(w, r)
}

// clientCertificate is a certificate with its key, as the Secret holds both.
func clientCertificate(t testing.TB) string {
	t.Helper()
	_, private := googleKey(t, nil)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

func list(b storage.Bucket, t testing.TB) error {
	return b.List(t.Context(), "", func(storage.Object) error { return nil })
}

// bucket 11, 50, 52: the forms of a Secret, in their order, each with what it asks of whom.
func TestAzureForms(t *testing.T) {
	pair := clientCertificate(t)
	const canary = buckettest.Canary + "-secret"
	// assertion admits a request that is signed with the certificate; chain says whether the certificate has to be with it.
	assertion := func(chain bool) func(url.Values) bool {
		return func(v url.Values) bool {
			token, _, err := jwt.NewParser().ParseUnverified(v.Get("client_assertion"), jwt.MapClaims{})
			if err != nil || v.Get("client_id") != "client" {
				return false
			}
			_, has := token.Header["x5c"]
			return has == chain
		}
	}
	secretIs := func(v url.Values) bool { return v.Get("client_id") == "client" && v.Get("client_secret") == canary }
	for _, test := range []struct {
		name   string
		secret map[string]string
		admit  func(url.Values) bool
		host   string
	}{
		{"client secret", map[string]string{"tenantId": "tenant", "clientId": "client", "clientSecret": canary, "clientCertificate": pair, "accountKey": "no"}, secretIs, "login.microsoftonline.com"},
		{"client secret, another authority", map[string]string{"tenantId": "tenant", "clientId": "client", "clientSecret": canary, "authorityHost": "https://login.microsoftonline.us"}, secretIs, "login.microsoftonline.us"},
		{"certificate", map[string]string{"tenantId": "tenant", "clientId": "client", "clientCertificate": pair, "sasKey": "no"}, assertion(false), "login.microsoftonline.com"},
		{"certificate, chain 0", map[string]string{"tenantId": "tenant", "clientId": "client", "clientCertificate": pair, "clientCertificateSendChain": "0"}, assertion(false), "login.microsoftonline.com"},
		{"certificate, chain 1", map[string]string{"tenantId": "tenant", "clientId": "client", "clientCertificate": pair, "clientCertificateSendChain": "1"}, assertion(true), "login.microsoftonline.com"},
		{"certificate, chain TRUE", map[string]string{"tenantId": "tenant", "clientId": "client", "clientCertificate": pair, "clientCertificateSendChain": "TRUE"}, assertion(true), "login.microsoftonline.com"},
		{"managed identity", map[string]string{"clientId": "client", "accountKey": "no"}, func(v url.Values) bool { return v.Get("client_id") == "client" }, "169.254.169.254"},
		{"managed identity by resource", map[string]string{"resourceId": "/subscriptions/x"}, func(v url.Values) bool {
			return v.Get("msi_res_id") == "/subscriptions/x" || v.Get("mi_res_id") == "/subscriptions/x"
		}, "169.254.169.254"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cloud := &azureCloud{}
			cloud.login.Token, cloud.storage.Token = password, password
			cloud.login.Admit = test.admit
			_, transport := serve(t, cloud)
			data := map[string][]byte{}
			for k, v := range test.secret {
				data[k] = []byte(v)
			}
			b := must(t)(storage.Azure(storage.AzureOptions{Endpoint: azureEndpoint, Bucket: buckettest.Bucket, Secret: data, Transport: transport}))
			if err := list(b, t); err != nil {
				t.Fatal(err)
			}
			hosts := cloud.login.Hosts()
			if len(hosts) != 1 || hosts[0] != test.host {
				t.Errorf("tokens were asked of %v, want %s once", hosts, test.host)
			}

			cloud.login.Admit = func(url.Values) bool { return false }
			another := must(t)(storage.Azure(storage.AzureOptions{Endpoint: azureEndpoint, Bucket: "another", Secret: data, Transport: transport}))
			// bucket 48
			err := list(another, t)
			if err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("error = %v", err)
			}
			if !strings.HasPrefix(test.name, "managed") && (!errors.Is(err, storage.ErrDenied) || !strings.Contains(err.Error(), "'Storage Blob Data Reader'")) {
				t.Errorf("error = %v, want one with a hint", err)
			}
		})
	}
}

// bucket 11, 13, 51: what cannot be used is refused without a request, and without showing it.
func TestAzureRefused(t *testing.T) {
	const canary = buckettest.Canary
	for name, test := range map[string]struct {
		endpoint string
		secret   map[string]string
		property error
		want     string
	}{
		"nothing":           {azureEndpoint, map[string]string{}, storage.ErrCredentials, "'accountKey', or 'sasKey'"},
		"tenant alone":      {azureEndpoint, map[string]string{"tenantId": "x"}, storage.ErrCredentials, "'accountKey', or 'sasKey'"},
		"certificate":       {azureEndpoint, map[string]string{"tenantId": "x", "clientId": "y", "clientCertificate": canary}, storage.ErrCredentials, "key 'clientCertificate'"},
		"key of no account": {"https://localhost", map[string]string{"accountKey": "aaaa"}, storage.ErrCredentials, "does not begin with the name of the account"},
		"two labels":        {"https://blob.test", map[string]string{"accountKey": "aaaa"}, storage.ErrCredentials, "does not begin with the name of the account"},
		"key not base64":    {azureEndpoint, map[string]string{"accountKey": canary + "!"}, storage.ErrCredentials, "key 'accountKey': not base64"},
		"SAS":               {azureEndpoint, map[string]string{"sasKey": "?sig=" + canary + "%zz"}, storage.ErrCredentials, "key 'sasKey': not a SAS token"},
		"no URL":            {"account.blob.core.windows.net?sig=" + canary, map[string]string{"accountKey": "aaaa"}, storage.ErrEndpoint, "spec.endpoint"},
		"bad URL":           {"https://a.b.c/%zz?sig=" + canary, nil, storage.ErrEndpoint, "spec.endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			data := map[string][]byte{}
			for k, v := range test.secret {
				data[k] = []byte(v)
			}
			_, err := storage.Azure(storage.AzureOptions{Endpoint: test.endpoint, Bucket: buckettest.Bucket, Secret: data, Transport: http.DefaultTransport})
			if !errors.Is(err, test.property) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error shows a credential: %v", err)
			}
		})
	}
}

// bucket 11: a SAS token joins the query of the endpoint, and wins.
func TestAzureSASQuery(t *testing.T) {
	server := &buckettest.Azure{SAS: password}
	var queries []url.Values
	_, transport := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.Query())
		server.ServeHTTP(w, r)
	}))
	b := must(t)(storage.Azure(storage.AzureOptions{
		Endpoint: azureEndpoint + "?x=1&sig=old", Bucket: buckettest.Bucket, Transport: transport,
		Secret: map[string][]byte{"sasKey": []byte("?sv=2022-11-02&sig=" + password)},
	}))
	if err := list(b, t); err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		if q.Get("x") != "1" || q.Get("sv") != "2022-11-02" || len(q["sig"]) != 1 {
			t.Errorf("query = %v", q)
		}
	}
	// bucket 13, 27
	server.SAS = "another"
	err := list(b, t)
	if !errors.Is(err, storage.ErrDenied) || strings.Contains(err.Error(), buckettest.Canary) {
		t.Errorf("error = %v", err)
	}
}

// bucket 12, 50, 51: without credentials in a Secret the environment has its say, then the identity, then nobody; hosts that
// are not Azure's are shown nothing.
func TestAzureEnvironment(t *testing.T) {
	cloud := &azureCloud{}
	cloud.login.Token = password
	cloud.login.Admit = func(v url.Values) bool { return v.Get("client_secret") == "of-the-environment" }
	_, transport := serve(t, cloud)
	options := storage.AzureOptions{Endpoint: azureEndpoint, Bucket: buckettest.Bucket, Transport: transport}

	if err := list(must(t)(storage.Azure(options)), t); err != nil {
		t.Errorf("as nobody: %v", err)
	}
	cloud.storage.Token = "of-the-identity"
	options.Token = token("of-the-identity")
	if err := list(must(t)(storage.Azure(options)), t); err != nil {
		t.Errorf("as the identity: %v", err)
	}

	t.Setenv("AZURE_TENANT_ID", "tenant")
	t.Setenv("AZURE_CLIENT_ID", "client")
	t.Setenv("AZURE_CLIENT_SECRET", "of-the-environment")
	cloud.storage.Token = password
	if err := list(must(t)(storage.Azure(options)), t); err != nil {
		t.Errorf("as the environment says: %v", err)
	}
	if hosts := cloud.login.Hosts(); len(hosts) != 1 || hosts[0] != "login.microsoftonline.com" {
		t.Errorf("tokens were asked of %v", hosts)
	}
	options.Secret = map[string][]byte{"authorityHost": []byte("https://login.microsoftonline.us")}
	if err := list(must(t)(storage.Azure(options)), t); err != nil {
		t.Errorf("as the environment says, of another authority: %v", err)
	}
	if hosts := cloud.login.Hosts(); len(hosts) != 1 || hosts[0] != "login.microsoftonline.us" {
		t.Errorf("tokens were asked of %v", hosts)
	}

	options = storage.AzureOptions{Endpoint: "https://account.example.com", Bucket: buckettest.Bucket, Transport: transport}
	cloud.storage.Token = ""
	if err := list(must(t)(storage.Azure(options)), t); err != nil {
		t.Errorf("as nobody at another host: %v", err)
	}
	if hosts := cloud.login.Hosts(); len(hosts) != 0 {
		t.Errorf("tokens were asked of %v", hosts)
	}
}

func TestAzureHost(t *testing.T) {
	for endpoint, want := range map[string]bool{
		"https://a.blob.core.windows.net": true, "https://a.blob.core.windows.net:443/": true, "https://A.BLOB.CORE.WINDOWS.NET": true,
		"https://a.z01.blob.storage.azure.net": true, "https://a.blob.core.chinacloudapi.cn": true, "https://a.blob.core.usgovcloudapi.net": true,
		"http://a.blob.core.windows.net": false, "https://core.windows.net.evil.example": false, "https://evilcore.windows.net": false,
		"https://evil.example/.blob.core.windows.net": false, "https://evil.example#.blob.core.windows.net": false, "https://a.blob.core.windows.net@evil.example": false, "%": false,
	} {
		if got := storage.AzureHost(endpoint); got != want {
			t.Errorf("AzureHost(%q) = %t", endpoint, got)
		}
	}
}
