package receiver

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"testing"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// proofs are the headers of a genuine call, of all types at once.
func proofs(body []byte) http.Header {
	h := http.Header{}
	h.Set("X-Signature", "sha256="+signed(sha256.New, "t", body))
	h.Set("X-Hub-Signature", "sha256="+signed(sha256.New, "t", body))
	h.Set("X-Gitlab-Token", "t")
	h.Set("Authorization", "t")
	h.Set(nexusHeader, signed(sha1.New, "t", body))
	return h
}

// FuzzBody gives any body to every type that does not ask an issuer: the call is genuine, so that the body gets as far as it can. What is
// accepted can be filtered or is refused then; nothing panics (reliability 022).
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		"", "null", "{}", "[]", `"x"`, "1", pushed, `payload=%7B%7D`, `{"push_data":{"tag":"v1"},"repository":{"repo_url":"u"}}`,
		`{"docker_url":"u","updated_tags":["v1"]}`, `{"action":"push","target":{"repository":"app","tag":"v1"}}`, `{"push_data":null,"context":null}`,
		`{"context":{"version":"0.4.1","id":"1","source":"s","type":"dev.cdevents.artifact.packaged.0.2.0","timestamp":"2026-03-20T14:27:05Z"},` +
			`"subject":{"id":"1","type":"artifact","content":{}}}`,
		`{"message":{"data":"e30="}}`, `{"a":"\"[{,"}`, "{\"a\":\"\\", `{"context":{"type":"dev.cdevents"}}`,
	} {
		for _, media := range []string{mediaJSON, mediaForm, "", "text/plain; charset=x"} {
			f.Add(media, []byte(body))
		}
	}
	filter, err := compileExpression("req == req && has(req.ref)", true, reqVariable)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, media string, body []byte) {
		for _, kind := range Types() {
			if kind.OIDC || kind.Name == "gcr" {
				continue
			}
			header := proofs(body)
			header.Set("Content-Type", media)
			v, err := kind.Verify(context.Background(), &Call{Header: header, Body: body, Secret: map[string][]byte{"token": []byte("t")}})
			if err != nil {
				continue
			}
			req, err := request(v, header, body)
			if err != nil {
				continue
			}
			_, _ = filter.holds(context.Background(), map[string]any{reqVariable: req})
		}
	})
}

// FuzzPushed gives any body and any message to what reads messages of Pub/Sub, behind a token that is good.
func FuzzPushed(f *testing.F) {
	for _, data := range []string{"", "null", "{}", `{"action":"INSERT","tag":"a:v1"}`, `{"tag":null}`, "[]"} {
		body, err := json.Marshal(map[string]any{"message": map[string]any{"data": []byte(data)}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := decodePushed(body)
		if err == nil && !json.Valid(v.Request) {
			t.Errorf("accepted %q, whose message is %q", body, v.Request)
		}
	})
}

// FuzzSize holds the limits of JSON to the decoder: what the limits let pass is no deeper than they say, and what they refuse is no
// small value.
func FuzzSize(f *testing.F) {
	for _, s := range []string{"", "[]", `{"a":[1,{"b":"]["}]}`, `"\"["`, `"\\"`, "[[[[", "]]]]", `{"a":"\u005b"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := checkSize(data)
		var v any
		if json.Unmarshal(data, &v) != nil {
			return
		}
		deep := depth(v)
		if (deep <= maxDepth) != (err == nil) && len(data) < maxValues {
			t.Errorf("depth %d, error %v", deep, err)
		}
	})
}

func depth(v any) int {
	most := 0
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			most = max(most, depth(inner))
		}
		return most + 1
	case []any:
		for _, inner := range v {
			most = max(most, depth(inner))
		}
		return most + 1
	}
	return 0
}

// FuzzBearer reads any header as a token.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{
		"", "Bearer", "Bearer x", "bearer a.b.c", "Basic eDp5", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
		"Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0In0.AAAA", "Bearer {}", `Bearer {"signatures":[]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token, _, err := bearer(http.Header{"Authorization": {header}})
		if err == nil && (len(token.Headers) != 1 || token.Headers[0].Algorithm == "none" || token.Headers[0].Algorithm[:2] == "HS") {
			t.Errorf("accepted %q", header)
		}
	})
}

// FuzzExpression compiles any text as a filter and evaluates it.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"", "true", "req.x == 'y'", "res.metadata.name.startsWith('a')", "[1,2].all(x, x > 0)",
		"req.?x.orValue(1) == 1", "claims.x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		obj := receiverOf("generic", func(r *notificationv1.Receiver) { r.Spec.ResourceFilter = text })
		r, err := compile(obj)
		if err != nil || r.filter == nil {
			return
		}
		_, _ = r.filter.holds(t.Context(), map[string]any{reqVariable: map[string]any{"x": "y"}, resVariable: map[string]any{}})
	})
}
