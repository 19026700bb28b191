package provider_test

import (
	"net/url"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 5, 28, 49
func TestZulip(t *testing.T) {
	request := providertest.Applied()
	request.Metadata = map[string]string{"change_request": "7", "revision": "1"}
	providertest.Suite{
		Type: "zulip",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/dropped", Channel: "ops/deploys", Username: "bot@example.com", Password: providertest.Canary}
		},
		Cases: []providertest.Case{{Name: "change-request", Event: request}},
	}.Run(t)
}

// provider 28: what follows the first slash is the topic.
func TestZulipChannel(t *testing.T) {
	wire := wire{answer: "{}"}
	c := chatConfig("zulip")
	c.Channel = "ops/team a/b"
	request, err := wire.tell(t, "zulip", c, providertest.Applied())
	if err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(request.body)
	if err != nil {
		t.Fatal(err)
	}
	if form.Get("to") != "ops" || form.Get("topic") != "team a/b" || form.Get("type") != "stream" {
		t.Errorf("sent %v", form)
	}
}
