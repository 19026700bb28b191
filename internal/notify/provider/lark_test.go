package provider_test

import (
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 39, 49
func TestLark(t *testing.T) {
	providertest.Suite{
		Type: "lark",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/open-apis/bot/v2/hook/" + providertest.Canary, Token: providertest.Canary}
		},
	}.Run(t)
}

// Lark refuses with status 200.
func TestLarkRefusal(t *testing.T) {
	for answer, want := range map[string]string{
		`{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}`: "",
		`ok`: "",
		`{"code":19024,"msg":"Key Words Not Found"}`: "postMessage failed: refused by Lark with code 19024",
		`{"code":"secret"}`:                          "",
	} {
		wire := wire{answer: answer}
		_, err := wire.tell(t, "lark", provider.Config{Address: "https://open.larksuite.com/open-apis/bot/v2/hook/1"}, providertest.Applied())
		if got := text(err); got != want {
			t.Errorf("%s: error = %q, want %q", answer, got, want)
		}
	}
}
