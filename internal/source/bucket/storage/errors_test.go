package storage

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// bucket 13, 27: neither queries nor credentials.
func TestErrorText(t *testing.T) {
	for text, want := range map[string]string{
		`Get "https://a.b/c?sig=x&y=z": EOF`:           `Get "https://a.b/c": EOF`,
		"see https://a.b?x and http://c/d?e=f.":        "see https://a.b and http://c/d",
		"is that so? yes":                              "is that so? yes",
		"https://user:pass@a.b/c?d":                    "https://a.b/c",
		"two\n\tlines with a-secret-value":             "two lines with ***",
		"escaped a-secret%2Dvalue a-secret-value":      "escaped a-secret%2Dvalue ***",
		strings.Repeat("x", maxText) + " and so on":    strings.Repeat("x", maxText) + "...",
		strings.Repeat("x", maxText-1) + "é and so on": strings.Repeat("x", maxText-1) + "...",
	} {
		if got := (&storageError{err: errors.New(text), secrets: []string{"a-secret-value"}}).Error(); got != want {
			t.Errorf("text of %q = %q, want %q", text, got, want)
		}
	}
}

// FuzzErrorText: what stands in the query of a URL shows in no message.
func FuzzErrorText(f *testing.F) {
	f.Add("Get \"", "sig=canary", "\": EOF")
	f.Add("http://x?", "a=b&canary", "://y?")
	f.Fuzz(func(t *testing.T, before, query, after string) {
		const canary = "qzcanaryzq"
		text := before + " https://host/path?" + url.QueryEscape(query) + canary + " " + after
		if strings.Contains(before+after, canary) {
			return
		}
		if got := (&storageError{err: errors.New(text)}).Error(); strings.Contains(got, canary) {
			t.Errorf("the text of %q is %q", text, got)
		}
	})
}

// FuzzSAS: a token of any form is taken or refused without being shown, and the endpoint stays where it is.
func FuzzSAS(f *testing.F) {
	for _, seed := range []string{"?sv=1&sig=a%2Bb", "sig=%zz", "a;b", "", "?", "&&", "sig=a&sig=b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		u := &url.URL{Scheme: "https", Host: "a.b.c", Path: "/d", RawQuery: "x=1"}
		if err := addSAS(u, token); err != nil {
			if len(token) > 5 && !strings.Contains("key 'sasKey': not a SAS token of the form sv=...&sig=...", token) && strings.Contains(err.Error(), token) {
				t.Errorf("the error shows the token: %v", err)
			}
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != "a.b.c" || again.Path != "/d" {
			t.Errorf("with %q the address is %s (%v)", token, u, err)
		}
	})
}
