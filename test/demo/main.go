// Command demo tells the story of the README on the real thing: it starts an environment with `flux up`, changes the
// repository and the cluster, and fails when anything goes otherwise than told. `make demo` runs it.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// limit bounds the whole story; it takes seconds on a machine that does nothing else.
const limit = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "\n✗ demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	flux, err := filepath.Abs(filepath.Join("bin", "flux"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "flux-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{out: out, flux: flux, dir: dir, clone: filepath.Join(dir, "flux-demo")}
	// A cache of its own, so that not even a crash leaves a trace in the user's.
	d.env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	defer func() {
		// Also after a failure or an interrupt, when ctx has ended: nothing may be left running.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err != nil {
			d.diagnose(ending)
		}
		err = errors.Join(err, d.end(ending))
	}()
	start := time.Now()
	for _, chapter := range story() {
		d.say("\n== %s", chapter.title)
		if err := chapter.tell(d, ctx); err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	d.say("\n✔ all as told, in %s", time.Since(start).Round(100*time.Millisecond))
	return nil
}

// demo is the environment the story happens in.
type demo struct {
	out    io.Writer
	flux   string // the program
	dir    string // where the environment belongs to
	clone  string // the working clone of the demo repository
	env    []string
	client dynamic.Interface
	up     bool
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// command runs a program, shows it as a person would type it, and returns its standard output.
func (d *demo) command(ctx context.Context, dir, program string, args ...string) (string, error) {
	shown := []string{filepath.Base(program)}
	for _, arg := range args {
		if strings.ContainsAny(arg, " \"'") {
			arg = fmt.Sprintf("%q", arg)
		}
		shown = append(shown, arg)
	}
	d.say("$ %s", strings.Join(shown, " "))
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, d.env
	// The program ends in its own way: flux up stops what it has started.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&output, d.out), d.out
	if err := cmd.Run(); err != nil {
		return output.String(), fmt.Errorf("%s: %w", strings.Join(shown, " "), err)
	}
	return output.String(), nil
}

func (d *demo) runFlux(ctx context.Context, args ...string) (string, error) {
	return d.command(ctx, d.dir, d.flux, args...)
}

func (d *demo) runGit(ctx context.Context, args ...string) error {
	_, err := d.command(ctx, d.clone, "git", args...)
	return err
}

// push commits everything in the clone and pushes it.
func (d *demo) push(ctx context.Context, message string) error {
	for _, args := range [][]string{{"add", "--all"}, {"commit", "--quiet", "-m", message}, {"push", "--quiet"}} {
		if err := d.runGit(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// edit replaces a text that occurs once in a file of the clone.
func (d *demo) edit(file, before, after string) error {
	path := filepath.Join(d.clone, filepath.FromSlash(file))
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(content), before); n != 1 {
		return fmt.Errorf("%s has %q %d times, want it once", file, before, n)
	}
	d.say("# %s: %s -> %s", file, before, after)
	return os.WriteFile(path, []byte(strings.Replace(string(content), before, after, 1)), 0o644)
}

// begin starts the environment and connects to its cluster.
func (d *demo) begin(ctx context.Context) error {
	d.up = true
	output, err := d.runFlux(ctx, "up", "--dir", filepath.Join(d.dir, "data"))
	if err != nil {
		return err
	}
	kubeconfig := ""
	for lines := bufio.NewScanner(strings.NewReader(output)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "export KUBECONFIG="); ok {
			kubeconfig = strings.Trim(value, "'")
		}
	}
	if kubeconfig == "" {
		return errors.New("flux up printed no line that exports KUBECONFIG")
	}
	d.env = append(d.env, "KUBECONFIG="+kubeconfig)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	d.client, err = dynamic.NewForConfig(config)
	return err
}

// end stops the environment, unless the story has done so.
func (d *demo) end(ctx context.Context) error {
	if !d.up {
		return nil
	}
	d.up = false
	_, err := d.runFlux(ctx, "down")
	return err
}

// diagnose shows what a reader needs to find out what went wrong.
func (d *demo) diagnose(ctx context.Context) {
	if d.client == nil {
		return
	}
	d.say("\n== What was there when it failed")
	for _, args := range [][]string{{"status"}, {"get", "all", "-A"}, {"events", "-A"}} {
		if _, err := d.runFlux(ctx, args...); err != nil {
			d.say("%v", err)
		}
	}
}
