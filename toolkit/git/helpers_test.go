package git_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

func testkitGit(t testing.TB, repo *testkit.GitRepo, args ...string) string {
	t.Helper()
	return testkitGitEnv(t, repo, "LC_ALL=C", args...)
}

// testkitGitEnv runs git in a bare repository with one more variable.
func testkitGitEnv(t testing.TB, repo *testkit.GitRepo, env string, args ...string) string {
	t.Helper()
	return runGit(t, repo.Dir, env, nil, args...)
}

func runGit(t testing.TB, dir, env string, stdin *os.File, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env, "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com")
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v", args, err)
	}
	return string(out)
}
