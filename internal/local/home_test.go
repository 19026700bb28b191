package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func roomy(keep bool) claim { return claim{keep: keep, settle: func() error { return nil }} }

func TestHomeRefusesForeignDirectories(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "notes.txt")
	write(t, foreign, "mine")
	_, err := openHome(dir, roomy(false))
	var notOurs *ErrNotOurs
	if !errors.As(err, &notOurs) {
		t.Fatalf("openHome of a directory with files in it: %v, want ErrNotOurs", err)
	}
	if found := list(t, dir); len(found) != 1 || found[0] != "notes.txt" {
		t.Errorf("a refused directory holds %v, want notes.txt alone", found)
	}
}

func TestHomeIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	h, err := openHome(dir, roomy(false))
	if err != nil {
		t.Fatal(err)
	}
	var running *ErrRunning
	if _, err := openHome(dir, roomy(false)); !errors.As(err, &running) {
		t.Errorf("a second openHome: %v, want ErrRunning", err)
	}
	if _, live, err := Read(dir); err != nil || !live {
		t.Errorf("Read of a held directory says live %t, %v", live, err)
	}
	h.close()
	if state, live, err := Read(dir); err != nil || live || state.Phase != PhaseFailed {
		t.Errorf("Read after the process went: live %t, phase %q, %v; want a failed one", live, state.Phase, err)
	}
}

func TestHomeRemovesOnlyItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	h, err := openHome(dir, roomy(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range entries() {
		write(t, h.path(name), "x")
	}
	write(t, h.path("mine.txt"), "x")
	if err := h.remove(); err != nil {
		t.Fatal(err)
	}
	h.close()
	if found := list(t, dir); len(found) != 1 || found[0] != "mine.txt" {
		t.Errorf("after remove the directory holds %v, want mine.txt alone", found)
	}
	if err := os.Remove(filepath.Join(dir, "mine.txt")); err != nil {
		t.Fatal(err)
	}
	if h, err = openHome(dir, roomy(false)); err != nil {
		t.Fatal(err)
	}
	if err := h.remove(); err != nil {
		t.Fatal(err)
	}
	h.close()
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a directory that was there before is gone: %v", err)
	}
}

func TestHomeKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	settled := 0
	open := func(keep bool) *home {
		t.Helper()
		h, err := openHome(dir, claim{keep: keep, settle: func() error { settled++; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open(true)
	write(t, h.path(gitDir), "x")
	h.close()
	h = open(false)
	if _, err := os.Stat(h.path(gitDir)); err != nil || !h.mark.Keep {
		t.Errorf("kept data did not survive an open without keep: %v", err)
	}
	h.mark.Keep = false
	if err := h.writeMarker(); err != nil {
		t.Fatal(err)
	}
	h.close()
	h = open(false)
	defer h.close()
	if _, err := os.Stat(h.path(gitDir)); err == nil {
		t.Error("what a killed environment left is still there")
	}
	if settled != 2 {
		t.Errorf("settle was called %d times, want at each open after the first", settled)
	}
}

func TestHomeNeedsRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	_, err := openHome(dir, claim{need: 1 << 62})
	var noSpace *ErrNoSpace
	if !errors.As(err, &noSpace) {
		t.Fatalf("openHome on a full disk: %v, want ErrNoSpace", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused directory was left behind")
	}
}

func TestHomeOfAnotherFormat(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, markerName), `{"format":99}`)
	if _, err := openHome(dir, roomy(false)); err == nil {
		t.Error("a directory of another format was taken over")
	}
}

func TestTornState(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, markerName), `{"format":1,"pid":1,"keep":true}`)
	write(t, filepath.Join(dir, stateFile), `{"pha`)
	state, live, err := Read(dir)
	if err != nil || live || !state.Keep || state.Error == "" {
		t.Errorf("Read of half a state: %+v, %t, %v; want a stopped, kept one with an error", state, live, err)
	}
}

func TestTerminateWithoutAnyone(t *testing.T) {
	if err := terminate(context.Background(), t.TempDir()); err != nil {
		t.Errorf("terminate without a marker: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	h, err := openHome(dir, roomy(true))
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := terminate(ctx, dir); err != nil {
		t.Errorf("terminate of one that died: %v", err)
	}
}

func TestPlaces(t *testing.T) {
	root, work := t.TempDir(), realTempDir(t)
	p := Places{Root: filepath.Join(root, "up")}
	below := filepath.Join(work, "a", "b")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	var absent *ErrNoEnvironment
	if _, err := p.Find(below); !errors.As(err, &absent) {
		t.Errorf("Find without any: %v, want ErrNoEnvironment", err)
	}
	data := filepath.Join(root, "elsewhere")
	h, err := openHome(data, roomy(false))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if err := p.link(work, data); err != nil {
		t.Fatal(err)
	}
	if found, err := p.Find(below); err != nil || found != data {
		t.Errorf("Find from below: %q, %v; want %q", found, err, data)
	}
	if err := p.check(work, filepath.Join(root, "third")); err == nil {
		t.Error("a second data directory for one directory was accepted")
	}
	if chosen, err := p.choose(Options{Directory: work}); err != nil || chosen != data {
		t.Errorf("choose goes to %q, %v; want the linked %q", chosen, err, data)
	}
	state := State{Options: Options{Directory: work}, Phase: PhaseReady, Kubeconfig: "/k", Server: "https://127.0.0.1:1"}
	if err := h.writeState(state); err != nil {
		t.Fatal(err)
	}
	if got := p.Kubeconfig(below); got != "/k" {
		t.Errorf("Kubeconfig from below is %q", got)
	}
	if got := p.Kubeconfig(root); got != "/k" {
		t.Errorf("Kubeconfig of the only running environment is %q", got)
	}
	if _, ok := p.Serving("https://127.0.0.1:1"); !ok {
		t.Error("Serving does not know the server")
	}
	p.unlink(work)
	if _, err := p.Find(work); !errors.As(err, &absent) {
		t.Errorf("Find after unlink: %v", err)
	}
	if got := (Places{}).Kubeconfig(work); got != "" {
		t.Errorf("without a cache directory there is a kubeconfig %q", got)
	}
	if _, err := (Places{}).choose(Options{Directory: work}); err == nil {
		t.Error("without a cache directory a data directory was chosen")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}

// realTempDir is a temporary directory by its own name: on some systems it is a link.
func realTempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTerminateFreesTheLock: who waited for the end of an environment may take its directory at once.
func TestTerminateFreesTheLock(t *testing.T) {
	for range 200 {
		dir := filepath.Join(t.TempDir(), "data")
		h, err := openHome(dir, roomy(false))
		if err != nil {
			t.Fatal(err)
		}
		// Nobody is signalled: there is no such process.
		h.mark.PID = 1 << 30
		if err := h.writeMarker(); err != nil {
			t.Fatal(err)
		}
		go h.close()
		if err := terminate(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		again, err := openHome(dir, roomy(false))
		if err != nil {
			t.Fatalf("after terminate: %v", err)
		}
		again.close()
	}
}
