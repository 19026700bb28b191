package replay

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// GitLog is a look at what the system has committed to a repository.
type GitLog struct {
	Repo   string `json:"repo"`
	Branch string `json:"branch"`
	As     string `json:"as"`
}

// inputAuthor is who makes the commits of the inputs (README, "input entries").
const inputAuthor = "dev@example.com"

// gitLog compares the commits of a branch that are none of the inputs. From now on their hashes are shown by what they are.
func (p *player) gitLog(s *GitLog) error {
	want, ok := p.r.Observed[s.As]
	if !ok {
		return fmt.Errorf("the recording has no look at a repository %q", s.As)
	}
	repo, err := p.lab.git.repo(p.r.Namespace + "-" + s.Repo)
	if err != nil {
		return err
	}
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = repo.Dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", args[0], err)
		}
		return strings.TrimRight(string(out), "\n"), nil
	}
	branches, err := git("for-each-ref", "--format=%(refname:short)", "refs/heads")
	if err != nil {
		return err
	}
	hashes, err := git("log", "--format=%H %ae", s.Branch)
	if err != nil {
		return err
	}
	commits := []any{}
	for line := range strings.Lines(hashes) {
		hash, author, _ := strings.Cut(strings.TrimSpace(line), " ")
		if author == inputAuthor {
			continue
		}
		shown, err := showCommit(git, hash)
		if err != nil {
			return err
		}
		p.clean.commit(hash, s.Branch)
		commits = append(commits, shown)
	}
	ours, err := asJSON(p.clean.tree(map[string]any{"branches": strings.Split(branches, "\n"), "commits": commits}))
	if err != nil {
		return err
	}
	c := &comparer{}
	c.value(s.As, want, ours)
	p.diffs = append(p.diffs, c.diffs...)
	return nil
}

func showCommit(git func(...string) (string, error), hash string) (map[string]any, error) {
	who, err := git("log", "-1", "--format=%an <%ae>%n%cn <%ce>%n%B", hash)
	if err != nil {
		return nil, err
	}
	diff, err := git("show", "--format=", hash)
	if err != nil {
		return nil, err
	}
	raw, err := git("cat-file", "commit", hash)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitN(who, "\n", 3)
	head, _, _ := strings.Cut(raw, "\n\n")
	return map[string]any{
		"author": lines[0], "committer": lines[1], "message": strings.TrimSpace(lines[2]), "diff": diff, "signed": strings.Contains(head, "\ngpgsig "),
	}, nil
}
