package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// crashLines is how much of the log goes into the error of a background process that died.
const crashLines = 15

// ErrSync says that the environment is up but the repository is not applied.
type ErrSync struct{ Message string }

func (e *ErrSync) Error() string { return "the repository is not applied: " + e.Message }

// ErrCrashed says that the background process died without a word.
type ErrCrashed struct {
	How error
	// Log is the path of its log, Tail the end of it.
	Log, Tail string
}

func (e *ErrCrashed) Error() string {
	return fmt.Sprintf("the background process ended (%v); the end of %s:\n%s", e.How, e.Log, e.Tail)
}

func (e *ErrCrashed) Unwrap() error { return e.How }

// Up starts an environment for o.Directory in the background and follows it until its repository is applied, reporting what happens.
// When ctx ends before the control plane and the controllers are ready, everything is stopped again; later, the environment stays up.
//
// It returns *ErrRunning, with the state, when there is one already, *ErrSync when only the repository failed, *ErrNotOurs,
// *ErrNoSpace, *ErrPortTaken, *ErrNoCluster, *ErrNoGit or *ErrCrashed for what their names say.
func Up(ctx context.Context, places Places, o Options, report func(Progress)) (State, error) {
	if err := supported(); err != nil {
		return State{}, err
	}
	if state, err := alreadyUp(places, o); err != nil {
		return state, err
	}
	data, err := places.choose(o)
	if err != nil {
		return State{}, err
	}
	b, err := prepareBackground(ctx, places, data, o)
	if err != nil {
		return State{}, err
	}
	return b.follow(ctx, report)
}

// alreadyUp returns *ErrRunning for a directory that has an environment, also from within the repository that the environment follows.
func alreadyUp(places Places, o Options) (State, error) {
	candidates := []string{o.Data}
	if data, err := places.Find(o.Directory); err == nil {
		candidates = append(candidates, data)
	}
	for _, data := range candidates {
		if data == "" || !isHome(data) {
			continue
		}
		state, live, err := Read(data)
		if err != nil {
			return state, err
		}
		if live && (data == o.Data || state.Directory == o.Directory || within(o.Directory, state.Following.Clone)) {
			return state, &ErrRunning{Data: data}
		}
	}
	return State{}, nil
}

func within(dir, root string) bool {
	return root != "" && (dir == root || strings.HasPrefix(dir, root+string(filepath.Separator)))
}

// background is a background process as the foreground sees it.
type background struct {
	cmd  *exec.Cmd
	pipe *os.File
	log  string
}

// prepareBackground checks everything that can be checked before anything runs, and starts the process.
func prepareBackground(ctx context.Context, places Places, data string, o Options) (*background, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	program, err := findCluster(os.Getenv, self)
	if err != nil {
		return nil, err
	}
	git, err := findGit(ctx)
	if err != nil {
		return nil, err
	}
	var earlier State
	if isHome(data) {
		if earlier, _, err = Read(data); err != nil {
			return nil, err
		}
	}
	if earlier.Keep && o.Repo == "" {
		o.Repo, o.Branch, o.Path = earlier.Repo, or(o.Branch, earlier.Branch), or(o.Path, earlier.Path)
	}
	if o.Repo != "" && !isURL(o.Repo) && !filepath.IsAbs(o.Repo) {
		o.Repo = filepath.Join(o.Directory, o.Repo)
	}
	if err := checkRepo(ctx, git, o); err != nil {
		return nil, err
	}
	if err := places.check(o.Directory, data); err != nil {
		return nil, err
	}
	home, err := openHome(data, claim{keep: o.Keep, need: needBytes, settle: func() error {
		return settleCluster(ctx, program, filepath.Join(data, clusterDir))
	}})
	if err != nil {
		return nil, err
	}
	defer home.close()
	if err := places.link(o.Directory, data); err != nil {
		return nil, err
	}
	o.Data, o.Keep = data, home.mark.Keep
	return startBackground(self, home, order{Options: o, Mark: home.mark, Earlier: earlier.Ports, Cluster: program, Git: git.program})
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// startBackground starts this program again, in a session of its own, and hands the lock on to it.
func startBackground(self string, home *home, o order) (*background, error) {
	b := &background{log: home.path(logFile)}
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the background process: %w", err)
	}
	defer write.Close()
	input, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	b.pipe = read
	b.cmd = exec.Command(self, BackgroundCommand)
	b.cmd.Dir = home.dir
	// The controllers' temporary files belong to the data, so that they go with it.
	temp := home.path(workDir, "tmp")
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return nil, fmt.Errorf("start the background process: %w", err)
	}
	b.cmd.Env = append(os.Environ(), "TMPDIR="+temp, "RUNTIME_NAMESPACE="+Namespace)
	b.cmd.Stdin, b.cmd.Stdout, b.cmd.Stderr = bytes.NewReader(input), log, log
	b.cmd.ExtraFiles = []*os.File{home.file, write}
	detach(b.cmd)
	if err := b.cmd.Start(); err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("start the background process: %w", err)
	}
	return b, nil
}

// follow reports until the repository is applied, or something fails.
func (b *background) follow(ctx context.Context, report func(Progress)) (State, error) {
	defer b.pipe.Close()
	lines := make(chan Progress)
	go func() {
		defer close(lines)
		for decoder := json.NewDecoder(b.pipe); ; {
			var p Progress
			if decoder.Decode(&p) != nil {
				return
			}
			lines <- p
		}
	}()
	var state State
	for {
		select {
		case p, open := <-lines:
			switch {
			case !open:
				return state, b.crashed()
			case p.State != nil:
				state = *p.State
			case p.Error != "" && p.Running:
				return state, &ErrSync{Message: p.Error}
			case p.Error != "":
				_ = b.cmd.Wait()
				return state, errors.New(p.Error)
			default:
				report(p)
			}
			if p.Synced {
				return state, nil
			}
		case <-ctx.Done():
			go drain(lines)
			if state.Phase == PhaseReady {
				return state, &ErrSync{Message: "it is not known yet, the wait was ended: " + context.Cause(ctx).Error()}
			}
			_ = interrupt(b.cmd.Process.Pid)
			_ = b.cmd.Wait()
			return state, fmt.Errorf("stopped before the environment was ready: %w", context.Cause(ctx))
		}
	}
}

func drain(lines <-chan Progress) {
	for range lines {
	}
}

func (b *background) crashed() error {
	how := b.cmd.Wait()
	if how == nil {
		how = io.ErrUnexpectedEOF
	}
	content, err := os.ReadFile(b.log)
	if err != nil {
		return &ErrCrashed{How: how, Log: b.log, Tail: err.Error()}
	}
	return &ErrCrashed{How: how, Log: b.log, Tail: lastLines(string(content), crashLines)}
}
