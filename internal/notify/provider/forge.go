package provider

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"unicode/utf8"

	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// maxForgeAnswer is how much of a list is read. A page of GitHub's longest comments has 7 MiB.
const maxForgeAnswer = 8 << 20

// forge is the API of a Git host.
type forge struct {
	http *Client
	// base is the address of the API, without a slash at its end.
	base string
	// sign puts credentials on a request, and what else the host wants to see in its header.
	sign func(ctx context.Context, header http.Header) error
}

// get asks for JSON. The header may be nil.
func (f *forge) get(ctx context.Context, path string, header http.Header, into any) error {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if err := f.sign(ctx, header); err != nil {
		return err
	}
	answer, err := f.http.Do(ctx, Request{Method: http.MethodGet, URL: f.base + path, Header: header, Limit: maxForgeAnswer})
	if err != nil {
		return err
	}
	return answer.JSON(into)
}

// send sends a value as JSON; of the answer only the status counts.
func (f *forge) send(ctx context.Context, method, path string, body any) error {
	header := http.Header{}
	if err := f.sign(ctx, header); err != nil {
		return err
	}
	_, err := f.http.SendJSON(ctx, method, f.base+path, body, header)
	return err
}

// gitToken is the token of the Secret (provider 14).
func gitToken(c *Config) string { return cmp.Or(c.Token, c.Password) }

// credentialRequest is a request to the authenticator in the name of the Provider (provider 45).
func credentialRequest(c *Config) auth.Request {
	return auth.Request{
		Kind: notificationv1beta3.ProviderKind, Namespace: c.Provider.Namespace, Name: c.Provider.Name, Operation: "post",
		ServiceAccountName: c.ServiceAccountName, Proxy: c.Proxy,
	}
}

// basicAuthorization is the value of the header Authorization for a user and a password.
func basicAuthorization(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// refusalHint tells what to look at when a Git host refuses; "" when there is nothing to say.
func refusalHint(err error) string {
	status, ok := errors.AsType[*StatusError](err)
	if !ok {
		return ""
	}
	switch status.Code {
	case http.StatusUnauthorized:
		return ": the host does not know the credentials of spec.secretRef, or they have expired"
	case http.StatusForbidden:
		return ": the credentials of spec.secretRef lack a permission"
	case http.StatusNotFound:
		return ": the host does not have what spec.address and the event name, or hides it from the credentials of spec.secretRef"
	}
	return ""
}

// cutForForge shortens a text to what a host takes: at most limit bytes, which are never fewer than characters, without splitting one.
func cutForForge(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}
