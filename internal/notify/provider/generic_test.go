package provider_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 31
func TestGeneric(t *testing.T) {
	providertest.Suite{
		Type: "generic",
		Config: func(base string) provider.Config {
			return provider.Config{
				Address: base + "/hook", Headers: map[string]string{"Authorization": "Bearer " + providertest.Canary, "X-Team": "blue"},
			}
		},
	}.Run(t)
}

// provider 31
func TestGenericHMAC(t *testing.T) {
	providertest.Suite{
		Type: "generic-hmac",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/hook", Token: providertest.Canary}
		},
	}.Run(t)
}

// provider 31: the signature is that of the body as it arrives, and custom headers may override what is set.
func TestSignature(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte("key"))
		mac.Write(body)
		if want, got := "sha256="+hex.EncodeToString(mac.Sum(nil)), r.Header.Get("X-Signature"); got != want {
			t.Errorf("X-Signature is %q, want %q", got, want)
		}
		if got := r.Header.Get("Gotk-Component"); got != "mine" {
			t.Errorf("gotk-component is %q", got)
		}
	}))
	defer service.Close()
	kind, _ := provider.Find("generic-hmac")
	n, err := kind.New(provider.Config{
		Address: service.URL, Token: "key", Headers: map[string]string{"gotk-component": "mine"}, HTTP: provider.NewClient(http.DefaultTransport, "flux"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Notify(context.Background(), providertest.Failed()); err != nil {
		t.Error(err)
	}
	if _, err := kind.New(provider.Config{Address: service.URL}); err == nil {
		t.Error("a notifier without a key was made")
	}
}
