package receiver

import "context"

// bitbucket is Bitbucket Server (receiver 22).
func bitbucket() Type {
	return Type{
		Name: "bitbucket", Title: "Bitbucket Server and Data Center", Events: "X-Event-Key",
		Proof: "header `X-Hub-Signature: sha256=<hex>`, the HMAC of the body with the token",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			if err := checkSignature(c, "X-Hub-Signature", algorithmSHA1, algorithmSHA256, algorithmSHA512); err != nil {
				return nil, err
			}
			return hubPayload(c)
		},
	}
}
