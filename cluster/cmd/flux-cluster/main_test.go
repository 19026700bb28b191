package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/cluster/internal/launch"
	"github.com/seed-79636ae9/flux/cluster/internal/supervisor"
)

// asProgram makes this test binary behave like flux-cluster.
const asProgram = "FLUX_CLUSTER_TEST_PROGRAM"

// TestMain plays flux-cluster and its parts, which are this program started again.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" || len(os.Args) > 1 && os.Args[1] == supervisor.PartCommand {
		os.Exit(run(os.Args))
	}
	os.Exit(m.Run())
}

// program is a command of flux-cluster.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

func TestPlainLine(t *testing.T) {
	for want, p := range map[string]launch.Progress{
		"  2.5s  etcd ready":                                     {Phase: "etcd", State: "ready", Elapsed: "2.5s"},
		"  2.5s  etcd failed: oh no":                             {Phase: "etcd", State: "failed", Elapsed: "2.5s", Error: "oh no"},
		"  4.0s  ready: https://x:1\n\n  export KUBECONFIG=/k\n": {Phase: "ready", Elapsed: "4.0s", Server: "https://x:1", Kubeconfig: "/k"},
	} {
		if got := plainLine(p); got != want {
			t.Errorf("%+v reads %q, want %q", p, got, want)
		}
	}
}

func TestReporter(t *testing.T) {
	var out bytes.Buffer
	report, err := reporter("json", &out)
	if err != nil {
		t.Fatal(err)
	}
	report(launch.Progress{Phase: "ready", Elapsed: "1.0s"})
	if got, want := out.String(), `{"phase":"ready","elapsed":"1.0s"}`+"\n"; got != want {
		t.Errorf("reported %q, want %q", got, want)
	}
	if report, err := reporter("none", &out); err != nil || report != nil {
		t.Errorf("none reports: %v", err)
	}
	if _, err := reporter("colourful", &out); err == nil {
		t.Error("an unknown way to report was taken")
	}
}

func TestUntilEOF(t *testing.T) {
	ctx := untilEOF(t.Context(), strings.NewReader("x"))
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("the end of the input went unnoticed")
	}
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"version":              {[]string{"--version"}, "kubernetes v1."},
		"an unknown command":   {[]string{"fly"}, "unknown command"},
		"an unknown flag":      {[]string{"run", "--fly"}, "unknown flag"},
		"other pods":           {[]string{"run", "--dir", dir, "--pods=real"}, "--pods"},
		"other progress":       {[]string{"run", "--dir", dir, "--progress=x"}, "--progress"},
		"exec without command": {[]string{"exec"}, "requires at least 1 arg"},
		"status of nothing":    {[]string{"status", "--dir", dir}, "no cluster in " + dir},
		"stop of nothing":      {[]string{"stop", "--dir", dir}, "no cluster in " + dir},
	} {
		out, err := program(t, test.args...).CombinedOutput()
		if (err == nil) != (name == "version") || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: %v, %q; want %q", name, err, out, test.want)
		}
	}
}

func TestPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir := filepath.Join(t.TempDir(), "data")
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	out, err := program(t, "run", "--dir", dir, "--port", port).CombinedOutput()
	if want := "port " + port + " on 127.0.0.1 is taken: choose another with --port"; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s; want %q", err, out, want)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a cluster that never started has left its directory")
	}
}

func TestHelpIsOurs(t *testing.T) {
	out, err := program(t, "run", "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"--log-flush-frequency", "--version version", "--cloud", "--v Level"} {
		if strings.Contains(string(out), foreign) {
			t.Errorf("a flag of a linked program is on offer: %s", foreign)
		}
	}
}
