package provider_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
)

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	out, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	sasKey        = "k3y/" + providertest.Canary + "+="
	sasConnection = "Endpoint=sb://flux.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=" + sasKey
)

// provider 25, 43; wire 13
func TestAzureEventHub(t *testing.T) {
	providertest.Suite{
		Type:   "azureeventhub",
		Public: true,
		Config: func(string) provider.Config { return provider.Config{Address: sasConnection + ";EntityPath=events"} },
		Answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) },
		Tidy: func(t *testing.T, call *providertest.Call) {
			verifySAS(t, call.Header["Authorization"][0], "https://flux.servicebus.windows.net/events")
			call.Header["Authorization"] = []string{"SharedAccessSignature (verified)"}
		},
	}.Run(t)
}

// verifySAS does what Event Hubs does with a signature.
func verifySAS(t *testing.T, authorization, resource string) {
	t.Helper()
	raw, ok := strings.CutPrefix(authorization, "SharedAccessSignature ")
	if !ok {
		t.Fatalf("Authorization = %q", authorization)
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := values.Get("sr"); got != resource {
		t.Errorf("sr = %q, want %q", got, resource)
	}
	if got := values.Get("skn"); got != "send" {
		t.Errorf("skn = %q", got)
	}
	until, err := strconv.ParseInt(values.Get("se"), 10, 64)
	if left := time.Until(time.Unix(until, 0)); err != nil || left < 50*time.Minute || left > time.Hour {
		t.Errorf("se = %q, %v", values.Get("se"), err)
	}
	mac := hmac.New(sha256.New, []byte(sasKey))
	mac.Write([]byte(url.QueryEscape(resource) + "\n" + values.Get("se")))
	if !hmac.Equal(mac.Sum(nil), unbase64(t, values.Get("sig"))) {
		t.Error("the signature is not that of the key")
	}
}

// provider 25, 40, 43: which part of the address is what.
func TestAzureEventHubAddress(t *testing.T) {
	const url = "https://flux.servicebus.windows.net/events/messages?api-version=2014-01"
	for _, c := range []struct{ name, address, channel, token, want string }{
		{"connection string with hub", sasConnection + ";EntityPath=events", "", "", url},
		{"its hub comes first", sasConnection + ";EntityPath=events", "other", "", url},
		{"connection string without hub", sasConnection + ";", "events", "", url},
		{"another host", "Endpoint=sb://hubs.stack.example:8443/;SharedAccessKeyName=send;SharedAccessKey=k", "events", "",
			"https://hubs.stack.example:8443/events/messages?api-version=2014-01"},
		{"signature", "Endpoint=sb://flux.servicebus.windows.net/;SharedAccessSignature=SharedAccessSignature sr=x&sig=y&se=1&skn=send", "events", "", url},
		{"hub and namespace", "events", "flux", "jwt", url},
		{"hub and host", "events", "flux.servicebus.windows.net", "jwt", url},
		{"host and hub", "flux.servicebus.windows.net", "events", "jwt", url},
		{"URL and hub", "sb://Flux.servicebus.windows.net/", "events", "jwt", url},
		{"China", "flux.servicebus.chinacloudapi.cn", "events", "jwt", "https://flux.servicebus.chinacloudapi.cn/events/messages?api-version=2014-01"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got, login string
			client := provider.NewClient(way(func(r *http.Request) (*http.Response, error) {
				got, login = r.URL.String(), r.Header.Get("Authorization")
				return &http.Response{StatusCode: http.StatusCreated, Body: http.NoBody}, nil
			}), "flux")
			config := provider.Config{Address: c.address, Channel: c.channel, Token: c.token, HTTP: client}
			if err := made(t, "azureeventhub", config).Notify(t.Context(), providertest.Applied()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(c.address, "SharedAccessSignature=") && login != "SharedAccessSignature sr=x&sig=y&se=1&skn=send" {
				t.Errorf("Authorization = %q", login)
			}
			if signed := strings.HasPrefix(login, "SharedAccessSignature "); signed == (c.token != "") || !signed && login != "Bearer jwt" {
				t.Errorf("Authorization = %q", login)
			}
		})
	}
}

// provider 8, 42: the identity is that of the account, which needs the feature gate, or of the controller; with a static credential, no
// account may be named.
func TestAzureEventHubIdentity(t *testing.T) {
	for _, c := range []struct {
		name, account string
		objectLevel   bool
		calls         []string
		wrong         string
	}{
		{"controller", "", false, []string{"process token https://eventhubs.azure.net//.default"}, ""},
		{"account", "sender", true, []string{"prod/sender token https://eventhubs.azure.net//.default"}, ""},
		{"account without the gate", "sender", false, nil, "ObjectLevelWorkloadIdentity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cloud := &authtest.Cloud{Provider: auth.Azure}
			seen, err := identity(t, "azureeventhub", provider.Config{
				Address: "events", Channel: "flux", ServiceAccountName: c.account, Auth: clouds(t, cloud, c.objectLevel),
			})
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("error = %v, want %q", err, c.wrong)
			}
			if diff := cmp.Diff(c.calls, cloud.Calls()); diff != "" {
				t.Error(diff)
			}
			if len(c.calls) > 0 && seen != "Bearer secret-1" {
				t.Errorf("Authorization = %q", seen)
			}
		})
	}
	refuses(t, "azureeventhub", provider.Config{Address: sasConnection, Channel: "events", ServiceAccountName: "sender"}, "spec.serviceAccountName")
	token := provider.Config{Address: "events", Channel: "flux", Token: providertest.Canary, ServiceAccountName: "sender"}
	refuses(t, "azureeventhub", token, "spec.serviceAccountName")
}

// provider 43: a token goes to hosts of Azure only.
func TestAzureEventHubRefuses(t *testing.T) {
	for _, c := range []struct {
		address, channel string
		words            []string
	}{
		{"", "events", []string{"spec.address", "connection string"}},
		{"events", "", []string{"spec.channel", "connection string"}},
		{sasConnection, "", []string{"spec.channel", "EntityPath"}},
		{"Endpoint=sb://flux.servicebus.windows.net/;SharedAccessKeyName=" + providertest.Canary, "events", []string{"SharedAccessKey", "policy"}},
		{"Endpoint=sb://;SharedAccessKeyName=a;SharedAccessKey=" + providertest.Canary, "events", []string{"Endpoint"}},
		{"events", "stranger.example", []string{"namespace", ".servicebus.windows.net"}},
		{"https://stranger.example", "events.servicebus.windows.net.stranger.example", []string{"namespace"}},
		{"events", "flux.servicebus.windows.net@stranger.example", []string{"namespace"}},
		{"events", "flux/../x", []string{"namespace"}},
		{"../../x", "flux", []string{"hub"}},
		{sasConnection + ";EntityPath=a/b", "", []string{"hub"}},
	} {
		refuses(t, "azureeventhub", provider.Config{Address: c.address, Channel: c.channel}, c.words...)
	}
}

// A CA of the Provider's own, and a proxy, could pretend to be a cloud and take the controller's token.
func TestIdentityAndCA(t *testing.T) {
	key, _ := serviceAccount(t, nil)
	own := &tls.Config{RootCAs: x509.NewCertPool()}
	for name, c := range map[string]provider.Config{
		"googlepubsub": {Address: "my-project", Channel: "topic", Token: key}, "azureeventhub": {Address: "events", Channel: "flux", Token: "jwt"},
	} {
		c.TLS = own
		made(t, name, c)
		c.Token = ""
		refuses(t, name, c, "spec.certSecretRef", "spec.serviceAccountName")
		c.TLS = &tls.Config{}
		made(t, name, c)
		c.TLS, c.ServiceAccountName = own, "sender"
		made(t, name, c)
	}
}
