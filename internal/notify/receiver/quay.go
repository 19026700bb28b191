package receiver

import "context"

// quay is Quay, which signs nothing (receiver 24, 32).
func quay() Type {
	return Type{
		Name: "quay", Title: "Quay", NoSecret: true,
		Proof: "none but knowing the path; the body must be that of a push",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			var address string
			var tags []string
			return &Verified{}, decodeObject(c.Body, map[string]any{"docker_url": &address, "updated_tags": &tags})
		},
	}
}
