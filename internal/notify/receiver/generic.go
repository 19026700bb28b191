package receiver

import "context"

// generic is a sender that proves nothing but that it knows the path (receiver 19).
func generic() Type {
	return Type{
		Name: "generic", Title: "any sender", Proof: "none but knowing the path", NoSecret: true,
		Verify: func(context.Context, *Call) (*Verified, error) { return &Verified{}, nil },
	}
}
