package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// BackgroundCommand is the hidden command of this program that runs an environment.
const BackgroundCommand = "run-environment"

// File descriptors that the background process inherits.
const (
	lockFD     = 3
	progressFD = 4
)

const (
	// backgroundGOGC keeps the heap close to what is used: an environment is idle most of the time.
	backgroundGOGC = 50
	// stopGrace is how long the controllers may take to end.
	stopGrace = 35 * time.Second
)

// order is what the foreground tells the background process on its standard input.
type order struct {
	Options
	Mark marker `json:"mark"`
	// Earlier are the ports that a kept environment had.
	Earlier Ports  `json:"earlier"`
	Cluster string `json:"cluster"` // path of flux-cluster
	Git     string `json:"git"`     // path of git
}

// Background runs one environment until ctx ends. It is the body of BackgroundCommand and expects what Up hands down: an order on
// stdin, the locked marker file and a pipe for progress. controllers may be nil: then nothing follows the repository.
func Background(ctx context.Context, stdin io.Reader, log io.Writer, controllers Controllers) error {
	var o order
	if err := json.NewDecoder(stdin).Decode(&o); err != nil {
		return fmt.Errorf("%s is for flux up alone: read the order: %w", BackgroundCommand, err)
	}
	debug.SetGCPercent(backgroundGOGC)
	file, pipe := os.NewFile(lockFD, filepath.Join(o.Data, markerName)), os.NewFile(progressFD, "progress")
	if file == nil || pipe == nil {
		return fmt.Errorf("%s is for flux up alone: it has no lock and no pipe", BackgroundCommand)
	}
	privately(file)
	privately(pipe)
	e := &environment{
		order: o, controllers: controllers, log: log,
		home: &home{dir: o.Data, mark: o.Mark, file: file},
		git:  &git{program: o.Git, env: ownGitEnv()},
		news: &news{to: pipe},
	}
	return e.run(ctx)
}

// news sends progress to the foreground as long as it listens.
type news struct {
	mu sync.Mutex // guards to
	to *os.File
}

func (n *news) tell(p Progress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.to == nil {
		return
	}
	// The foreground may have gone away; the environment does not depend on it.
	if err := json.NewEncoder(n.to).Encode(p); err != nil || p.Error != "" || p.Synced {
		_ = n.to.Close()
		n.to = nil
	}
}

// environment is a running environment.
type environment struct {
	order
	controllers Controllers
	log         io.Writer
	home        *home
	git         *git
	news        *news

	cluster *cluster
	objects atomic.Pointer[objects]
	repo    repository
	// stopServers ends the Git server and the registry; parts counts what runs in goroutines.
	stopServers, stopControllers context.CancelFunc
	servers, controllersDone     sync.WaitGroup
	// broken takes the first reason why the environment cannot go on.
	broken chan error

	mu    sync.Mutex // guards state
	state State
}

// run leaves the lock to the end of the process, for which those wait who stop it.
func (e *environment) run(ctx context.Context) error {
	e.broken = make(chan error, 8)
	e.stopServers, e.stopControllers = func() {}, func() {}
	e.state = State{
		Options: e.Options, PID: os.Getpid(), Phase: PhaseStarting, Started: time.Now().UTC().Truncate(time.Second),
		Kubeconfig: e.home.path(kubeconfig), Log: e.home.path(logFile), Controllers: e.controllers != nil,
	}
	e.home.mark.PID = os.Getpid()
	err := errors.Join(e.home.writeMarker(), e.publish(func(*State) {}))
	if err == nil {
		err = e.start(ctx)
	}
	if err == nil {
		go e.sync(ctx)
		select {
		case <-ctx.Done():
		case err = <-e.broken:
		}
	}
	if ctx.Err() != nil {
		// Told to stop, perhaps while starting: that is what was asked for.
		err = nil
	}
	return e.end(err)
}

// end stops everything and removes the data, unless it is to be kept or tells of a failure.
func (e *environment) end(failure error) error {
	e.logf("stopping")
	_ = e.publish(func(s *State) { s.Phase = PhaseStopping })
	err := e.stop()
	if failure == nil && !e.home.mark.Keep {
		err = errors.Join(err, e.home.remove())
	} else {
		err = errors.Join(err, e.publish(func(s *State) {
			s.Phase = PhaseStopped
			if failure != nil {
				s.Phase, s.Error = PhaseFailed, failure.Error()
			}
		}))
	}
	if failure != nil {
		e.logf("failed: %v", failure)
		e.news.tell(Progress{Error: failure.Error()})
	}
	return errors.Join(failure, err)
}

func (e *environment) stop() error {
	e.stopControllers()
	ended := make(chan struct{})
	go func() { e.controllersDone.Wait(); close(ended) }()
	var err error
	select {
	case <-ended:
	case <-time.After(stopGrace):
		err = fmt.Errorf("the controllers did not end within %s", stopGrace)
	}
	e.stopServers()
	e.servers.Wait()
	if e.cluster != nil {
		err = errors.Join(err, e.cluster.stop())
	}
	return err
}

// start brings everything up. Control plane and repository do not know each other, so they start side by side.
func (e *environment) start(ctx context.Context) error {
	base, err := e.startServers(ctx)
	if err != nil {
		return err
	}
	repoReady := make(chan error, 1)
	go func() {
		var err error
		e.repo, err = prepareRepo(ctx, e.git, e.Options, e.home, base.git, base.url)
		repoReady <- err
	}()
	began := time.Now()
	if e.cluster, err = startCluster(ctx, e.order.Cluster, e.home.path(clusterDir), e.state.Ports.Kubernetes, e.home.mark.Keep, e.note); err != nil {
		<-repoReady
		return err
	}
	if err := e.announceCluster(began); err != nil {
		<-repoReady
		return err
	}
	if err := <-repoReady; err != nil {
		return err
	}
	return e.populate(ctx)
}

// announceCluster makes the control plane known.
func (e *environment) announceCluster(began time.Time) error {
	content, err := os.ReadFile(e.cluster.kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig of the control plane: %w", err)
	}
	if err := os.WriteFile(e.state.Kubeconfig, content, 0o600); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	version := e.cluster.version()
	err = e.publish(func(s *State) {
		s.Kubernetes, s.Server = version, e.cluster.server
		if _, port, err := net.SplitHostPort(strings.TrimPrefix(s.Server, "https://")); err == nil {
			s.Ports.Kubernetes, _ = strconv.Atoi(port)
		}
	})
	e.news.tell(Progress{Text: fmt.Sprintf("control plane ready (Kubernetes %s, %.1f s)", strings.TrimPrefix(version, "v"), time.Since(began).Seconds())})
	go func() {
		<-e.cluster.ended
		e.broken <- fmt.Errorf("the control plane ended: %w", e.cluster.err)
	}()
	return err
}

// populate puts CRDs, controllers and the objects that follow the repository into the cluster.
func (e *environment) populate(ctx context.Context) error {
	objects, err := connect(e.state.Kubeconfig)
	if err != nil {
		return err
	}
	if err := objects.installCRDs(ctx); err != nil {
		return fmt.Errorf("install the CRDs: %w", err)
	}
	if err := objects.createNamespace(ctx); err != nil {
		return err
	}
	e.objects.Store(objects)
	e.news.tell(Progress{Text: fmt.Sprintf("Git server and image registry on %s (ports %d, %d)", loopback, e.state.Ports.Git, e.state.Ports.Registry)})
	if e.repo.story != "" {
		e.news.tell(Progress{Text: e.repo.story})
	}
	if e.repo.warning != "" {
		e.news.tell(Progress{Warning: e.repo.warning})
	}
	if e.controllers != nil {
		if err := e.startControllers(ctx); err != nil {
			return err
		}
	}
	if e.repo.watch != "" {
		e.servers.Go(func() {
			// The first sync, which is asked for later, covers what happens until the branch is watched.
			if err := watchBranch(ctx, e.git.asUser(), e.repo.watch, e.repo.branch, func() {}, func() { e.requestGit(ctx, e.repo.url) }); err != nil {
				e.note(err.Error() + "; new commits are found within a minute")
			}
		})
	}
	return e.publish(func(s *State) {
		s.Phase, s.Following = PhaseReady, Following{URL: e.repo.url, Branch: e.repo.branch, Path: e.repo.path, Clone: e.repo.clone}
	})
}

// startControllers returns when the controllers work.
func (e *environment) startControllers(ctx context.Context) error {
	dir := e.home.path(workDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("start the controllers: %w", err)
	}
	began, started := time.Now(), make(chan struct{})
	var once sync.Once
	// The controllers outlive ctx by as long as stop takes to come to them.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.stopControllers = cancel
	ports := e.state.Ports
	options := ControllersOptions{
		Kubeconfig: e.state.Kubeconfig, Dir: dir, Log: e.log,
		ArtifactsAddr: address(ports.Artifacts), MetricsAddr: address(ports.Metrics), HealthAddr: address(ports.Health),
		HooksAddr: address(ports.Hooks),
		Started:   func() { once.Do(func() { close(started) }) },
	}
	failed := make(chan error, 1)
	e.controllersDone.Go(func() {
		err := e.controllers(running, options)
		if running.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("they ended by themselves")
		}
		failed <- err
	})
	select {
	case <-started:
	case err := <-failed:
		return fmt.Errorf("start the controllers: %w", err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	go func() {
		select {
		case err := <-failed:
			e.broken <- fmt.Errorf("the controllers failed: %w", err)
		case <-running.Done():
		}
	}()
	e.news.tell(Progress{Text: fmt.Sprintf("controllers ready (%.1f s)", time.Since(began).Seconds())})
	return nil
}

// sync has the repository followed and tells how the first time went.
func (e *environment) sync(ctx context.Context) {
	e.mu.Lock()
	state := e.state
	e.mu.Unlock()
	e.news.tell(Progress{State: &state})
	err := e.objects.Load().followRepository(ctx, e.repo, newToken(time.Now()))
	if err == nil && e.controllers == nil {
		e.news.tell(Progress{Text: "no controllers in this build: the repository is not applied", Synced: true})
		return
	}
	began := time.Now()
	if err == nil {
		err = e.objects.Load().awaitSync(ctx)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		e.logf("first sync: %v", err)
		e.news.tell(Progress{Error: err.Error(), Running: true})
	default:
		e.news.tell(Progress{Text: fmt.Sprintf("repository applied and healthy (%.1f s)", time.Since(began).Seconds()), Synced: true})
	}
}

// base is where the Git server is.
type base struct {
	git *gitServer
	url string
}

// startServers starts the Git server and the registry, and settles all ports.
func (e *environment) startServers(ctx context.Context) (base, error) {
	ports, gitListener, registryListener, err := e.listen()
	if err != nil {
		return base{}, err
	}
	if err := e.publish(func(s *State) { s.Ports, s.Registry = ports, address(ports.Registry) }); err != nil {
		return base{}, err
	}
	b := base{url: "http://" + address(ports.Git)}
	b.git = newGitServer(e.git.program, func(name string) { e.requestGit(ctx, b.url+"/"+name+".git") }, e.logf)
	images, err := openRegistry(e.home.path(registryDir), func(name string) {
		e.request(ctx, func(ctx context.Context, o *objects, token string) error {
			return o.request(ctx, ociRepositories(), "oci://"+address(ports.Registry)+"/"+name, token)
		})
	})
	if err != nil {
		return base{}, err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.stopServers = cancel
	for _, server := range []struct {
		listener net.Listener
		handler  http.Handler
	}{{gitListener, b.git}, {registryListener, images}} {
		e.servers.Go(func() {
			if err := serveHTTP(serving, server.listener, server.handler); err != nil {
				e.broken <- fmt.Errorf("a local server failed: %w", err)
			}
		})
	}
	return b, nil
}

// requestGit asks for a reconcile of the sources that follow url.
func (e *environment) requestGit(ctx context.Context, url string) {
	e.request(ctx, func(ctx context.Context, o *objects, token string) error {
		return o.request(ctx, gitRepositories(), url, token)
	})
}

// requestTimeout bounds the few calls that a push causes.
const requestTimeout = 10 * time.Second

func (e *environment) request(ctx context.Context, ask func(context.Context, *objects, string) error) {
	objects := e.objects.Load()
	if objects == nil {
		// Before the cluster is up; the first sync comes anyway.
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := ask(ctx, objects, newToken(time.Now())); err != nil {
		e.note(err.Error())
	}
}

// publish changes the state and writes it.
func (e *environment) publish(change func(*State)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.state)
	return e.home.writeState(e.state)
}

// note tells of a trouble that the environment lives through.
func (e *environment) note(text string) {
	e.logf("%s", text)
	e.news.tell(Progress{Warning: text})
}

// logf writes a line beside those of the controllers, in their format (wire 18b).
func (e *environment) logf(format string, args ...any) {
	line, err := json.Marshal(struct {
		Level  string `json:"level"`
		Time   string `json:"ts"`
		Logger string `json:"logger"`
		Text   string `json:"msg"`
	}{"info", time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), "flux-up", fmt.Sprintf(format, args...)})
	if err == nil {
		_, _ = e.log.Write(append(line, '\n'))
	}
}
