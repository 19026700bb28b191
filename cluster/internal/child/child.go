// Package child is what a re-executed process of this program runs: one of etcd, the API server, the controller manager and the pod
// simulator. Each keeps process-wide state (flags, metrics, loggers), so each has a process to itself.
package child

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/seed-79636ae9/flux/cluster/internal/plan"
)

// File descriptors that a supervisor hands to its children.
const (
	// LifelineFD reads end-of-file when the supervisor is gone, however it went.
	LifelineFD = 3
	// ReadyFD takes one line when the part is ready, from those parts that know it themselves.
	ReadyFD = 4
)

// Run runs the part called name until it is signalled or fails. It does not return before the part has ended.
func Run(name string, args []string) error {
	go dieWithSupervisor(os.NewFile(LifelineFD, "lifeline"))
	switch name {
	case plan.Etcd:
		return runEtcd(args)
	case plan.APIServer:
		return runAPIServer(args)
	case plan.Controllers:
		return runControllers(args)
	case plan.Simulator:
		return runSimulator(args)
	}
	return fmt.Errorf("no part is called %q", name)
}

// dieWithSupervisor ends this process the hard way: without a supervisor nobody would use what an orderly end saves.
func dieWithSupervisor(lifeline io.Reader) {
	_, _ = io.Copy(io.Discard, lifeline)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func reportReady() error {
	ready := os.NewFile(ReadyFD, "ready")
	defer ready.Close()
	if _, err := io.WriteString(ready, "ready\n"); err != nil {
		return fmt.Errorf("report ready: %w", err)
	}
	return nil
}

// untilSignal returns a context that ends with the signals that stop a part.
func untilSignal() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

// flags reads "--name=value" arguments into the strings given by name.
func flags(args []string, into map[string]*string) error {
	for _, arg := range args {
		name, value, ok := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		target := into[name]
		if !ok || target == nil {
			return fmt.Errorf("unexpected argument %q", arg)
		}
		*target = value
	}
	return nil
}
