package provider_test

import (
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 6, 49: the name is not made up here; order of the metadata.
func TestRocket(t *testing.T) {
	providertest.Suite{
		Type: "rocket",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/hooks/1/" + providertest.Canary, Channel: "#ops", Token: providertest.Canary}
		},
	}.Run(t)
}
