package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lead starts a component, with leader election once it holds the component's lease. The lease has the upstream
// name, so that a 2.9 controller beside us stands by, and we wait while one works.
func (p *process) lead(ctx context.Context, c chosen) error {
	if !p.shared.leaderElection {
		return p.setup(ctx, c)
	}
	if p.namespace == "" {
		return errors.New("--enable-leader-election needs RUNTIME_NAMESPACE to say where the leases are")
	}
	set, err := kubernetes.NewForConfig(p.config)
	if err != nil {
		return fmt.Errorf("making the client for leases: %w", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("naming the holder of the lease: %w", err)
	}
	started := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: p.namespace, Name: leaseName(c.Name, p.shared.watchLabelSelector)},
			Client:     set.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: hostname + "_" + string(uuid.NewUUID())},
		},
		LeaseDuration:   p.shared.leaseDuration,
		RenewDeadline:   p.shared.renewDeadline,
		RetryPeriod:     p.shared.retryPeriod,
		ReleaseOnCancel: p.shared.releaseOnCancel,
		Name:            c.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { started <- p.setup(ctx, c) },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the election of %s: %w", c.Name, err)
	}
	p.state.set(c.Name, "waiting for the lease")
	done := make(chan struct{})
	go func() {
		defer close(done)
		elector.Run(ctx)
	}()
	for {
		select {
		case err := <-started:
			if err != nil {
				return err
			}
		case <-done:
			if ctx.Err() != nil {
				return nil
			}
			// Two processes must never work on the same objects: the restart comes back as a candidate.
			return fmt.Errorf("%s lost its lease", c.Name)
		}
	}
}

// leaseName is 2.9's: a shard has its own lease (_common 12).
func leaseName(component, selector string) string {
	name := component + "-leader-election"
	if selector != "" {
		name += fmt.Sprintf("-%.8x", sha256.Sum256([]byte(selector)))[:9]
	}
	return name
}
