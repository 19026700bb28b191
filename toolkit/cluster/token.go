package cluster

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// tokenMargin is how long before its end a token is replaced.
const tokenMargin = time.Minute

// tokenSource has the token of a cluster, and gets another one before it ends: watches and waits may outlast it.
type tokenSource struct {
	clock clock.PassiveClock

	mu     sync.Mutex // guards what follows
	access *auth.ClusterAccess
	renew  func(context.Context) (*auth.ClusterAccess, error)
}

// set takes over what a later run has got.
func (s *tokenSource) set(other *tokenSource) {
	if s == other {
		return
	}
	other.mu.Lock()
	access, renew := other.access, other.renew
	other.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access, s.renew = access, renew
}

func (s *tokenSource) get(ctx context.Context) (string, error) {
	s.mu.Lock()
	access, renew := s.access, s.renew
	s.mu.Unlock()
	if access.Expires.IsZero() || s.clock.Now().Add(tokenMargin).Before(access.Expires) {
		return access.Token, nil
	}
	access, err := renew(ctx)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access = access
	return access.Token, nil
}
