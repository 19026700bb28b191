package provider_test

import (
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// FuzzNew reads addresses, channels and credentials as strangers write them: DSNs, connection strings, URLs, keys. None may be fatal, and no
// error may repeat the credential.
func FuzzNew(f *testing.F) {
	f.Add("https://key@sentry.io/42", "prod", "")
	f.Add(sasConnection+";EntityPath=events", "", "")
	f.Add("nats://a:4222,b", "flux.events", "")
	f.Add("my-project", "topic", `{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"}`)
	f.Add("Endpoint=sb://;;=;SharedAccessKey", "..", "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------")
	names := []string{
		"pagerduty", "opsgenie", "alertmanager", "grafana", "sentry", "datadog", "otel", "nats", "googlepubsub", "azureeventhub",
	}
	f.Fuzz(func(t *testing.T, address, channel, token string) {
		token += providertest.Canary
		for _, name := range names {
			kind, ok := provider.Find(name)
			if !ok {
				t.Fatalf("there is no type '%s'", name)
			}
			_, err := kind.New(provider.Config{
				Address: address, Channel: channel, Token: token, Secret: map[string][]byte{"creds": []byte(token), "nkey": []byte(token)},
			})
			if err != nil && strings.Contains(err.Error(), providertest.Canary) && !strings.Contains(address+channel, providertest.Canary) {
				t.Errorf("%s: the error holds the credential: %v", name, err)
			}
		}
	})
}
