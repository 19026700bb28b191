package secret

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
)

const redacted = "***"

// MinRedacted keeps short values, which are words of messages more often than secrets, from turning a message into asterisks.
const MinRedacted = 6

// Login returns what must not be shown of a login: the password, and what the header Authorization makes of both, which
// servers repeat when they tell what they refuse.
func Login(user, password string) []string {
	return []string{password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
}

// Redact returns text without the given values and without the credentials of
// the URLs it contains. Values are replaced as they are and as URLs spell them.
func Redact(text string, values ...string) string {
	// The longest first: one value may contain another.
	values = slices.Clone(values)
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	for _, v := range values {
		if len(v) < MinRedacted {
			continue
		}
		for _, form := range []string{v, url.QueryEscape(v), url.PathEscape(v)} {
			text = strings.ReplaceAll(text, form, redacted)
		}
	}
	return redactURLs(text)
}

func redactURLs(text string) string {
	var out strings.Builder
	for {
		i := strings.Index(text, "://")
		if i < 0 {
			out.WriteString(text)
			return out.String()
		}
		start := i
		for start > 0 && isSchemeByte(text[start-1]) {
			start--
		}
		end := i + len("://")
		for end < len(text) && !endsURL(text[end]) {
			end++
		}
		out.WriteString(text[:start])
		out.WriteString(RedactURL(text[start:end]))
		text = text[end:]
	}
}

func isSchemeByte(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'
}

func endsURL(c byte) bool { return c <= ' ' || strings.IndexByte("\"'`<>,;()", c) >= 0 }

// RedactURL returns raw without its user and password and with the values of
// query parameters that look like credentials replaced. The user of an ssh URL
// stays: it is part of the address. The rest keeps its spelling, also where it
// is not a valid URL.
func RedactURL(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return raw
	}
	rest, fragment, hasFragment := strings.Cut(rest, "#")
	rest, query, hasQuery := strings.Cut(rest, "?")
	authority, path, hasPath := strings.Cut(rest, "/")
	user := ""
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if strings.HasSuffix(strings.ToLower(scheme), "ssh") {
			user, _, _ = strings.Cut(authority[:at], ":")
			user += "@"
		}
		authority = authority[at+1:]
	}
	out := scheme + "://" + user + authority
	if hasPath {
		// A password with a slash that was not escaped ends up in the path.
		if at := strings.LastIndexByte(path, '@'); at >= 0 && strings.Contains(authority, ":") && !validPort(authority) {
			return scheme + "://" + path[at+1:]
		}
		out += "/" + path
	}
	if hasQuery {
		out += "?" + redactQuery(query)
	}
	if hasFragment {
		out += "#" + redactQuery(fragment)
	}
	return out
}

func validPort(authority string) bool {
	_, err := url.Parse("http://" + authority)
	return err == nil
}

func redactQuery(query string) string {
	parameters := strings.Split(query, "&")
	for i, p := range parameters {
		if name, _, ok := strings.Cut(p, "="); ok && isCredential(name) {
			parameters[i] = name + "=" + redacted
		}
	}
	return strings.Join(parameters, "&")
}

func isCredential(name string) bool {
	name = strings.ToLower(name)
	if name == "sig" || name == "key" || name == "auth" || name == "code" {
		return true
	}
	for _, part := range []string{"token", "secret", "signature", "password", "passwd", "credential", "apikey", "api_key", "accesskey", "access_key"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
