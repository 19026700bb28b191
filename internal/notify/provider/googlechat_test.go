package provider_test

import (
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 39, 49
func TestGoogleChat(t *testing.T) {
	providertest.Suite{
		Type: "googlechat",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/v1/spaces/1/messages?token=" + providertest.Canary, Token: providertest.Canary}
		},
	}.Run(t)
}
