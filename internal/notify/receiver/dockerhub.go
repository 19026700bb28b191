package receiver

import "context"

// dockerHub is Docker Hub, which signs nothing (receiver 24, 32).
func dockerHub() Type {
	return Type{
		Name: "dockerhub", Title: "Docker Hub", NoSecret: true,
		Proof: "none but knowing the path; the body must be that of a push",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			var tag, address string
			return &Verified{}, decodeObject(c.Body, map[string]any{
				"push_data": map[string]any{"tag": &tag}, "repository": map[string]any{"repo_url": &address},
			})
		},
	}
}
