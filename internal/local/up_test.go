package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pretend starts a shell script in place of the background process.
func pretend(t *testing.T, script string) (*background, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	h, err := openHome(dir, roomy(false))
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(t.TempDir(), "flux")
	write(t, self, "#!/bin/sh\n"+script)
	if err := os.Chmod(self, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := startBackground(self, h, order{})
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	return b, dir
}

func TestFollow(t *testing.T) {
	const up = `echo '{"state":{"phase":"ready","kubeconfig":"/k"}}' >&4; `
	for name, test := range map[string]struct {
		script string
		lines  string // texts and warnings reported
		state  string // kubeconfig of the state returned
		err    string
	}{
		"all well":                     {`echo '{"text":"one"}{"warning":"two"}' >&4; ` + up + `echo '{"text":"three","synced":true}' >&4`, "one two three", "/k", ""},
		"a failure to start":           {`echo '{"error":"port 1 is taken"}' >&4; exit 1`, "", "", "port 1 is taken"},
		"a crash":                      {`echo "panic: boom" >&2; exit 2`, "", "", "panic: boom"},
		"a crash after it was ready":   {up + `kill -9 $$`, "", "/k", "signal: killed"},
		"a repository that fails":      {up + `echo '{"error":"no such path","running":true}' >&4`, "", "/k", "the repository is not applied: no such path"},
		"an end without any word":      {``, "", "", "the background process ended"},
		"something that is no message": {`echo hello >&4`, "", "", "the background process ended"},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := pretend(t, test.script)
			var lines []string
			state, err := b.follow(t.Context(), func(p Progress) { lines = append(lines, p.Text+p.Warning) })
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("follow returns %v, want %q in it", err, test.err)
			}
			if got := strings.Join(lines, " "); got != test.lines {
				t.Errorf("reported %q, want %q", got, test.lines)
			}
			if state.Kubeconfig != test.state {
				t.Errorf("the state is of %q, want %q", state.Kubeconfig, test.state)
			}
		})
	}
}

func TestFollowIsInterrupted(t *testing.T) {
	// exec: the shell would wait for its child before it dies.
	const forever = `exec tail -f /dev/null`
	t.Run("before it is ready", func(t *testing.T) {
		b, dir := pretend(t, `echo '{"text":"one"}' >&4; `+forever)
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := b.follow(ctx, func(Progress) { cancel(errors.New("enough")) })
		wantError(t, "follow", err, "stopped before the environment was ready: enough")
		if _, live, err := Read(dir); err != nil || live {
			t.Errorf("the background process is still there: %t, %v", live, err)
		}
	})
	t.Run("once it is ready", func(t *testing.T) {
		b, dir := pretend(t, `echo '{"state":{"phase":"ready"}}{"text":"one"}' >&4; `+forever)
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := b.follow(ctx, func(Progress) { cancel(errors.New("enough")) })
		var sync *ErrSync
		if !errors.As(err, &sync) {
			t.Errorf("follow: %v, want ErrSync", err)
		}
		if _, live, err := Read(dir); err != nil || !live {
			t.Errorf("the background process is gone: %t, %v", live, err)
		}
		if err := b.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = b.cmd.Wait()
	})
}

func TestAlreadyUp(t *testing.T) {
	p, work := Places{Root: filepath.Join(t.TempDir(), "up")}, realTempDir(t)
	clone := filepath.Join(work, DemoDir)
	if err := os.MkdirAll(filepath.Join(clone, "apps"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := p.choose(Options{Directory: work})
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHome(data, roomy(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.writeState(State{Options: Options{Directory: work}, Phase: PhaseReady, Following: Following{Clone: clone}}); err != nil {
		t.Fatal(err)
	}
	is := func(o Options) bool {
		t.Helper()
		_, err := alreadyUp(p, o)
		var running *ErrRunning
		if err != nil && !errors.As(err, &running) {
			t.Fatal(err)
		}
		return err != nil
	}
	for dir, want := range map[string]bool{work: true, clone: true, filepath.Join(clone, "apps"): true, filepath.Join(work, "other"): false, filepath.Dir(work): false} {
		if got := is(Options{Directory: dir}); got != want {
			t.Errorf("%s has a running environment: %t, want %t", dir, got, want)
		}
	}
	if !is(Options{Directory: "/", Data: data}) {
		t.Error("a data directory in use is not recognised")
	}
	h.close()
	if is(Options{Directory: work}) {
		t.Error("an environment that died is taken for a running one")
	}
}

func TestFindCluster(t *testing.T) {
	dir := realTempDir(t)
	program := filepath.Join(dir, clusterProgram)
	t.Setenv("PATH", t.TempDir())
	none := func(string) string { return "" }
	_, err := findCluster(none, filepath.Join(dir, "flux"))
	wantError(t, "no flux-cluster", err, "make cluster")
	write(t, program, "#!/bin/sh\n")
	_, err = findCluster(none, filepath.Join(dir, "flux"))
	wantError(t, "a file that is no program", err, "make cluster")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "flux")
	write(t, filepath.Join(dir, "flux"), "")
	if err := os.Symlink(filepath.Join(dir, "flux"), link); err != nil {
		t.Fatal(err)
	}
	for what, find := range map[string]func() (string, error){
		"beside":                 func() (string, error) { return findCluster(none, filepath.Join(dir, "flux")) },
		"beside, through a link": func() (string, error) { return findCluster(none, link) },
		"by FLUX_CLUSTER":        func() (string, error) { return findCluster(func(string) string { return program }, "/nowhere/flux") },
		"on the PATH":            func() (string, error) { t.Setenv("PATH", dir); return findCluster(none, "/nowhere/flux") },
	} {
		if got, err := find(); err != nil || got != program {
			t.Errorf("%s: %q, %v; want %q", what, got, err, program)
		}
	}
	_, err = findCluster(func(string) string { return "/nowhere/x" }, "/nowhere/flux")
	wantError(t, "FLUX_CLUSTER that names nothing", err, "FLUX_CLUSTER")
}

func TestListenOn(t *testing.T) {
	first := 0
	l, err := listenOn(&first, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := first
	_, err = listenOn(&taken, 0, "git-port")
	var portTaken *ErrPortTaken
	if !errors.As(err, &portTaken) || !strings.Contains(err.Error(), "--git-port") {
		t.Errorf("a port that is taken: %v, want ErrPortTaken with the flag", err)
	}
	other := 0
	l2, err := listenOn(&other, first, "")
	if err != nil || other == first || other == 0 {
		t.Fatalf("an earlier port that is taken now: %d, %v; want another", other, err)
	}
	_ = l2.Close()
	again := 0
	l3, err := listenOn(&again, other, "")
	if err != nil || again != other {
		t.Fatalf("an earlier port that is free: %d, %v; want %d", again, err, other)
	}
	_ = l3.Close()
}

func TestMemory(t *testing.T) {
	if got := fieldKiB([]byte("Name:\tflux\nVmRSS:\t    1234 kB\n"), "VmRSS:"); got != 1234<<10 {
		t.Errorf("VmRSS reads %d", got)
	}
	if got := residentMemory(t.Context(), os.Getpid()); got < 1<<20 {
		t.Errorf("this process takes %d bytes, by its own account", got)
	}
	if got := residentMemory(t.Context(), -1); got != 0 {
		t.Errorf("no process takes %d bytes", got)
	}
}
