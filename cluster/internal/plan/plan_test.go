package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// value returns what a flag is set to, and how often.
func value(c Command, flag string) (last string, times int) {
	for _, arg := range c.Args {
		if v, ok := strings.CutPrefix(arg, "--"+flag+"="); ok {
			last, times = v, times+1
		}
	}
	return last, times
}

func wantFlags(t *testing.T, c Command, want map[string]string) {
	t.Helper()
	for flag, v := range want {
		if got, times := value(c, flag); got != v || times != 1 {
			t.Errorf("--%s=%s, %d times; want %q once", flag, got, times, v)
		}
	}
}

func TestEtcdCommand(t *testing.T) {
	for _, durable := range []bool{true, false} {
		want := []string{"--data-dir=etcd", "--socket=etcd.sock", "--peer-socket=peer.sock", "--durable=" + map[bool]string{true: "true", false: "false"}[durable]}
		if diff := cmp.Diff(want, EtcdCommand(Options{Home: "/d", Durable: durable}).Args); diff != "" {
			t.Errorf("durable %t: %s", durable, diff)
		}
	}
}

func TestAPIServerCommand(t *testing.T) {
	c := APIServerCommand(Options{Home: "/d", Port: 6443})
	wantFlags(t, c, map[string]string{
		"secure-port":                      "6443",
		"bind-address":                     "127.0.0.1",
		"etcd-servers":                     "unix://etcd.sock",
		"tls-cert-file":                    "/d/pki/server.crt",
		"tls-private-key-file":             "/d/pki/server.key",
		"token-auth-file":                  "/d/pki/tokens.csv",
		"service-account-key-file":         "/d/pki/service-account.key",
		"service-account-signing-key-file": "/d/pki/service-account.key",
		"anonymous-auth":                   "false",
		"authorization-mode":               "RBAC",
	})
	for _, flag := range []string{"audit-policy-file", "audit-log-path"} {
		if _, times := value(c, flag); times != 0 {
			t.Errorf("--%s is given without being asked for", flag)
		}
	}
	wantFlags(t, APIServerCommand(Options{Home: "/d", Port: 1, AuditPolicy: "/p", AuditLog: "/l"}), map[string]string{
		"audit-policy-file": "/p", "audit-log-path": "/l",
	})
}

func TestControllersCommand(t *testing.T) {
	c := ControllersCommand(Options{Home: "/d"}, "/k")
	wantFlags(t, c, map[string]string{
		"kubeconfig":                       "/k",
		"service-account-private-key-file": "/d/pki/service-account.key",
		"root-ca-file":                     "/d/pki/ca.crt",
		"leader-elect":                     "false",
		"secure-port":                      "0",
	})
	names := controllerNames()
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("the controllers are not sorted, or one is there twice: %v", names)
	}
	for _, needed := range []string{"namespace-controller", "serviceaccount-controller", "deployment-controller", "garbage-collector-controller"} {
		if !slices.Contains(names, needed) {
			t.Errorf("%s does not run", needed)
		}
	}
}

func TestCommandsRepeatNothing(t *testing.T) {
	o := Options{Home: "/d", Port: 1, AuditPolicy: "/p", AuditLog: "/l"}
	for name, c := range map[string]Command{
		Etcd: EtcdCommand(o), APIServer: APIServerCommand(o), Controllers: ControllersCommand(o, "/k"), Simulator: SimulatorCommand("/k"),
	} {
		seen := map[string]bool{}
		for _, arg := range c.Args {
			flag, _, ok := strings.Cut(arg, "=")
			if !ok || !strings.HasPrefix(flag, "--") || seen[flag] {
				t.Errorf("%s: argument %q has no value, or is there twice", name, arg)
			}
			seen[flag] = true
		}
		var limits int
		for _, env := range c.Env {
			if strings.HasPrefix(env, "GOGC=") || strings.HasPrefix(env, "GOMEMLIMIT=") {
				limits++
			}
		}
		if limits != 2 {
			t.Errorf("%s runs with %v, want GOGC and GOMEMLIMIT", name, c.Env)
		}
	}
}
