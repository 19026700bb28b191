package home

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const version = "v1.2.3"

func open(t *testing.T, dir string, keep bool) *Home {
	t.Helper()
	h, err := Open(dir, keep, version)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "thesis.txt"))
	var notOurs *ErrNotOurs
	if _, err := Open(dir, false, version); !errors.As(err, &notOurs) {
		t.Fatalf("Open: %v, want ErrNotOurs", err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("a refused directory holds %v", left)
	}
	var none *ErrNoCluster
	if err := Stop(t.Context(), dir, true); !errors.As(err, &none) {
		t.Errorf("Stop: %v, want ErrNoCluster", err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("after Stop it holds %v", left)
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	h := open(t, dir, false)
	var inUse *ErrInUse
	if _, err := Open(dir, true, version); !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("a second Open: %v, want ErrInUse by this process", err)
	}
	if s, live, err := Read(dir); err != nil || !live || s.Phase != "starting" {
		t.Errorf("Read: %+v, live %t, %v", s, live, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory that Open had made is still there after Close")
	}
}

func TestOnlyOwnFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir, false)
	for _, name := range []string{EtcdDir + "/member/x", Kubeconfig, StateFile, EtcdSocket, "thesis.txt"} {
		write(t, h.Path(name))
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) != 1 || left[0] != "thesis.txt" {
		t.Errorf("after Close the directory holds %v, want thesis.txt alone", left)
	}
}

func TestKeptDataIsContinued(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	h := open(t, dir, true)
	if h.Continued {
		t.Error("a new directory is said to be continued")
	}
	write(t, h.Path(EtcdDir, "member", "x"))
	if err := h.Write(State{Phase: "stopped", Port: 6443, Keep: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	var kept *ErrKept
	if _, err := Open(dir, false, version); !errors.As(err, &kept) {
		t.Errorf("Open without keep: %v, want ErrKept", err)
	}
	h = open(t, dir, true)
	if s, _, err := Read(dir); err != nil || s.Port != 6443 || !h.Continued {
		t.Errorf("continued %t, state %+v, %v", h.Continued, s, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), dir, false); err != nil {
		t.Errorf("Stop of what does not run: %v", err)
	}
	if err := Stop(t.Context(), dir, true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("data is still there after a Stop that removes")
	}
}

func TestLeftOfAKilledRunIsCleared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	h := open(t, dir, false)
	write(t, h.Path(EtcdDir, "member", "x"))
	_ = h.file.Close() // as the kernel does for a killed process
	h = open(t, dir, false)
	defer h.Close()
	if h.Continued || exists(h.Path(EtcdDir, "member")) {
		t.Error("data of a killed run, written without waiting for the disk, is used again")
	}
}

func TestOtherFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, markerName), []byte(`{"format":99,"keep":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, true, version); err == nil {
		t.Error("data of another format was taken over")
	}
	if err := os.WriteFile(filepath.Join(dir, markerName), []byte(`{"for`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, true, version); err == nil {
		t.Error("a torn marker was taken for an empty one")
	}
}

func TestNoSpace(t *testing.T) {
	err := (&ErrNoSpace{Dir: "/d", Free: 5 << 20, Need: needBytes}).Error()
	if want := "/d: 5 MiB free on its disk, a cluster needs 128 MiB: free some space or choose another --dir"; err != want {
		t.Errorf("%q, want %q", err, want)
	}
	if err := checkSpace(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a directory that is not there has space")
	}
}

func TestStopGivesUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	h := open(t, dir, false)
	defer h.Close()
	// A process id that is none: nobody is signalled, and the lock stays.
	h.mark.PID = 1 << 30
	if err := h.writeMarker(); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
	defer cancel()
	if err := Stop(ctx, dir, false); err == nil {
		t.Error("Stop returns though the lock is held")
	}
}
