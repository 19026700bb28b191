package cluster

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

const (
	// reachTimeout bounds the question whether another cluster is there. It is asked without a work slot.
	reachTimeout = 15 * time.Second
	// reached is how long an answer to that question counts, so that many objects of one cluster ask once.
	reached = time.Second
)

// Watcher is what a kind watches and remembers of a cluster, such as a *kube.Managed.
type Watcher interface {
	// Run watches until ctx ends.
	Run(ctx context.Context) error
	// Forget drops all about an owner that acts on this cluster no longer.
	Forget(owner kube.Owner)
}

// Cluster is an API server that objects act on. All whose credentials are equal share one.
type Cluster[W Watcher] struct {
	// Clients reach it.
	Clients *kube.Clients
	// Watch belongs to it. That of the controller's own cluster is run by whoever made the Set, those of others by the Set.
	Watch W

	key   string
	token *tokenSource // nil where the kubeconfig holds the credentials
	clock clock.PassiveClock

	flight singleflight.Group
	mu     sync.Mutex // guards what follows
	id     kube.ClusterID
	asked  time.Time
	answer error
}

// Key is equal for equal clusters and credentials, and tells nothing of them; it is empty for the controller's own cluster.
func (c *Cluster[W]) Key() string { return c.key }

// Remote reports whether it is not the controller's own cluster.
func (c *Cluster[W]) Remote() bool { return c.key != "" }

// AccountExists reports whether the account that an object acts as is there (kustomization 109). Credentials of another cluster need not
// have the right to look: then it is taken to be there, and the deletions tell.
func (c *Cluster[W]) AccountExists(ctx context.Context, id kube.Identity) (bool, error) {
	exists, err := c.Clients.AccountExists(ctx, id)
	if c.Remote() && apierrors.IsForbidden(err) {
		return true, nil
	}
	return exists, err
}

// identify asks the cluster which it is, and so whether it is there.
func (c *Cluster[W]) identify(ctx context.Context) error {
	c.mu.Lock()
	asked, answer := c.asked, c.answer
	c.mu.Unlock()
	if !asked.IsZero() && c.clock.Since(asked) < reached {
		return answer
	}
	done := c.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reachTimeout)
		defer cancel()
		id, err := c.Clients.Identify(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asked, c.answer = c.clock.Now(), err
		if err == nil {
			c.id = id
		}
		return nil, err
	})
	select {
	case result := <-done:
		return result.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Cluster[W]) identity() kube.ClusterID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}
