package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// ErrNoGit says that there is no usable git on this machine.
type ErrNoGit struct{ Why string }

func (e *ErrNoGit) Error() string {
	return "flux up needs git 2.28 or newer: " + e.Why
}

// git runs git for us: without the user's hooks, aliases, credentials and signing.
type git struct {
	program string
	env     []string
}

// findGit looks for git on the PATH and judges its version: `git init --initial-branch` came with 2.28.
func findGit(ctx context.Context) (*git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, &ErrNoGit{Why: "found none on the PATH, install it first"}
	}
	g := &git{program: program, env: ownGitEnv()}
	out, err := g.run(ctx, "", "--version")
	if err != nil {
		return nil, &ErrNoGit{Why: err.Error()}
	}
	if !recent(out) {
		return nil, &ErrNoGit{Why: "this is " + out}
	}
	return g, nil
}

// recent reads the output of `git --version`, such as "git version 2.39.5 (Apple Git-154)".
func recent(version string) bool {
	fields := strings.Fields(version)
	if len(fields) < 3 {
		return false
	}
	parts := strings.SplitN(fields[2], ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return errors.Join(err1, err2) == nil && (major > 2 || major == 2 && minor >= 28)
}

// asUser is a git that reads the user's configuration, and leaves the index of a working tree alone.
func (g *git) asUser() *git {
	return &git{program: g.program, env: []string{"GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0"}}
}

// with is a git with more environment.
func (g *git) with(env ...string) *git {
	return &git{program: g.program, env: append(append([]string(nil), g.env...), env...)}
}

// run runs git in dir and returns its output without the last line break.
func (g *git) run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, g.program, args...)
	cmd.Dir = dir
	cmd.Env = append(cleanGitEnv(os.Environ()), g.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, lastLines(stderr.String(), 3))
	}
	return strings.TrimRight(string(out), "\n"), nil
}

// cleanGitEnv drops what would turn git to another repository, as when flux up is run from a hook.
func cleanGitEnv(env []string) []string {
	var clean []string
	for _, entry := range env {
		switch name, _, _ := strings.Cut(entry, "="); name {
		case "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX":
		default:
			clean = append(clean, entry)
		}
	}
	return clean
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
