package receiver

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/api/crds"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/internal/notify/receiver/receivertest"
)

const pushed = `{"ref":"refs/heads/main","repository":{"name":"app"}}`

// signed is the HMAC of a body in hexadecimal.
func signed(algorithm func() hash.Hash, token string, body []byte) string {
	mac := hmac.New(algorithm, []byte(token))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

func set(name, value string) func(http.Header, []byte) {
	return func(h http.Header, _ []byte) { h.Set(name, value) }
}

// wrongSignatures are forged values of a header of the form "<algorithm>=<hex>".
func wrongSignatures(header string) []receivertest.Wrong {
	with := func(prefix string, algorithm func() hash.Hash, token string) func(http.Header, []byte) {
		return func(h http.Header, body []byte) { h.Set(header, prefix+signed(algorithm, token, body)) }
	}
	return []receivertest.Wrong{
		{Name: "token", Change: with("sha256=", sha256.New, receivertest.Canary)},
		{Name: "empty token", Change: with("sha256=", sha256.New, "")},
		{Name: "algorithm", Change: with("md5=", md5.New, receivertest.Token)},
		{Name: "name of the algorithm", Change: with("sha512=", sha256.New, receivertest.Token)},
		{Name: "no algorithm", Change: with("", sha256.New, receivertest.Token)},
		{Name: "empty", Change: set(header, "")},
		{Name: "empty signature", Change: set(header, "sha256=")},
		{Name: "no hex", Change: set(header, "sha256="+receivertest.Canary)},
		{Name: "cut", Change: func(h http.Header, body []byte) {
			h.Set(header, "sha256="+signed(sha256.New, receivertest.Token, body)[:62])
		}},
	}
}

// receiver 19; what the suite asks of each type is receiver 8, 9, 11, 13, 29, 30, 31, 36.
func TestGeneric(t *testing.T) {
	receivertest.Suite{Type: "generic", Body: pushed}.Run(t, serve)
}

// receiver 19
func TestGenericHMAC(t *testing.T) {
	for prefix, algorithm := range map[string]func() hash.Hash{"sha1=": sha1.New, "sha256=": sha256.New, "sha512=": sha512.New} {
		t.Run(prefix, func(t *testing.T) {
			receivertest.Suite{
				Type: "generic-hmac", Body: pushed, Signs: true, Wrong: wrongSignatures("X-Signature"),
				Prove: func(h http.Header, body []byte) {
					h.Set("X-Signature", prefix+signed(algorithm, receivertest.Token, body))
				},
			}.Run(t, serve)
		})
	}
}

// receiver 20
func TestGitHub(t *testing.T) {
	t.Run("SHA-256", func(t *testing.T) {
		wrong := wrongSignatures("X-Hub-Signature-256")
		wrong = append(wrong, receivertest.Wrong{Name: "the better header is wrong", Change: func(h http.Header, body []byte) {
			h.Set("X-Hub-Signature-256", "sha256=00")
			h.Set("X-Hub-Signature", "sha1="+signed(sha1.New, receivertest.Token, body))
		}}, receivertest.Wrong{Name: "SHA-1 in the better header", Change: func(h http.Header, body []byte) {
			h.Set("X-Hub-Signature-256", "sha1="+signed(sha1.New, receivertest.Token, body))
		}})
		// An empty header is one that is not there.
		receivertest.Suite{
			Type: "github", Body: pushed, Signs: true, NeedsContentType: true, EventHeader: "X-GitHub-Event", Wrong: wrong,
			Prove: func(h http.Header, body []byte) {
				h.Set("X-Hub-Signature-256", "sha256="+signed(sha256.New, receivertest.Token, body))
			},
		}.Run(t, serve)
	})
	t.Run("SHA-1", func(t *testing.T) {
		receivertest.Suite{
			Type: "github", Body: pushed, Signs: true, NeedsContentType: true, EventHeader: "X-GitHub-Event", Wrong: wrongSignatures("X-Hub-Signature"),
			Prove: func(h http.Header, body []byte) {
				h.Set("X-Hub-Signature", "sha1="+signed(sha1.New, receivertest.Token, body))
			},
		}.Run(t, serve)
	})
}

// receiver 20: filters see the JSON of a form.
func TestGitHubForm(t *testing.T) {
	served := serveWith(t, notificationv1.ReceiverSpec{
		Type: "github", ResourceFilter: `req.ref == "refs/heads/main"`,
		Resources: []notificationv1.ReceiverResource{resource("GitRepository", "app")},
	}, map[string][]byte{"token": []byte(receivertest.Token)}, nil)
	for _, test := range []struct {
		name, body string
		code       int
		asked      bool
	}{
		{"main", url.Values{"payload": {pushed}}.Encode(), 200, true},
		{"another branch", url.Values{"payload": {`{"ref":"refs/heads/x"}`}}.Encode(), 200, false},
		{"no JSON", url.Values{"payload": {"x"}}.Encode(), 500, false},
		{"no payload", "a=b", 400, false},
		{"no form", "%zz", 400, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := served.Asked()
			header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
			header.Set("X-Hub-Signature-256", "sha256="+signed(sha256.New, receivertest.Token, []byte(test.body)))
			if code := served.post(header, test.body); code != test.code || (served.Asked() != before) != test.asked {
				t.Errorf("status %d, asked %t, want %d, %t", code, served.Asked() != before, test.code, test.asked)
			}
		})
	}
}

// receiver 21
func TestGitLab(t *testing.T) {
	receivertest.Suite{
		Type: "gitlab", Body: pushed, EventHeader: "X-Gitlab-Event",
		Prove: func(h http.Header, _ []byte) { h.Set("X-Gitlab-Token", receivertest.Token) },
		Wrong: wrongTokens("X-Gitlab-Token"),
	}.Run(t, serve)
}

// receiver 22
func TestBitbucket(t *testing.T) {
	receivertest.Suite{
		Type: "bitbucket", Body: pushed, Signs: true, NeedsContentType: true, EventHeader: "X-Event-Key", Wrong: wrongSignatures("X-Hub-Signature"),
		Prove: func(h http.Header, body []byte) {
			h.Set("X-Hub-Signature", "sha256="+signed(sha256.New, receivertest.Token, body))
		},
	}.Run(t, serve)
}

// receiver 23
func TestHarbor(t *testing.T) {
	receivertest.Suite{
		Type: "harbor", Body: pushed,
		Prove: func(h http.Header, _ []byte) { h.Set("Authorization", receivertest.Token) },
		Wrong: append(wrongTokens("Authorization"), receivertest.Wrong{Name: "a scheme", Change: set("Authorization", "Bearer "+receivertest.Token)}),
	}.Run(t, serve)
}

func wrongTokens(header string) []receivertest.Wrong {
	return []receivertest.Wrong{
		{Name: "token", Change: set(header, receivertest.Canary)},
		{Name: "empty", Change: set(header, "")},
		{Name: "beginning", Change: set(header, receivertest.Token[:4])},
		{Name: "more", Change: set(header, receivertest.Token+"x")},
		{Name: "case", Change: set(header, strings.ToUpper(receivertest.Token))},
	}
}

// receiver 24, 32
func TestDockerHub(t *testing.T) {
	receivertest.Suite{
		Type: "dockerhub", Parses: true,
		Body: `{"callback_url":"https://registry.hub.docker.com/u/x/hook/1/","push_data":{"images":["a"],"pushed_at":1.4e9,"pusher":"x","tag":"v1"},` +
			`"repository":{"comment_count":0,"is_private":false,"repo_name":"x/app","repo_url":"https://registry.hub.docker.com/u/x/app/"}}`,
		Refused: map[string]string{
			"null": `{"push_data":null,"repository":{"repo_url":"u"}}`, "null inside": `{"push_data":{"tag":null}}`,
			"list": `{"push_data":[]}`, "number": `{"push_data":{"tag":1}}`, "object": `{"repository":{"repo_url":{}}}`,
		},
	}.Run(t, serve)
}

// receiver 24, 32
func TestQuay(t *testing.T) {
	receivertest.Suite{
		Type: "quay", Parses: true,
		Body: `{"name":"app","repository":"x/app","namespace":"x","docker_url":"quay.io/x/app",` +
			`"homepage":"https://quay.io/repository/x/app","updated_tags":["latest"]}`,
		Refused: map[string]string{
			"null": `{"docker_url":null}`, "number": `{"docker_url":1}`, "tags": `{"updated_tags":"latest"}`, "tag": `{"updated_tags":[{}]}`,
		},
	}.Run(t, serve)
}

// receiver 24, 32
func TestACR(t *testing.T) {
	receivertest.Suite{
		Type: "acr", Parses: true,
		Body: `{"id":"1","timestamp":"2026-01-01T00:00:00Z","action":"push",` +
			`"target":{"mediaType":"m","size":1,"digest":"sha256:0","repository":"app","tag":"v1"}}`,
		Refused: map[string]string{
			"null": `{"action":"push","target":null}`, "number": `{"action":1}`, "target": `{"target":"app"}`, "tag": `{"target":{"tag":[]}}`,
		},
	}.Run(t, serve)
}

// receiver 26
func TestNexus(t *testing.T) {
	const header = "X-Nexus-Webhook-Signature"
	receivertest.Suite{
		Type: "nexus", Body: pushed, Signs: true,
		Prove: func(h http.Header, body []byte) { h.Set(header, signed(sha1.New, receivertest.Token, body)) },
		Wrong: []receivertest.Wrong{
			{Name: "token", Change: func(h http.Header, body []byte) { h.Set(header, signed(sha1.New, receivertest.Canary, body)) }},
			{Name: "algorithm", Change: func(h http.Header, body []byte) { h.Set(header, signed(sha256.New, receivertest.Token, body)) }},
			{Name: "prefix", Change: func(h http.Header, body []byte) { h.Set(header, "sha1="+signed(sha1.New, receivertest.Token, body)) }},
			{Name: "short", Change: set(header, "00")},
			{Name: "empty", Change: set(header, "")},
		},
	}.Run(t, serve)
}

// receiver 13, 27
func TestCDEvents(t *testing.T) {
	const good = `{"context":{"version":"0.4.1","id":"271069a8","source":"/event/source/123","type":"dev.cdevents.artifact.packaged.0.2.0",` +
		`"timestamp":"2026-03-20T14:27:05.315384Z"},"subject":{"id":"pkg:golang/mygit.com/app@1","source":"/event/source/123","type":"artifact",` +
		`"content":{"change":{"id":"1"}}}}`
	refused := map[string]string{"nothing": "{}", "null": `{"context":null,"subject":null}`}
	for name, change := range map[string][2]string{
		"version":      {`"0.4.1"`, `"0.3.0"`},
		"later":        {`"0.4.1"`, `"0.40.1"`},
		"version null": {`"0.4.1"`, `null`},
		"id":           {`"271069a8"`, `""`},
		"id number":    {`"271069a8"`, `1`},
		"type":         {`dev.cdevents.artifact.packaged.0.2.0`, `artifact.packaged`},
		"time":         {`2026-03-20T14:27:05.315384Z`, `yesterday`},
		"subject":      {`"subject":{`, `"sub":{`},
		"subject id":   {`"id":"pkg:golang/mygit.com/app@1"`, `"id":""`},
		"subject type": {`"type":"artifact"`, `"type":"change"`},
		"content":      {`"content":{`, `"contents":{`},
		"content list": {`"content":{"change":{"id":"1"}}`, `"content":[]`},
	} {
		body := strings.Replace(good, change[0], change[1], 1)
		if body == good {
			t.Fatalf("%s changes nothing", name)
		}
		refused[name] = body
	}
	receivertest.Suite{Type: "cdevents", Parses: true, EventHeader: "Ce-Type", Body: good, Refused: refused}.Run(t, serve)

	custom := strings.NewReplacer("dev.cdevents.artifact.packaged.0.2.0", "dev.cdeventsx.mytool-resource.created.0.1.0",
		`"type":"artifact"`, `"type":"mytool-resource"`).Replace(good)
	if err := checkCDEvent([]byte(custom)); err != nil {
		t.Errorf("an event of a tool's own: %v", err)
	}
}

// Every type of the API is here, in its order, and says what it is.
func TestTypes(t *testing.T) {
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, crd := range all {
		if crd.Spec.Names.Kind == notificationv1.ReceiverKind {
			enum := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["type"].Enum
			for _, value := range enum {
				want = append(want, strings.Trim(string(value.Raw), `"`))
			}
		}
	}
	var got []string
	for _, kind := range Types() {
		got = append(got, kind.Name)
		if kind.Title == "" || kind.Proof == "" || kind.Verify == nil {
			t.Errorf("%s lacks its title, its proof or its check", kind.Name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if _, ok := Find("x"); ok {
		t.Error("found a type that there is not")
	}
}
