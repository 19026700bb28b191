package receiver

import (
	"context"
	"errors"
	"slices"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// DefaultAudience is what tokens must be for where an oidcProvider names no audience (receiver 28).
const DefaultAudience = "notification-controller"

// genericOIDC is a sender with a token of an issuer that the Receiver names (receiver 28, 37).
func genericOIDC() Type {
	return Type{
		Name: "generic-oidc", Title: "any sender with an OIDC token, such as a job of a CI service", OIDC: true,
		Proof:  "header `Authorization: Bearer <token>`, a token of one of `oidcProviders` that meets all its validations",
		Verify: verifyOIDC,
	}
}

func verifyOIDC(ctx context.Context, c *Call) (*Verified, error) {
	token, issuer, err := bearer(c.Header)
	if err != nil {
		return nil, err
	}
	// Only issuers of the spec are ever asked.
	n := slices.IndexFunc(c.spec.OIDCProviders, func(p notificationv1.OIDCProvider) bool { return p.IssuerURL == issuer })
	if n < 0 {
		return nil, errors.New("the issuer of the token is not among spec.oidcProviders")
	}
	audience := c.spec.OIDCProviders[n].Audience
	if audience == "" {
		audience = DefaultAudience
	}
	claims, err := c.issuers.verify(ctx, token, issuer, []string{issuer}, audience)
	if err != nil {
		return nil, err
	}
	err = c.thinking.do(ctx, func(ctx context.Context) error { return c.rules.providers[n].check(ctx, claims) })
	if err != nil {
		return nil, err
	}
	return &Verified{Claims: claims}, nil
}
