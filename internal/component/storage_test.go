package component

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// open opens the storages of a process: each with its flags, one after the other.
func open(t *testing.T, host *Host, flags ...[]string) ([]*Storage, error) {
	t.Helper()
	for _, variable := range []string{"STORAGE_PATH", "STORAGE_ADDRESS", "STORAGE_ADV_ADDR"} {
		t.Setenv(variable, "")
	}
	var all []*Storage
	for _, args := range flags {
		s := &Storage{}
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.BindFlags(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		if err := s.Open(host); err != nil {
			return all, err
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		all = append(all, s)
	}
	return all, nil
}

// One directory is one store, one address one server, whatever the components of a process (wire.md 8, 14).
func TestStorages(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	tests := map[string]struct {
		second         func(first string) []string
		shared, served bool
		addr, url      string
	}{
		"nothing said": {func(string) []string { return nil }, true, true, "", "http://one.test/x"},
		"the same path": {func(first string) []string {
			return []string{"--storage-path=" + first + "/../" + filepath.Base(first)}
		},
			true, false, ":9090", "http://localhost:9090/x"},
		"the same path and address": {func(first string) []string { return []string{"--storage-path=" + first, "--storage-addr=:1111"} },
			true, true, "", "http://localhost:1111/x"},
		"an address of its own": {func(string) []string { return []string{"--storage-addr=:2222"} }, true, false, ":2222", "http://localhost:2222/x"},
		"a name of its own":     {func(string) []string { return []string{"--storage-adv-addr=two.test"} }, true, true, "", "http://two.test/x"},
		"a directory of its own": {func(string) []string { return []string{"--storage-path=" + b, "--storage-addr=:3333"} },
			false, false, ":3333", "http://localhost:3333/x"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			host := &Host{}
			all, err := open(t, host, []string{"--storage-path=" + a, "--storage-addr=:1111", "--storage-adv-addr=one.test"}, test.second(a))
			if err != nil {
				t.Fatal(err)
			}
			if len(host.Storages) != 2 {
				t.Fatalf("the process knows %d storages", len(host.Storages))
			}
			first, second := all[0], all[1]
			if got := first.Store() == second.Store(); got != test.shared {
				t.Errorf("one store: %t", got)
			}
			addr := ""
			for _, e := range second.Serving() {
				addr = e.Addr
			}
			if addr != test.addr || (addr == "") != test.served {
				t.Errorf("serves at %q", addr)
			}
			if got := second.URL("x"); got != test.url {
				t.Errorf("URL = %s, want %s", got, test.url)
			}
			if got := first.Serving(); len(got) != 1 || got[0].Addr != ":1111" {
				t.Errorf("the first serves %v", got)
			}
		})
	}
}

func TestStorageRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		flags [][]string
		want  string
	}{
		"two directories behind one address": {[][]string{{"--storage-path=" + dir + "/a"}, {"--storage-path=" + dir + "/b"}}, "choose another address"},
		"a digest nobody knows":              {[][]string{{"--storage-path=" + dir, "--artifact-digest-algo=md5"}}, "--artifact-digest-algo"},
		"an address without a port":          {[][]string{{"--storage-path=" + dir, "--storage-addr=localhost"}}, "--storage-addr"},
		"a directory that is a file":         {[][]string{{"--storage-path=/dev/null/x"}}, "opening the artifact storage"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := open(t, &Host{}, test.flags...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
		})
	}
}
