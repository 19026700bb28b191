package provider_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
)

// provider 42: the controller's own identity does not go to a server that is the cloud's only by the word of a CA that the Provider brings.
func TestOwnIdentity(t *testing.T) {
	own := &tls.Config{RootCAs: x509.NewCertPool()}
	for name, c := range map[string]struct {
		config  provider.Config
		refused bool
	}{
		"the controller's, public CAs":   {provider.Config{}, false},
		"the controller's, a CA":         {provider.Config{TLS: own}, true},
		"a ServiceAccount's, a CA":       {provider.Config{TLS: own, ServiceAccountName: "account"}, false},
		"a token, a CA":                  {provider.Config{TLS: own, Token: "t0k3n-t0k3n"}, false},
		"the controller's, a client key": {provider.Config{TLS: &tls.Config{}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			kind, _ := provider.Find("azuredevops")
			c.config.CommitStatus, c.config.Address = "id", "https://dev.azure.com/org/project/_git/repo"
			if _, err := kind.New(c.config); (err != nil) != c.refused {
				t.Errorf("error = %v", err)
			}
		})
	}
}
