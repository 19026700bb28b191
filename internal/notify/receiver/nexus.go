package receiver

import (
	"context"
	"errors"
)

// nexusHeader holds the signature alone, without its algorithm.
const nexusHeader = "X-Nexus-Webhook-Signature"

// nexus is Sonatype Nexus, which knows SHA-1 only (receiver 26).
func nexus() Type {
	return Type{
		Name: "nexus", Title: "Sonatype Nexus",
		Proof: "header `" + nexusHeader + "`, the HMAC-SHA1 of the body with the token, in hexadecimal",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			given := c.Header.Get(nexusHeader)
			if given == "" {
				return nil, errors.New("the header " + nexusHeader + " is missing")
			}
			return &Verified{}, checkHMAC(c, algorithmSHA1, given)
		},
	}
}
