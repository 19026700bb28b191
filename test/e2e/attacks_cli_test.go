package e2e

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/hostile"
)

// attempt runs the flux binary with a home of its own and returns what it said and whether it succeeded.
func attempt(t *testing.T, env []string, args ...string) (said string, ok bool) {
	t.Helper()
	program, err := testkit.FindFlux()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), append([]string{"HOME=" + cmd.Dir, "DOCKER_CONFIG=" + cmd.Dir, "KUBECONFIG=" + filepath.Join(cmd.Dir, "none")}, env...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// TestAttackedCommands is reliability 024: commands that are given what should hurt whoever runs them.
func TestAttackedCommands(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the built binary, and -short asks for tests without it")
	}
	t.Run("namespace of the environment", func(t *testing.T) {
		said, ok := attempt(t, []string{"FLUX_SYSTEM_NAMESPACE=../../tmp/x"}, "install", "--export")
		if !ok || !strings.Contains(said, "ignoring FLUX_SYSTEM_NAMESPACE") || strings.Contains(said, "namespace: ../") {
			t.Errorf("install says %.500q", said)
		}
	})
	t.Run("uninstall of something", func(t *testing.T) {
		if said, ok := attempt(t, nil, "uninstall", "helmrelease", "foo", "--silent"); ok || !strings.Contains(said, "helmrelease") {
			t.Errorf("uninstall says %.500q", said)
		}
	})
	t.Run("weak key", func(t *testing.T) {
		said, ok := attempt(t, nil, "create", "secret", "git", "weak", "--url=ssh://git@example.com/app", "--ssh-key-algorithm=rsa", "--ssh-rsa-bits=16", "--export")
		if ok || strings.Contains(said, "PRIVATE KEY") || !strings.Contains(said, "rsa-bits") {
			t.Errorf("create secret git says %.500q", said)
		}
	})
	outside := t.TempDir()
	secret := filepath.Join(outside, "keep.txt")
	if err := os.WriteFile(secret, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 1} }
	up := strings.Repeat("../", 30)
	for _, test := range []struct {
		name  string
		layer []byte
		says  string // why it is refused; empty: it is harmless
	}{
		{"leads up", hostile.Tar(file("../evil")), "leaves the directory"},
		{"leads far up", hostile.Tar(file(up + outside + "/evil")), "leaves the directory"},
		{"absolute", hostile.Tar(file(outside + "/evil")), "leaves the directory"},
		{"through a link", hostile.Tar(tar.Header{Typeflag: tar.TypeSymlink, Name: "d", Linkname: outside}, file("d/evil")), ""},
		{"hard link", hostile.Tar(tar.Header{Typeflag: tar.TypeLink, Name: "h", Linkname: up + secret}, file("h")), "neither a file nor a directory"},
		{"devices", hostile.Tar(tar.Header{Typeflag: tar.TypeFifo, Name: "p"}, tar.Header{Typeflag: tar.TypeChar, Name: "c"}), "neither a file nor a directory"},
		{"bomb", hostile.Tar(tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Size: 8 << 30}), "limit"},
		{"promises too much", hostile.LyingTar(), "unexpected EOF"},
	} {
		t.Run("pull of an archive/"+test.name, func(t *testing.T) {
			r := hostile.NewRegistry()
			defer r.Close()
			must[string](t)(r.Push("app:latest", image(t, test.layer)))
			parent := t.TempDir()
			output := filepath.Join(parent, "output")
			if err := os.Mkdir(output, 0o755); err != nil {
				t.Fatal(err)
			}
			said, ok := attempt(t, nil, "pull", "artifact", "oci://"+r.Host()+"/app:latest", "--output", output, "--insecure-registry")
			if ok != (test.says == "") || !strings.Contains(said, test.says) {
				t.Errorf("it says %.500q, want %q", said, test.says)
			}
			if names := entries(t, parent); !slices.Equal(names, []string{"output"}) {
				t.Errorf("beside the output there is %q", names)
			}
			if names := entries(t, outside); !slices.Equal(names, []string{"keep.txt"}) {
				t.Errorf("outside there is %q", names)
			}
			if b, err := os.ReadFile(secret); err != nil || string(b) != "kept" {
				t.Errorf("the file outside holds %q, %v", b, err)
			}
		})
	}
}
