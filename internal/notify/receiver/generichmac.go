package receiver

import "context"

// genericHMAC is a sender that signs the body (receiver 19).
func genericHMAC() Type {
	return Type{
		Name: "generic-hmac", Title: "any sender that signs",
		Proof: "header `X-Signature: sha256=<hex>`, the HMAC of the body with the token; `sha1=` and `sha512=` as well",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			return &Verified{}, checkSignature(c, "X-Signature", algorithmSHA1, algorithmSHA256, algorithmSHA512)
		},
	}
}
