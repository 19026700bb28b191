package receiver

import "context"

// acr is Azure Container Registry, which signs nothing (receiver 24, 32).
func acr() Type {
	return Type{
		Name: "acr", Title: "Azure Container Registry", NoSecret: true,
		Proof: "none but knowing the path; the body must be that of an event",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			var action, repository, tag string
			return &Verified{}, decodeObject(c.Body, map[string]any{
				"action": &action, "target": map[string]any{"repository": &repository, "tag": &tag},
			})
		},
	}
}
