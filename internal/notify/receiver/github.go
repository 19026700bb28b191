package receiver

import (
	"context"
	"errors"
	"net/url"
)

// github is GitHub, whose newer header has the better algorithm and counts where it is present (receiver 20).
func github() Type {
	return Type{
		Name: "github", Title: "GitHub", Events: "X-GitHub-Event",
		Proof: "header `X-Hub-Signature-256`, the HMAC-SHA256 of the body with the token; without it `X-Hub-Signature`, with SHA-1",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			if c.Header.Get("X-Hub-Signature-256") != "" {
				if err := checkSignature(c, "X-Hub-Signature-256", algorithmSHA256); err != nil {
					return nil, err
				}
			} else if err := checkSignature(c, "X-Hub-Signature", algorithmSHA1, algorithmSHA256, algorithmSHA512); err != nil {
				return nil, err
			}
			return hubPayload(c)
		},
	}
}

// hubPayload accepts the two forms in which GitHub, and those who do alike, send their JSON.
func hubPayload(c *Call) (*Verified, error) {
	switch mediaType(c.Header) {
	case mediaJSON:
		return &Verified{}, nil
	case mediaForm:
		form, err := url.ParseQuery(string(c.Body))
		if err != nil || !form.Has("payload") {
			return nil, errors.New("the form has no field payload")
		}
		return &Verified{Request: []byte(form.Get("payload"))}, nil
	}
	return nil, errors.New("the content type is neither " + mediaJSON + " nor " + mediaForm)
}
