package cli

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/internal/local"
)

func TestShellQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/tmp/a-b_c.d/k": "/tmp/a-b_c.d/k",
		"/tmp/my files":  `'/tmp/my files'`,
		"/tmp/it's":      `'/tmp/it'\''s'`,
		"/tmp/$(rm)":     `'/tmp/$(rm)'`,
		"":               "",
	} {
		if got := shellQuote(path); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", path, got, want)
		}
	}
}

// TestUpOutput: a program that reads the output gets the one line that a shell evaluates; a person gets the story, too.
func TestUpOutput(t *testing.T) {
	for _, live := range []bool{false, true} {
		var out, errs bytes.Buffer
		o := &upOptions{Factory: &Factory{Config: Config{Streams: Streams{Out: &out, Err: &errs, Live: live}}}}
		o.report(local.Progress{Text: "control plane ready"})
		o.exportLine(local.State{Kubeconfig: "/k"})
		o.nextSteps(local.State{})
		if got := out.String(); got != "export KUBECONFIG=/k\n" {
			t.Errorf("live %t: the data is %q", live, got)
		}
		if told := bytes.Contains(errs.Bytes(), []byte("simulated")) && bytes.Contains(errs.Bytes(), []byte("✔ control plane ready")); told != live {
			t.Errorf("live %t: told %q", live, errs.String())
		}
	}
}

func TestPrintStatus(t *testing.T) {
	started := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	o := &statusOptions{Factory: &Factory{Config: Config{Clock: clocktesting.NewFakeClock(started.Add(90 * time.Second))}}}
	status := local.Status{
		State: local.State{
			Options: local.Options{Directory: "/d", Ports: local.Ports{Git: 81, Hooks: 83}}, Phase: local.PhaseReady, Started: started, Kubernetes: "v1.36.3",
			Server: "https://127.0.0.1:80", Registry: "127.0.0.1:82", Kubeconfig: "/k", Log: "/l", Controllers: true,
			Following: local.Following{URL: "http://127.0.0.1:81/flux-demo.git", Clone: "/d/flux-demo"},
		},
		Running:   true,
		Processes: []local.Process{{Name: "flux", PID: 7, State: "ready", Memory: 90 << 20}, {Name: "etcd", PID: 8, State: "ready", Restarts: 1, Memory: 60 << 20}},
		Memory:    150 << 20,
		Sync:      &local.Sync{Ready: true, Revision: "main@sha1:1"},
	}
	var out bytes.Buffer
	if err := o.print(&out, status); err != nil {
		t.Fatal(err)
	}
	want := `Directory     /d
Phase         ready
Up            90s
Kubernetes    v1.36.3
Pods          simulated: no container runs
API server    https://127.0.0.1:80
Git server    http://127.0.0.1:81
Webhooks      http://127.0.0.1:83
Registry      127.0.0.1:82
Sync          in sync with main@sha1:1
Repository    http://127.0.0.1:81/flux-demo.git
Working tree  /d/flux-demo
Kubeconfig    /k
Log           /l
Kept          false

PROCESS  STATE  ID  RESTARTS  MEMORY
flux     ready  7   0         90 MiB
etcd     ready  8   1         60 MiB
total                         150 MiB
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	stopped := local.Status{State: local.State{Options: local.Options{Directory: "/d"}, Phase: local.PhaseFailed, Error: "it\nbroke", Kubeconfig: "/k", Log: "/l"}}
	if err := o.print(&out, stopped); err != nil {
		t.Fatal(err)
	}
	want = "Directory   /d\nPhase       failed\nError       it broke\nKubeconfig  /k\nLog         /l\nKept        false\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestSyncLine(t *testing.T) {
	for want, s := range map[string]local.Status{
		"this build runs no controllers": {},
		"unknown: no route":              {State: local.State{Controllers: true}, SyncError: "no\nroute"},
		"not yet":                        {State: local.State{Controllers: true}},
		"suspended at r":                 {State: local.State{Controllers: true}, Sync: &local.Sync{Ready: true, Suspended: true, Revision: "r"}},
		"not in sync: no such path":      {State: local.State{Controllers: true}, Sync: &local.Sync{Message: "no such path"}},
	} {
		if got := syncLine(s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestKnowsCluster: who names a cluster in any way is never led to the environment of flux up.
func TestKnowsCluster(t *testing.T) {
	nothing := filepath.Join(t.TempDir(), "config")
	for name, test := range map[string]struct {
		prepare  func(*Factory, map[string]string)
		homeFile string
		want     bool
	}{
		"nothing":             {func(*Factory, map[string]string) {}, nothing, false},
		"a file in the home":  {func(*Factory, map[string]string) {}, t.TempDir(), true},
		"KUBECONFIG":          {func(_ *Factory, env map[string]string) { env["KUBECONFIG"] = "/mine" }, nothing, true},
		"inside of a cluster": {func(_ *Factory, env map[string]string) { env["KUBERNETES_SERVICE_HOST"] = "10.96.0.1" }, nothing, true},
		"--kubeconfig":        {func(f *Factory, _ map[string]string) { *f.kube.KubeConfig = "/mine" }, nothing, true},
		"--server":            {func(f *Factory, _ map[string]string) { *f.kube.APIServer = "https://mine" }, nothing, true},
	} {
		env := map[string]string{}
		f := newFactory(Config{Getenv: func(name string) string { return env[name] }})
		test.prepare(f, env)
		if got := f.knowsCluster(test.homeFile); got != test.want {
			t.Errorf("%s: knows a cluster: %t, want %t", name, got, test.want)
		}
	}
}
