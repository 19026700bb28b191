package launch

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/cluster/internal/home"
)

func TestCheck(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"simulated pods":            {Options{Pods: PodsSimulated}, ""},
		"no pods":                   {Options{Pods: PodsNone, Port: 65535}, ""},
		"audit":                     {Options{Pods: PodsNone, AuditPolicy: policy, AuditLog: "log"}, ""},
		"other pods":                {Options{Pods: "real"}, `--pods is "real"`},
		"a port below":              {Options{Pods: PodsNone, Port: -1}, "--port is -1"},
		"a port beyond":             {Options{Pods: PodsNone, Port: 65536}, "--port is 65536"},
		"an audit policy alone":     {Options{Pods: PodsNone, AuditPolicy: policy}, "go together"},
		"an audit log alone":        {Options{Pods: PodsNone, AuditLog: "log"}, "go together"},
		"an audit policy not there": {Options{Pods: PodsNone, AuditPolicy: policy + "x", AuditLog: "log"}, "--audit-policy"},
	} {
		err := check(&test.options)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if err == nil && test.options.AuditLog != "" && !filepath.IsAbs(test.options.AuditLog) {
			t.Errorf("%s: the audit log stays %q, and the API server runs elsewhere", name, test.options.AuditLog)
		}
	}
}

func TestChoosePort(t *testing.T) {
	h, err := home.Open(filepath.Join(t.TempDir(), "data"), true, "v1")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	free, err := listenable(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Write(home.State{Port: free}); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{home: h}
	if port, err := c.choosePort(); err != nil || port == 0 {
		t.Errorf("a new cluster gets port %d, %v", port, err)
	}
	h.Continued = true
	if port, err := c.choosePort(); err != nil || port != free {
		t.Errorf("a continued cluster gets port %d, %v; want its old one, %d", port, err, free)
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(free)))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if port, err := c.choosePort(); err != nil || port == free || port == 0 {
		t.Errorf("a continued cluster whose port is taken gets %d, %v", port, err)
	}
}

func TestUntil(t *testing.T) {
	calls := 0
	if err := until(t.Context(), func(context.Context) bool { calls++; return calls == 3 }); err != nil || calls != 3 {
		t.Errorf("until returns %v after %d calls", err, calls)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := until(ctx, func(context.Context) bool { return false }); !errors.Is(err, cause) {
		t.Errorf("until returns %v, want the cause", err)
	}
}
