package provider_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// hard are the events that test the limits of services.
func hard() []providertest.Case {
	bare := providertest.Failed()
	bare.Metadata = nil
	return []providertest.Case{{Name: "bare", Event: bare}}
}

// crowded is a failure with as much in it as the event endpoint takes.
func crowded() event.Payload {
	e := providertest.Failed()
	e.Message = strings.Repeat("ü", event.MaxPayloadMessage/2)
	for i := range 300 {
		e.Metadata[fmt.Sprintf("key-%03d", i)] = strings.Repeat("välue: ", 300)
	}
	return e
}

// told is what a service was told.
type told struct {
	method, path, query string
	header              http.Header
	body                []byte
}

// tell sends events through a type to a service on loopback and returns what the service was told.
func tell(t *testing.T, name string, c provider.Config, events ...event.Payload) []told {
	t.Helper()
	var out []told
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		out = append(out, told{r.Method, r.URL.Path, r.URL.RawQuery, r.Header, body})
		_, _ = io.WriteString(w, "{}")
	}))
	defer service.Close()
	c.Address = strings.ReplaceAll(c.Address, "http://service", service.URL)
	c.HTTP = provider.NewClient(http.DefaultTransport, "flux/test")
	n := made(t, name, c)
	for _, e := range events {
		if err := n.Notify(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// way is a function as a way to a service.
type way func(*http.Request) (*http.Response, error)

func (w way) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

func made(t *testing.T, name string, c provider.Config) provider.Notifier {
	t.Helper()
	kind, ok := provider.Find(name)
	if !ok {
		t.Fatalf("there is no type '%s'", name)
	}
	n, err := kind.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// refuses checks that New fails for a configuration with words that lead to the remedy, and without secrets.
func refuses(t *testing.T, name string, c provider.Config, words ...string) {
	t.Helper()
	kind, ok := provider.Find(name)
	if !ok {
		t.Fatalf("there is no type '%s'", name)
	}
	_, err := kind.New(c)
	if err == nil {
		t.Fatalf("%s: no error, want one with %q", name, words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the error is %q, want %q in it", name, err, word)
		}
	}
	if strings.Contains(err.Error(), providertest.Canary) {
		t.Errorf("%s: the error holds a secret: %v", name, err)
	}
}

func asJSON[T any](t *testing.T, data []byte) T {
	t.Helper()
	var out T
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return out
}

func length(m map[string]string) int {
	n := 0
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}

// provider 33, 41: what 2.9 does not know is not known.
func TestUnknownTypes(t *testing.T) {
	for _, name := range []string{"zoom", "incidentio", "incident.io", "", "Slack"} {
		if found, ok := provider.Find(name); ok {
			t.Errorf("Find(%q) = %q", name, found.Name)
		}
	}
}

// provider 34, 36: what comes from the Secret is sent as it is, spaces included; user name and password go together.
func TestLogins(t *testing.T) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, name := range []string{"grafana", "alertmanager"} {
		for _, c := range []struct {
			name   string
			config provider.Config
			want   string
		}{
			{"nothing", provider.Config{}, ""},
			{"token", provider.Config{Token: "t"}, "Bearer t"},
			{"user and password", provider.Config{Username: " u ", Password: "p\n"}, basic(" u :p\n")},
			{"a lone user", provider.Config{Username: "u"}, ""},
			{"a lone password", provider.Config{Password: "p"}, ""},
			{"all", provider.Config{Token: "t", Username: "u", Password: "p"}, "Bearer t"},
		} {
			t.Run(name+" "+c.name, func(t *testing.T) {
				c.config.Address = "http://service/hook"
				got := tell(t, name, c.config, providertest.Applied())[0].header.Values("Authorization")
				if strings.Join(got, "|") != c.want {
					t.Errorf("Authorization = %q, want %q", got, c.want)
				}
			})
		}
	}
}
