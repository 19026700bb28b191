package receiver

import "context"

// harbor is Harbor (receiver 23).
func harbor() Type {
	return Type{
		Name: "harbor", Title: "Harbor",
		Proof: "header `Authorization`, the token itself, without a scheme before it",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			return &Verified{}, checkToken(c, "Authorization")
		},
	}
}
