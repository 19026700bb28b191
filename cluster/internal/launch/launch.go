// Package launch brings a cluster up in a data directory, keeps its published state current, and takes it down.
package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/seed-79636ae9/flux/cluster/internal/home"
	"github.com/seed-79636ae9/flux/cluster/internal/plan"
	"github.com/seed-79636ae9/flux/cluster/internal/release"
	"github.com/seed-79636ae9/flux/cluster/internal/supervisor"
	"github.com/seed-79636ae9/flux/cluster/internal/trust"
)

// Values of Options.Pods.
const (
	PodsSimulated = "simulated"
	PodsNone      = "none"
)

// Grace periods of a cluster whose data is kept. One whose data goes away is killed: there is nothing to save.
const (
	storeGrace  = 15 * time.Second
	serverGrace = 15 * time.Second
	clientGrace = 5 * time.Second
)

// Options are the user's choices.
type Options struct {
	// Dir is the data directory.
	Dir string
	// Port of the API server on the loopback address; 0 takes a free one, or that of the kept cluster if it is still free.
	Port int
	// Pods is PodsSimulated or PodsNone.
	Pods string
	// Keep makes the data survive Down.
	Keep bool
	// AuditPolicy and AuditLog are files for the API server's audit, both empty for none.
	AuditPolicy, AuditLog string
	// StartTimeout bounds Up.
	StartTimeout time.Duration
	// Report is told of progress, one call at a time.
	Report func(Progress)
}

// Progress is one step of a cluster's life. Phase is a part's name, "ready" or "stopped".
type Progress struct {
	Phase   string `json:"phase"`
	State   string `json:"state,omitempty"`
	Elapsed string `json:"elapsed"`
	PID     int    `json:"pid,omitempty"`
	Error   string `json:"error,omitempty"`
	// Kubeconfig and Server come with the phase "ready".
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Server     string `json:"server,omitempty"`
}

// ErrPortTaken says that the port asked for is in use.
type ErrPortTaken struct{ Port int }

func (e *ErrPortTaken) Error() string {
	return fmt.Sprintf("port %d on 127.0.0.1 is taken: choose another with --port, or 0 for a free one", e.Port)
}

// Cluster is a cluster that is up or on its way there.
type Cluster struct {
	options    Options
	home       *home.Home
	trust      *trust.Bundle
	supervisor *supervisor.Supervisor
	began      time.Time

	mu    sync.Mutex // guards state, and calls of Report
	state home.State
}

// Up starts a cluster and returns when everything in it works. When it fails, everything is as before: no process is left, and no data
// unless it is to be kept.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	if err := check(&o); err != nil {
		return nil, err
	}
	versions, err := release.Linked()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	dir, err := home.Open(o.Dir, o.Keep, versions.Kubernetes)
	if err != nil {
		return nil, err
	}
	c := &Cluster{options: o, home: dir, began: began}
	c.state = home.State{
		PID: os.Getpid(), Phase: "starting", Kubernetes: versions.Kubernetes, Started: began.UTC(),
		Kubeconfig: dir.Path(home.Kubeconfig), Pods: o.Pods, Keep: o.Keep, Parts: map[string]home.Part{},
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.StartTimeout, fmt.Errorf("not ready after %s", o.StartTimeout))
	defer cancel()
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Down())
	}
	return c, nil
}

func check(o *Options) error {
	if o.Pods != PodsSimulated && o.Pods != PodsNone {
		return fmt.Errorf("--pods is %q: choose %s or %s", o.Pods, PodsSimulated, PodsNone)
	}
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("--port is %d: choose 1 to 65535, or 0 for a free one", o.Port)
	}
	if (o.AuditPolicy == "") != (o.AuditLog == "") {
		return errors.New("--audit-policy and --audit-log go together")
	}
	for _, path := range []*string{&o.AuditPolicy, &o.AuditLog} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	if o.AuditPolicy != "" {
		if _, err := os.Stat(o.AuditPolicy); err != nil {
			return fmt.Errorf("read --audit-policy: %w", err)
		}
	}
	return nil
}

func (c *Cluster) start(ctx context.Context) error {
	port, err := c.choosePort()
	if err != nil {
		return err
	}
	if c.trust, err = trust.Ensure(c.home.Path(home.TrustDir), plan.ServerNames(), c.began); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if c.supervisor, err = supervisor.New(c.partChanged); err != nil {
		return err
	}
	etcd := c.run(plan.Etcd, plan.EtcdCommand(c.planOptions(port)), nil, 0, storeGrace)
	server, err := c.startServer(ctx, etcd, port)
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, server); err != nil {
		return err
	}
	waits := []*supervisor.Part{etcd}
	controllers, err := c.startControllers(server)
	if err != nil {
		return err
	}
	waits = append(waits, controllers)
	if c.options.Pods == PodsSimulated {
		simulator, err := c.startSimulator(server)
		if err != nil {
			return err
		}
		waits = append(waits, simulator)
	}
	for _, part := range waits {
		if err := part.WaitReady(ctx); err != nil {
			return err
		}
	}
	return c.announce(server)
}

// choosePort returns the port asked for, that of the kept cluster, or a free one.
func (c *Cluster) choosePort() (int, error) {
	if c.options.Port != 0 {
		if _, err := listenable(c.options.Port); err != nil {
			return 0, &ErrPortTaken{Port: c.options.Port}
		}
		return c.options.Port, nil
	}
	if c.home.Continued {
		if old, _, err := home.Read(c.home.Dir); err == nil && old.Port != 0 {
			if port, err := listenable(old.Port); err == nil {
				return port, nil
			}
		}
	}
	port, err := listenable(0)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return port, nil
}

// listenable returns port, or a free one for 0, if 127.0.0.1 can be listened on there.
func listenable(port int) (int, error) {
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// startServer starts the API server and returns its URL when it is ready.
func (c *Cluster) startServer(ctx context.Context, etcd *supervisor.Part, port int) (string, error) {
	server := "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	c.mu.Lock()
	c.state.Server, c.state.Port = server, port
	c.mu.Unlock()
	probe, err := c.serverProbe(server)
	if err != nil {
		return "", err
	}
	part := c.run(plan.APIServer, plan.APIServerCommand(c.planOptions(port)), probe, 1, serverGrace)
	if err := etcd.WaitReady(ctx); err != nil {
		return "", err
	}
	return server, part.WaitReady(ctx)
}

func (c *Cluster) startControllers(server string) (*supervisor.Part, error) {
	kubeconfig := c.home.Path(home.TrustDir, "controllers.kubeconfig")
	if err := c.trust.WriteKubeconfig(kubeconfig, server, trust.Controllers); err != nil {
		return nil, err
	}
	probe, err := c.controllersProbe(server)
	if err != nil {
		return nil, err
	}
	return c.run(plan.Controllers, plan.ControllersCommand(c.planOptions(0), kubeconfig), probe, 2, clientGrace), nil
}

func (c *Cluster) startSimulator(server string) (*supervisor.Part, error) {
	kubeconfig := c.home.Path(home.TrustDir, "simulator.kubeconfig")
	if err := c.trust.WriteKubeconfig(kubeconfig, server, trust.Simulator); err != nil {
		return nil, err
	}
	return c.run(plan.Simulator, plan.SimulatorCommand(kubeconfig), nil, 2, clientGrace), nil
}

func (c *Cluster) planOptions(port int) plan.Options {
	return plan.Options{
		Home: c.home.Dir, Port: port, Durable: c.options.Keep,
		AuditPolicy: c.options.AuditPolicy, AuditLog: c.options.AuditLog,
	}
}

func (c *Cluster) run(name string, command plan.Command, probe func(context.Context) error, tier int, grace time.Duration) *supervisor.Part {
	if !c.options.Keep {
		grace = 0
	}
	return c.supervisor.Start(supervisor.Spec{
		Name: name, Args: command.Args, Env: command.Env, Dir: c.home.Dir, Log: c.logPath(name), Probe: probe, Tier: tier, Grace: grace,
	})
}

func (c *Cluster) logPath(part string) string {
	return c.home.Path(home.LogDir, part+".log")
}

// announce writes the user's kubeconfig and reports the cluster ready.
func (c *Cluster) announce(server string) error {
	path := c.home.Path(home.Kubeconfig)
	if err := c.trust.WriteKubeconfig(path, server, trust.Admin, trust.Viewer); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Phase = "ready"
	if err := c.home.Write(c.state); err != nil {
		return err
	}
	c.report(Progress{Phase: "ready", Kubeconfig: path, Server: server})
	return nil
}

// partChanged follows the supervisor.
func (c *Cluster) partChanged(e supervisor.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Parts[e.Part] = home.Part{PID: e.PID, State: e.State, Restarts: e.Restarts, Log: c.logPath(e.Part)}
	progress := Progress{Phase: e.Part, State: e.State, PID: e.PID}
	if err := c.home.Write(c.state); err != nil {
		progress.Error = err.Error()
	}
	// A failure to start is the error that Up returns.
	if e.Err != nil && e.State != supervisor.Failed {
		progress.Error = e.Err.Error()
	}
	c.report(progress)
}

func (c *Cluster) report(p Progress) {
	if c.options.Report == nil {
		return
	}
	p.Elapsed = fmt.Sprintf("%.1fs", time.Since(c.began).Seconds())
	c.options.Report(p)
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.home.Path(home.Kubeconfig) }

// Tie starts cmd so that it is signalled with onDeath when this process dies.
func (c *Cluster) Tie(cmd *exec.Cmd, onDeath syscall.Signal) error {
	return c.supervisor.Tie(cmd, onDeath)
}

// Down stops the parts in order, waits until their processes are gone, and removes the data unless it is to be kept.
func (c *Cluster) Down() error {
	c.mu.Lock()
	c.state.Phase = "stopping"
	c.mu.Unlock()
	if c.supervisor != nil {
		c.supervisor.Stop()
		_ = c.supervisor.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Phase = "stopped"
	var errs []error
	if c.options.Keep {
		errs = append(errs, c.home.Write(c.state))
	}
	errs = append(errs, c.home.Close())
	c.report(Progress{Phase: "stopped"})
	return errors.Join(errs...)
}
