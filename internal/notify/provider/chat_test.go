package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// wire is a service that answers at once and remembers what it was sent.
type wire struct {
	answer string
	sent   []sent
}

type sent struct {
	*http.Request
	body string
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	w.sent = append(w.sent, sent{r, string(body)})
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(w.answer)), Request: r}, err
}

// tell makes a notifier and gives it an event.
func (w *wire) tell(t *testing.T, kind string, c provider.Config, e event.Payload) (sent, error) {
	t.Helper()
	found, ok := provider.Find(kind)
	if !ok {
		t.Fatalf("there is no type '%s'", kind)
	}
	c.HTTP = provider.NewClient(w, "flux")
	n, err := found.New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.sent = nil
	err = n.Notify(t.Context(), e)
	if len(w.sent) != 1 {
		t.Fatalf("%d requests were made, want 1", len(w.sent))
	}
	return w.sent[0], err
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// chatConfig is a configuration that a chat accepts.
func chatConfig(kind string) provider.Config {
	c := provider.Config{Address: "https://chat.example/hook", Channel: "ops", Token: "t1"}
	switch kind {
	case "zulip":
		c.Channel, c.Username, c.Password = "ops/deploys", "bot", "p"
	case "matrix":
		c.Channel = "!room:example.com"
	}
	return c
}

// What 2.9 sends, request by request: provider 17, 19, 28, 29 and the table of payloads.
func TestChatsAsRecorded(t *testing.T) {
	const folder = "../../../test/compat/testdata/recordings/notification"
	for _, c := range []struct {
		kind   string
		config provider.Config
	}{
		{"slack", provider.Config{Channel: "general"}},
		{"discord", provider.Config{}},
		{"rocket", provider.Config{Channel: "#ops"}},
		{"googlechat", provider.Config{}},
		{"lark", provider.Config{}},
		{"matrix", provider.Config{Channel: "!room:example.com", Token: "t1"}},
		{"zulip", provider.Config{Channel: "ops/deploys", Username: "bot", Password: "p"}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(folder, "provider-"+c.kind+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			// The recorder's placeholder for a folder is markup to some services.
			var recording recording
			if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(text), "<dir>", "/dir")), &recording); err != nil {
				t.Fatal(err)
			}
			manifests := ""
			for _, manifest := range recording.Input {
				if text, ok := manifest.(string); ok {
					manifests += text + "\n"
				}
			}
			address := regexp.MustCompile(`address: \$\{SINK\}(\S*)`).FindStringSubmatch(manifests)
			if address == nil {
				t.Fatal("the recording has no address")
			}
			c.config.Address = "http://sink.example" + strings.ReplaceAll(address[1], "${NS}", recording.Namespace)
			var got []recordedRequest
			for _, posted := range recording.Observed.End.Posted {
				if e, ok := posted.payload(); ok {
					wire := wire{answer: "ok"}
					request, err := wire.tell(t, c.kind, c.config, e)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, asRecorded(request))
				}
			}
			want := recording.Observed.End.Requests
			for i := range want {
				delete(want[i].Headers, "User-Agent")
				delete(want[i].Headers, "Accept-Encoding")
				want[i].Form, _ = url.ParseQuery(want[i].Body)
				want[i].Body = ""
			}
			if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
				t.Errorf("%d requests (-recorded +sent):\n%s", len(want), diff)
			}
		})
	}
}

type recording struct {
	Namespace string
	Input     map[string]any
	Observed  struct {
		End struct {
			Posted   []recordedEvent
			Requests []recordedRequest
		}
	}
}

type recordedEvent struct {
	InvolvedObject                                 map[string]string
	Severity                                       event.Severity
	Message, Reason, ReportingController, Instance string
	Metadata                                       map[string]string
}

// payload is the event as notifiers get it; those for commit statuses go to no chat.
func (r *recordedEvent) payload() (event.Payload, bool) {
	e := providertest.Applied()
	o := &e.InvolvedObject
	o.Kind, o.Namespace, o.Name = r.InvolvedObject["kind"], r.InvolvedObject["namespace"], r.InvolvedObject["name"]
	e.Severity, e.Message, e.Reason, e.ReportingController = r.Severity, r.Message, r.Reason, r.ReportingController
	e.Metadata = map[string]string{}
	for key, value := range r.Metadata {
		_, key, _ = strings.Cut(key, "/")
		switch key {
		case "digest", "checksum":
		case "commit_status":
			return e, false
		default:
			e.Metadata[key] = value
		}
	}
	return e, true
}

type recordedRequest struct {
	Method, Path string
	Headers      map[string]string
	JSON         any
	Body         string
	Form         url.Values
}

func asRecorded(r sent) recordedRequest {
	out := recordedRequest{
		Method: r.Method, Path: regexp.MustCompile(`/[0-9a-f]{40}$`).ReplaceAllString(r.URL.Path, "/<sha1 of the event>"),
		Headers: map[string]string{}, Form: url.Values{},
	}
	for name := range r.Header {
		if name != "User-Agent" {
			out.Headers[name] = r.Header.Get(name)
		}
	}
	if json.Unmarshal([]byte(r.body), &out.JSON) != nil {
		out.Form, _ = url.ParseQuery(r.body)
	}
	return out
}

// Messages stay below what a service refuses, say that they were cut, and keep what they are about. Their metadata is in order (provider 49).
func TestChatLimits(t *testing.T) {
	for _, c := range []struct {
		kind string
		// check measures a request against the limits of the service.
		check func(t *testing.T, r sent)
		// most is the length of an event's message, of letters and with little metadata, that must get through whole.
		most int
	}{
		{"slack", slackLimits(40000, 40000, 100, 300, 8000, 40000+400), 39000},
		{"discord", slackLimits(256, 4096, 25, 256, 1024, 6000), 4096},
		{"rocket", slackLimits(400, 40000, 100, 300, 8000, 40000+400), 39000},
		{"msteams", func(t *testing.T, r sent) {
			atMost(t, "the request in UTF-8", len(r.body), 28000)
			atMost(t, "the request in UTF-16", 2*units(r.body), 28000)
		}, 11000},
		{"googlechat", func(t *testing.T, r sent) { atMost(t, "the request", len(r.body), 32000) }, 29000},
		{"webex", func(t *testing.T, r sent) {
			atMost(t, "markdown", len(decode[struct{ Markdown string }](t, r.body).Markdown), 7439)
		}, 7000},
		{"telegram", func(t *testing.T, r sent) {
			text, _ := readMarkdownV2(t, decode[struct{ Text string }](t, r.body).Text)
			atMost(t, "text", units(text), 4096)
		}, 3900},
		{"lark", func(t *testing.T, r sent) { atMost(t, "the request", len(r.body), 20000) }, 18500},
		{"matrix", func(t *testing.T, r sent) { atMost(t, "the request", len(r.body), 61000) }, 39000},
		{"zulip", func(t *testing.T, r sent) {
			form, err := url.ParseQuery(r.body)
			if err != nil {
				t.Fatal(err)
			}
			atMost(t, "content", units(form.Get("content")), 10000)
		}, 9000},
	} {
		t.Run(c.kind, func(t *testing.T) {
			for name, e := range longEvents() {
				t.Run(name, func(t *testing.T) {
					wire := wire{answer: "{}"}
					request, err := wire.tell(t, c.kind, chatConfig(c.kind), e)
					if err != nil {
						t.Fatal(err)
					}
					c.check(t, request)
					text := readable(t, request)
					if !strings.Contains(text, "…") {
						t.Error("nothing tells that the message was cut")
					}
					for _, want := range []string{"begin", "a-first"} {
						if !strings.Contains(text, want) {
							t.Errorf("%q was cut away", want)
						}
					}
					if first, second := strings.Index(text, "a-first"), strings.Index(text, "b-second"); second >= 0 && second < first {
						t.Error("the metadata is in no order")
					}
				})
			}
			t.Run("what fits stays whole", func(t *testing.T) {
				e := providertest.Applied()
				e.Message = strings.Repeat("x", c.most)
				wire := wire{answer: "{}"}
				request, err := wire.tell(t, c.kind, chatConfig(c.kind), e)
				if err != nil {
					t.Fatal(err)
				}
				c.check(t, request)
				for _, want := range []string{e.Message, e.Metadata["revision"]} {
					if !strings.Contains(readable(t, request), want) {
						t.Errorf("%.20q was cut", want)
					}
				}
			})
		})
	}
}

// longEvents are events that are longer than any service takes.
func longEvents() map[string]event.Payload {
	few := map[string]string{"a-first": "1", "b-second": "2"}
	many := map[string]string{}
	for i := range 300 {
		many[fmt.Sprintf("c-%03d", i)] = strings.Repeat("v", 5000)
	}
	for key, value := range few {
		many[key] = value
	}
	out := map[string]event.Payload{}
	for name, text := range map[string]string{
		"letters": "x", "escapes of JSON": "\"\\\n\t", "markup": "<&>*_[](){}.!#+-=|~`", "two bytes": "ü", "three bytes": "語", "four bytes": "🚀",
	} {
		e := providertest.Failed()
		e.Message, e.Metadata = "begin"+strings.Repeat(text, 200000/len(text)), few
		out[name] = e
		e.Metadata = many
		out[name+", much metadata"] = e
	}
	e := providertest.Failed()
	e.Message, e.Metadata = "begin", many
	out["much metadata"] = e
	e.Message, e.Metadata = "begin", map[string]string{"a-first": strings.Repeat("<🚀", 50000), "b-second": strings.Repeat("<🚀", 50000)}
	out["long values"] = e
	e.Message, e.Metadata = "begin", map[string]string{"a-first": "1", "long" + strings.Repeat("<🚀", 50000): "2"}
	out["long key"] = e
	e.Message, e.Metadata = "begin", few
	e.InvolvedObject.Name, e.ReportingController = strings.Repeat("<n", 50000), strings.Repeat("<c", 50000)
	out["long names"] = e
	e.Message, e.Metadata = "begin"+strings.Repeat("x", 200000), map[string]string{"a-first": "1", "b-second": "2"}
	for i := range 300 {
		e.Metadata[fmt.Sprintf("c-%03d", i)] = "v"
	}
	out["long names and text, many short entries"] = e
	return out
}

// readable is a request as one text.
func readable(t *testing.T, r sent) string {
	t.Helper()
	if form, err := url.ParseQuery(r.body); err == nil && form.Get("content") != "" {
		return form.Get("content")
	}
	var body strings.Builder
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(decode[any](t, r.body)); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(body.String(), `\\`, "")
}

func units(s string) int { return len(utf16.Encode([]rune(s))) }

func atMost(t *testing.T, what string, got, limit int) {
	t.Helper()
	if got > limit {
		t.Errorf("%s has a length of %d, the service takes %d", what, got, limit)
	}
}

func slackLimits(author, text, fields, name, value, sum int) func(*testing.T, sent) {
	return func(t *testing.T, r sent) {
		message := decode[struct {
			Attachments []struct {
				AuthorName string `json:"author_name"`
				Text       string
				Fields     []struct{ Title, Value string }
			}
		}](t, r.body)
		if len(message.Attachments) != 1 {
			t.Fatalf("%d attachments", len(message.Attachments))
		}
		a := message.Attachments[0]
		atMost(t, "author_name", units(a.AuthorName), author)
		atMost(t, "text", units(a.Text), text)
		atMost(t, "fields", len(a.Fields), fields)
		all := units(a.AuthorName) + units(a.Text)
		for _, each := range a.Fields {
			atMost(t, "title", units(each.Title), name)
			atMost(t, "value", units(each.Value), value)
			if each.Title == "" || each.Value == "" {
				t.Errorf("a field has no title or no value: %+v", each)
			}
			all += units(each.Title) + units(each.Value)
		}
		atMost(t, "the message", all, sum)
	}
}

// What cannot work is said before anything is sent, with field and remedy (provider 4, 5, 21, 28).
func TestChatConfig(t *testing.T) {
	for _, c := range []struct {
		kind, name string
		change     func(*provider.Config)
		want       []string
	}{
		{"slack", "the API without a channel", func(c *provider.Config) {
			c.Address, c.Channel = "https://slack.com/api/chat.postMessage", ""
		}, []string{"spec.channel", "give the channel"}},
		{"webex", "no channel", func(c *provider.Config) { c.Channel = "" }, []string{"spec.channel", "id of the room"}},
		{"webex", "no token", func(c *provider.Config) { c.Token = "" }, []string{"'token'", "spec.secretRef"}},
		{"telegram", "no channel", func(c *provider.Config) { c.Channel = "" }, []string{"spec.channel", "id of the chat"}},
		{"telegram", "no chat", func(c *provider.Config) { c.Channel = ":7" }, []string{"spec.channel", "id of the chat"}},
		{"telegram", "no number", func(c *provider.Config) { c.Channel = "-100:general" }, []string{"spec.channel", "number of a thread"}},
		{"telegram", "a negative number", func(c *provider.Config) { c.Channel = "-100:-7" }, []string{"spec.channel", "number of a thread"}},
		{"telegram", "no token", func(c *provider.Config) { c.Token = "" }, []string{"'token'", "spec.secretRef"}},
		{"matrix", "no channel", func(c *provider.Config) { c.Channel = "" }, []string{"spec.channel", "id of the room"}},
		{"matrix", "an alias", func(c *provider.Config) { c.Channel = "#ops:example.com" }, []string{"spec.channel", "id of the room"}},
		{"matrix", "no token", func(c *provider.Config) { c.Token = "" }, []string{"'token'", "spec.secretRef"}},
		{"zulip", "no topic", func(c *provider.Config) { c.Channel = "ops" }, []string{"spec.channel", "topic"}},
		{"zulip", "an empty topic", func(c *provider.Config) { c.Channel = "ops/" }, []string{"spec.channel", "topic"}},
		{"zulip", "no channel", func(c *provider.Config) { c.Channel = "/deploys" }, []string{"spec.channel", "topic"}},
		{"zulip", "no user", func(c *provider.Config) { c.Username = "" }, []string{"'username'", "spec.secretRef"}},
		{"zulip", "no password", func(c *provider.Config) { c.Password = "" }, []string{"'password'", "spec.secretRef"}},
	} {
		t.Run(c.kind+"/"+c.name, func(t *testing.T) {
			config := chatConfig(c.kind)
			c.change(&config)
			kind, _ := provider.Find(c.kind)
			_, err := kind.New(config)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v, want %q in it", err, want)
				}
			}
		})
	}
	for _, name := range []string{"slack", "discord", "rocket", "msteams", "googlechat", "webex", "lark", "matrix", "zulip"} {
		kind, _ := provider.Find(name)
		for _, address := range []string{"", "s3cr3t", "ftp://s3cr3t.example", "https:///s3cr3t", "https://a b/s3cr3t", "https://example.com/%zz-s3cr3t"} {
			t.Run(name+"/the address "+address, func(t *testing.T) {
				config := chatConfig(name)
				config.Address = address
				_, err := kind.New(config)
				if err == nil || !strings.Contains(err.Error(), "address") || strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("error = %v, want one that names the address and does not show it", err)
				}
			})
		}
		t.Run(name+"/a good one", func(t *testing.T) {
			if _, err := kind.New(chatConfig(name)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A status reaches the caller as a StatusError, for those who decide by it.
func TestChatStatus(t *testing.T) {
	for _, name := range []string{"slack", "telegram", "matrix", "zulip"} {
		kind, _ := provider.Find(name)
		c := chatConfig(name)
		c.HTTP = provider.NewClient(refusing{}, "flux")
		n, err := kind.New(c)
		if err != nil {
			t.Fatal(err)
		}
		err = n.Notify(context.Background(), providertest.Failed())
		if status, ok := errors.AsType[*provider.StatusError](err); !ok || status.Code != http.StatusForbidden {
			t.Errorf("%s: error = %v, want one with the status 403", name, err)
		}
		if !strings.HasPrefix(err.Error(), "postMessage failed: ") {
			t.Errorf("%s: error = %v, want it to begin like in 2.9", name, err)
		}
	}
}

type refusing struct{}

func (refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Request: r}, nil
}
