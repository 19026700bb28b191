package provider_test

import (
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 21, 39, 49
func TestTelegram(t *testing.T) {
	providertest.Suite{
		Type:   "telegram",
		Public: true,
		Config: func(string) provider.Config {
			return provider.Config{Address: "https://not.used", Channel: "-1001234:7", Token: "123456:" + providertest.Canary}
		},
	}.Run(t)
}

// provider 21: chat and thread, and the token in the path.
func TestTelegramChannel(t *testing.T) {
	for channel, want := range map[string]struct {
		chat   string
		thread any
	}{
		"-1001234":   {"-1001234", nil},
		"-1001234:7": {"-1001234", 7.0},
		"@flux":      {"@flux", nil},
	} {
		wire := wire{answer: `{"ok":true}`}
		request, err := wire.tell(t, "telegram", provider.Config{Channel: channel, Token: "1:a/b"}, providertest.Applied())
		if err != nil {
			t.Fatal(err)
		}
		body := decode[map[string]any](t, request.body)
		if body["chat_id"] != want.chat || body["message_thread_id"] != want.thread || body["parse_mode"] != "MarkdownV2" {
			t.Errorf("%s is sent as %v", channel, body)
		}
		if got := request.URL.String(); got != "https://api.telegram.org/bot1:a%2Fb/sendMessage" {
			t.Errorf("the address is %s", got)
		}
	}
}

// provider 21: whatever an event holds, Telegram can read it, and shows it as it is.
func TestTelegramEscapes(t *testing.T) {
	ascii := ""
	for r := rune(' '); r < 0x7f; r++ {
		ascii += string(r)
	}
	e := providertest.Failed()
	e.InvolvedObject.Name = "a_b*c"
	e.Message, e.Metadata = ascii+"\nü 🚀", map[string]string{"k_" + ascii: "v_" + ascii}
	wire := wire{answer: `{"ok":true}`}
	request, err := wire.tell(t, "telegram", chatConfig("telegram"), e)
	if err != nil {
		t.Fatal(err)
	}
	got, bold := readMarkdownV2(t, decode[struct{ Text string }](t, request.body).Text)
	want := "🚨 kustomization/a_b*c.prod\n" + e.Message + "\n\n- k_" + ascii + ": v_" + ascii
	if got != want {
		t.Errorf("Telegram shows\n%s\nwant\n%s", got, want)
	}
	if bold != "kustomization/a_b*c.prod" {
		t.Errorf("bold is %q", bold)
	}
}

// readMarkdownV2 reads text as Telegram does, of which only bold is used here. It returns all text, and that in bold.
func readMarkdownV2(t *testing.T, text string) (all, bold string) {
	t.Helper()
	escaped, inBold := false, false
	for _, r := range text {
		switch {
		case !escaped && r == '\\':
			escaped = true
			continue
		case !escaped && r == '*':
			inBold = !inBold
			continue
		case !escaped && strings.ContainsRune("_[]()~`>#+-=|{}.!", r):
			t.Fatalf("%q is reserved and not escaped in %q", r, text)
		case escaped && (r < 1 || r > 126):
			t.Fatalf("%q may not be escaped in %q", r, text)
		}
		escaped = false
		all += string(r)
		if inBold {
			bold += string(r)
		}
	}
	if escaped || inBold {
		t.Fatalf("%q does not end", text)
	}
	return all, bold
}
