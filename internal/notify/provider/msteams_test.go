package provider_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 18, 49: an adaptive card; the summary is the first fact.
func TestMSTeams(t *testing.T) {
	providertest.Suite{
		Type: "msteams",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/workflows/1?sig=" + providertest.Canary, Token: providertest.Canary}
		},
	}.Run(t)
}

// provider 18: the older webhooks get the older card.
func TestMSTeamsConnector(t *testing.T) {
	const title = "kustomization/app.prod"
	fact := func(name, value string) any { return map[string]any{"name": name, "value": value} }
	card := func(color, text string, facts ...any) any {
		return map[string]any{
			"@type": "MessageCard", "@context": "http://schema.org/extensions", "themeColor": color, "summary": title,
			"sections": []any{map[string]any{"activityTitle": text, "activitySubtitle": title, "facts": append([]any{}, facts...)}},
		}
	}
	failed := providertest.Failed()
	failed.Message = "it is broken"
	progressing := providertest.Progressing()
	revision := failed.Metadata["revision"]
	wire := wire{answer: "1"}
	config := provider.Config{Address: "https://corp.webhook.office.com/webhookb2/1"}
	for name, c := range map[string]struct {
		event providertest.Case
		want  any
	}{
		"failed": {providertest.Case{Event: failed},
			card("FF0000", "it is broken", fact("summary", "prod: all hands"), fact("env", "prod"), fact("revision", revision))},
		"no metadata": {providertest.Case{Event: progressing}, card("0076D7", progressing.Message)},
	} {
		request, err := wire.tell(t, "msteams", config, c.event.Event)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, decode[any](t, request.body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := request.URL.String(); got != config.Address {
			t.Errorf("the card goes to %s", got)
		}
	}
}

// Connectors tell with status 200 that Teams has refused the message.
func TestMSTeamsRefusal(t *testing.T) {
	const connector, workflow = "https://corp.webhook.office.com/webhookb2/1", "https://corp.webhook.office.com.example/1"
	for _, c := range []struct{ address, answer, want string }{
		{connector, "1", ""},
		{connector, "", ""},
		{connector, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 413 with ContextId tcid=1..",
			"postMessage failed: request failed: request failed with status code 413"},
		{connector, "Webhook message delivery failed with error: secret", "postMessage failed: refused by Teams"},
		{workflow, "Microsoft Teams endpoint returned HTTP error 413", ""},
	} {
		wire := wire{answer: c.answer}
		_, err := wire.tell(t, "msteams", provider.Config{Address: c.address}, providertest.Applied())
		if got := text(err); got != c.want {
			t.Errorf("%s answers %q: error = %q, want %q", c.address, c.answer, got, c.want)
		}
	}
}
