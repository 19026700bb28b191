package provider_test

import (
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 6, 39, 49: username, TLS, order of the metadata.
func TestSlack(t *testing.T) {
	providertest.Suite{
		Type: "slack",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/services/" + providertest.Canary, Channel: "general", Username: "flux", Token: providertest.Canary}
		},
	}.Run(t)
}

// provider 17: the API refuses with status 200. Its word is told, and nothing else that comes in its place.
func TestSlackAPI(t *testing.T) {
	for _, c := range []struct {
		name, address, answer, want string
	}{
		{"taken", "https://slack.com/api/chat.postMessage", `{"ok":true,"channel":"C1"}`, ""},
		{"refused", "https://slack.com/api/chat.postMessage", `{"ok":false,"error":"channel_not_found"}`,
			"postMessage failed: refused by Slack: channel_not_found"},
		{"refused by a stand-in", "http://stand-in.example/api/chat.postMessage?x=y", `{"ok":false,"error":"not_authed"}`,
			"postMessage failed: refused by Slack: not_authed"},
		{"with something else than a word", "https://slack.com/api/chat.postMessage", `{"ok":false,"error":"see http://internal.example"}`,
			"postMessage failed: refused by Slack"},
		{"with a long word", "https://slack.com/api/chat.postMessage", `{"ok":false,"error":"` + strings.Repeat("a", 65) + `"}`,
			"postMessage failed: refused by Slack"},
		{"with no word", "https://slack.com/api/chat.postMessage", `{"ok":false}`, "postMessage failed: refused by Slack"},
		{"no JSON", "https://slack.com/api/chat.postMessage", `<html>`,
			"postMessage failed: reading the answer of Slack: the answer is not the JSON that was expected"},
		{"a webhook answers in words", "https://hooks.slack.com/services/x", `ok`, ""},
		{"a webhook's answer is not read", "https://mattermost.example/hooks/x", `{"ok":false,"error":"channel_not_found"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := wire{answer: c.answer}
			request, err := wire.tell(t, "slack", provider.Config{Address: c.address, Channel: "general", Token: "xoxb-1"}, providertest.Applied())
			if got := text(err); got != c.want {
				t.Errorf("error = %q, want %q", got, c.want)
			}
			if got := request.Header.Get("Authorization"); got != "Bearer xoxb-1" {
				t.Errorf("Authorization is %q", got)
			}
		})
	}
}

// The fallback is one line, and short: it is shown on phones.
func TestSlackFallback(t *testing.T) {
	e := providertest.Applied()
	e.Message = strings.Repeat("x", 5000) + "\nline 2"
	wire := wire{answer: "ok"}
	request, err := wire.tell(t, "slack", provider.Config{Address: "https://hooks.slack.com/services/x"}, e)
	if err != nil {
		t.Fatal(err)
	}
	message := decode[struct{ Attachments []struct{ Fallback string } }](t, request.body)
	if got, want := message.Attachments[0].Fallback, "kustomization/app.prod: "+strings.Repeat("x", 999)+"…"; got != want {
		t.Errorf("fallback is %q, want %q", got, want)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Slack reads links and mentions in what it is sent: messages of commits must not call everyone. Others do not know Slack's escapes, and the
// people who write metadata mention others on purpose.
func TestSlackMarkup(t *testing.T) {
	e := providertest.Failed()
	e.Message, e.Metadata = "<!channel> a & b\nline 2", map[string]string{"summary": "<@U1> look"}
	for _, c := range []struct{ address, text, fallback string }{
		{"https://hooks.slack.com/services/x", "&lt;!channel&gt; a &amp; b\nline 2", "kustomization/app.prod: &lt;!channel&gt; a &amp; b"},
		{"https://slack.com/api/x", "&lt;!channel&gt; a &amp; b\nline 2", "kustomization/app.prod: &lt;!channel&gt; a &amp; b"},
		{"https://hooks.slack-gov.com/x", "&lt;!channel&gt; a &amp; b\nline 2", "kustomization/app.prod: &lt;!channel&gt; a &amp; b"},
		{"https://mattermost.example/hooks/x", e.Message, "kustomization/app.prod: <!channel> a & b"},
		{"https://notslack.com/hooks/x", e.Message, "kustomization/app.prod: <!channel> a & b"},
	} {
		t.Run(c.address, func(t *testing.T) {
			wire := wire{answer: "ok"}
			request, err := wire.tell(t, "slack", provider.Config{Address: c.address}, e)
			if err != nil {
				t.Fatal(err)
			}
			message := decode[struct {
				Attachments []struct {
					Text, Fallback string
					Fields         []struct{ Value string }
				}
			}](t, request.body)
			a := message.Attachments[0]
			if a.Text != c.text || a.Fallback != c.fallback || a.Fields[0].Value != "<@U1> look" {
				t.Errorf("got %+v", a)
			}
		})
	}
}
