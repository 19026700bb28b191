package provider_test

import (
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 19, 39, 49
func TestDiscord(t *testing.T) {
	empty := providertest.Applied()
	empty.Metadata = map[string]string{"empty": "", "revision": "1"}
	providertest.Suite{
		Type: "discord",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/api/webhooks/1/" + providertest.Canary, Channel: "ignored", Token: providertest.Canary}
		},
		Cases: []providertest.Case{{Name: "empty-value", Event: empty}},
	}.Run(t)
}

// provider 19: the path that takes Slack's format is added where it is missing.
func TestDiscordAddress(t *testing.T) {
	for address, want := range map[string]string{
		"https://discord.com/api/webhooks/1/x":                  "https://discord.com/api/webhooks/1/x/slack",
		"https://discord.com/api/webhooks/1/x/":                 "https://discord.com/api/webhooks/1/x/slack",
		"https://discord.com/api/webhooks/1/x/slack":            "https://discord.com/api/webhooks/1/x/slack",
		"https://discord.com/api/webhooks/1/x?thread_id=7":      "https://discord.com/api/webhooks/1/x/slack?thread_id=7",
		"https://discord.com/api/webhooks/1/x/slack?wait=true":  "https://discord.com/api/webhooks/1/x/slack?wait=true",
		"https://discord.com/api/webhooks/1/x%2Fy?thread_id=/a": "https://discord.com/api/webhooks/1/x%2Fy/slack?thread_id=/a",
	} {
		wire := wire{answer: "ok"}
		request, err := wire.tell(t, "discord", provider.Config{Address: address}, providertest.Applied())
		if err != nil {
			t.Fatal(err)
		}
		if got := request.URL.String(); got != want {
			t.Errorf("%s leads to %s, want %s", address, got, want)
		}
	}
}

// Discord refuses a name of more than 80 characters.
func TestDiscordName(t *testing.T) {
	e := providertest.Applied()
	e.ReportingController = strings.Repeat("c", 200)
	wire := wire{answer: "ok"}
	request, err := wire.tell(t, "discord", provider.Config{Address: "https://discord.com/api/webhooks/1/x"}, e)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := decode[struct{ Username string }](t, request.body).Username, strings.Repeat("c", 79)+"…"; got != want {
		t.Errorf("username is %q, want %q", got, want)
	}
}
