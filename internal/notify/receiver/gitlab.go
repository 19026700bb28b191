package receiver

import "context"

// gitlab is GitLab (receiver 21).
func gitlab() Type {
	return Type{
		Name: "gitlab", Title: "GitLab", Events: "X-Gitlab-Event",
		Proof: "header `X-Gitlab-Token`, the token itself",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			return &Verified{}, checkToken(c, "X-Gitlab-Token")
		},
	}
}
