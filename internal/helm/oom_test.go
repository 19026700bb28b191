package helm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/internal/component"
)

// helmrelease 97: the process ends by itself before the kernel ends it.
func TestOOMWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.current")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("10\n")
	fake := clocktesting.NewFakeClock(time.Now())
	w := &oomWatch{path: path, threshold: 95, interval: time.Second, clock: fake}
	ended := make(chan error, 1)
	go func() { ended <- w.run(t.Context()) }()
	for tick := 0; ; tick++ {
		if tick == 3 {
			write("95\n")
		}
		if fake.HasWaiters() {
			fake.Step(time.Second)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, errMemory) {
				t.Fatalf("got %v, want %v", err, errMemory)
			}
			if tick < 3 {
				t.Fatal("it ended with memory to spare")
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func TestOOMOptions(t *testing.T) {
	host := &component.Host{Common: component.Common{Gates: map[string]bool{"OOMWatch": true}}}
	dir := t.TempDir()
	file := filepath.Join(dir, "bad")
	if err := os.WriteFile(file, []byte("much"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]oomOptions{
		"threshold": {threshold: 101, interval: time.Second, maxPath: file, nowPath: file},
		"interval":  {threshold: 90, maxPath: file, nowPath: file},
		"no number": {threshold: 90, interval: time.Second, maxPath: file, nowPath: file},
		"no file":   {threshold: 90, interval: time.Second, maxPath: filepath.Join(dir, "none"), nowPath: file},
	} {
		if err := o.watch(host); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	host.Common.Gates["OOMWatch"] = false
	if err := (&oomOptions{}).watch(host); err != nil {
		t.Errorf("without the gate: %v", err)
	}
}
