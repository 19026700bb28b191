package receiver

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
)

// Keys of the Secret of type gcr besides the token (receiver 25).
const (
	emailKey    = "email"
	audienceKey = "audience"
)

// gcr is Google Container Registry, whose events arrive as push messages of Pub/Sub (receiver 25).
func gcr() Type {
	return Type{
		Name: "gcr", Title: "Google Container Registry and Artifact Registry", SecretKeys: []string{emailKey, audienceKey},
		Proof:  "header `Authorization: Bearer <token>`, an ID token of Google for the `audience` of the Secret and the verified address in its `email`",
		Verify: verifyGCR,
	}
}

func verifyGCR(ctx context.Context, c *Call) (*Verified, error) {
	email, audience := string(c.Secret[emailKey]), string(c.Secret[audienceKey])
	if email == "" || audience == "" {
		// Without them any account of Google would do.
		return nil, errors.New("the Secret needs the keys 'email' and 'audience'")
	}
	claims, err := c.issuers.verifyGoogle(ctx, c.Header, audience)
	if err != nil {
		return nil, err
	}
	if verified, ok := claims["email_verified"].(bool); !ok || !verified || claims["email"] != email {
		return nil, errors.New("the token is not one of the account in the Secret, or its address is not verified")
	}
	return decodePushed(c.Body)
}

// decodePushed returns what is in a push message of Pub/Sub: filters see that, not its wrapping (receiver 14).
func decodePushed(body []byte) (*Verified, error) {
	var encoded string
	if err := decodeObject(body, map[string]any{"message": map[string]any{"data": &encoded}}); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("message.data is not base64")
	}
	var action, digest, tag string
	if err := decodeObject(data, map[string]any{"action": &action, "digest": &digest, "tag": &tag}); err != nil {
		return nil, fmt.Errorf("message.data: %w", err)
	}
	return &Verified{Request: data}, nil
}
