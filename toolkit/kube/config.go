package kube

import (
	"k8s.io/client-go/rest"
)

// Config returns a copy of base for this house's clients. The client-side rate limiter is off: API Priority and Fairness
// limits on the server, where it knows the load, and a second limiter in front of it only delays (architecture 5b).
func Config(base *rest.Config, userAgent string) *rest.Config {
	c := rest.CopyConfig(base)
	c.QPS, c.Burst, c.RateLimiter = -1, -1, nil
	if userAgent != "" {
		c.UserAgent = userAgent
	}
	// The API server repeats its deprecation warnings in each answer; they are of no use to the object's owner in our log.
	c.WarningHandler = rest.NoWarnings{}
	return c
}
