package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
)

// commitEpoch is the date of the first commit of every repository; each later one is a minute
// younger. Fixed dates make commit hashes a function of the content alone.
var commitEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// GitFile is one entry of a commit. A symbolic link has Symlink set and no content, a submodule only the commit of
// another repository.
type GitFile struct {
	Content    string
	Executable bool
	Symlink    string
	Submodule  string
}

// GitCommit describes a commit on top of the branch's tip. A nil file deletes its path.
type GitCommit struct {
	Branch  string
	Message string
	Files   map[string]*GitFile
	// Tag and AnnotatedTag, when set, are created pointing at the new commit.
	Tag          string
	AnnotatedTag string
}

// GitRepo writes commits straight into a bare repository, as a push would, without a work tree.
// Hashes are reproducible: author, committer and dates are fixed (see commitEpoch).
type GitRepo struct {
	// Dir is the bare repository.
	Dir string

	mu      sync.Mutex // guards the fields below and serialises writers
	commits int
	head    string // the branch of the latest commit: where a new branch starts
	tips    map[string]string
}

// NewGitRepo creates an empty bare repository in dir, whose HEAD is main.
func NewGitRepo(dir string) (*GitRepo, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("creating the folder of the repository: %w", err)
	}
	if _, err := git("", nil, "init", "--quiet", "--bare", "--initial-branch=main", dir); err != nil {
		return nil, err
	}
	// git http-backend refuses pushes of anonymous users unless told otherwise.
	for _, kv := range [][2]string{{"http.receivepack", "true"}, {"uploadpack.allowAnySHA1InWant", "true"}, {"uploadpack.allowFilter", "true"}} {
		if _, err := git(dir, nil, "config", kv[0], kv[1]); err != nil {
			return nil, err
		}
	}
	return &GitRepo{Dir: dir, tips: map[string]string{}}, nil
}

// Commit adds one commit and returns its hash. A branch not seen before starts at the latest commit.
func (r *GitRepo) Commit(c GitCommit) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	parent := r.tips[c.Branch]
	if parent == "" {
		parent = r.tips[r.head]
	}
	stream := r.stream(c, parent)
	out, err := git(r.Dir, stream, "fast-import", "--quiet", "--force", "--date-format=raw")
	if err != nil {
		return "", err
	}
	hash := strings.TrimSpace(string(out))
	if len(hash) != 40 {
		return "", fmt.Errorf("committing to %s: git fast-import answered %q, want a commit hash", r.Dir, hash)
	}
	r.commits++
	r.head, r.tips[c.Branch] = c.Branch, hash
	return hash, nil
}

// SetBranch makes a branch point at a commit, as a forced push does.
func (r *GitRepo) SetBranch(branch, commit string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := git(r.Dir, nil, "update-ref", "refs/heads/"+branch, commit); err != nil {
		return err
	}
	r.tips[branch] = commit
	return nil
}

// Bundle replaces the repository's branches and tags by those of a git bundle.
func (r *GitRepo) Bundle(bundle []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.CreateTemp("", "*.bundle")
	if err != nil {
		return fmt.Errorf("storing the bundle: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(bundle)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("storing the bundle: %w", err)
	}
	_, err = git(r.Dir, nil, "fetch", "--quiet", "--force", f.Name(), "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")
	return err
}

// stream renders the commit in the format of git fast-import(1).
func (r *GitRepo) stream(c GitCommit, parent string) []byte {
	who := fmt.Sprintf("dev <dev@example.com> %d +0000", commitEpoch.Add(time.Duration(r.commits)*time.Minute).Unix())
	var b bytes.Buffer
	data := func(s string) { fmt.Fprintf(&b, "data %d\n%s\n", len(s), s) }
	fmt.Fprintf(&b, "commit refs/heads/%s\nmark :1\nauthor %s\ncommitter %s\n", c.Branch, who, who)
	data(strings.TrimRight(c.Message, "\n") + "\n")
	if parent != "" {
		fmt.Fprintf(&b, "from %s\n", parent)
	}
	for _, path := range sortedKeys(c.Files) {
		file := c.Files[path]
		switch {
		case file == nil:
			fmt.Fprintf(&b, "D %s\n", path)
		case file.Symlink != "":
			fmt.Fprintf(&b, "M 120000 inline %s\n", path)
			data(file.Symlink)
		case file.Submodule != "":
			fmt.Fprintf(&b, "M 160000 %s %s\n", file.Submodule, path)
		case file.Executable:
			fmt.Fprintf(&b, "M 100755 inline %s\n", path)
			data(file.Content)
		default:
			fmt.Fprintf(&b, "M 100644 inline %s\n", path)
			data(file.Content)
		}
	}
	if c.Tag != "" {
		fmt.Fprintf(&b, "reset refs/tags/%s\nfrom :1\n\n", c.Tag)
	}
	if c.AnnotatedTag != "" {
		fmt.Fprintf(&b, "tag %s\nfrom :1\ntagger %s\n", c.AnnotatedTag, who)
		data(c.AnnotatedTag + "\n")
	}
	b.WriteString("get-mark :1\n")
	return b.Bytes()
}

// git runs git without the user's configuration, so that hooks and aliases of this machine do not matter.
func git(dir string, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
