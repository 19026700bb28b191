package provider_test

import (
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 5, 49: the token; order of the metadata.
func TestWebex(t *testing.T) {
	lines := providertest.Applied()
	lines.Metadata = map[string]string{"summary": "one\ntwo"}
	providertest.Suite{
		Type: "webex",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/v1/messages", Channel: "Y2lzY29", Token: providertest.Canary}
		},
		Cases: []providertest.Case{{Name: "lines", Event: lines}},
	}.Run(t)
}
