package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// GitSigner signs commits and tags with a key made by gpg or ssh-keygen.
type GitSigner struct {
	// SecretKey is a name under which a Secret for verification holds the
	// public key, PublicKey its text.
	SecretKey, PublicKey string
	// ID names the key: the id of a PGP key, or the fingerprint of an SSH key.
	ID string

	env    []string
	config []string
}

// NewPGPSigner makes a PGP key; dir becomes the home of gpg. Close ends the agent of gpg.
func NewPGPSigner(dir string) (*GitSigner, error) {
	s := &GitSigner{SecretKey: "dev.asc", env: []string{"GNUPGHOME=" + dir}, config: []string{"-c", "gpg.format=openpgp"}}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := s.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "dev <dev@example.com>", "ed25519", "sign", "never"); err != nil {
		return nil, err
	}
	public, err := s.run("gpg", "--batch", "--armor", "--export")
	if err != nil {
		return nil, err
	}
	listed, err := s.run("gpg", "--batch", "--with-colons", "--list-keys")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(listed) {
		if fields := strings.Split(line, ":"); fields[0] == "pub" {
			s.ID = fields[4]
		}
	}
	s.PublicKey = public
	s.config = append(s.config, "-c", "user.signingkey="+s.ID)
	return s, nil
}

// Close ends what serves the key.
func (s *GitSigner) Close() error {
	if len(s.env) == 0 {
		return nil
	}
	_, err := s.run("gpgconf", "--kill", "gpg-agent")
	return err
}

// NewSSHSigner makes an SSH key in dir, of a type that ssh-keygen knows.
func NewSSHSigner(dir, keyType string) (*GitSigner, error) {
	file := filepath.Join(dir, "id")
	s := &GitSigner{SecretKey: "dev.sshpub", config: []string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + file}}
	if _, err := s.run("ssh-keygen", "-q", "-t", keyType, "-N", "", "-C", "signer", "-f", file); err != nil {
		return nil, err
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		return nil, err
	}
	listed, err := s.run("ssh-keygen", "-l", "-f", file)
	if err != nil {
		return nil, err
	}
	s.PublicKey, s.ID = string(public), strings.Fields(listed)[1]
	return s, nil
}

func (s *GitSigner) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), s.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// git runs git in the repository with the key at hand.
func (s *GitSigner) git(dir string, args ...string) (string, error) {
	signer := *s
	signer.env = append([]string{"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com"}, s.env...)
	return signer.run("git", append(append([]string{"-C", dir}, s.config...), args...)...)
}

// SignCommit puts a signed commit with the files of its tip on a branch, and returns its hash.
func (r *GitRepo) SignCommit(branch, message string, s *GitSigner) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out, err := s.git(r.Dir, "commit-tree", "-S", "-p", branch, "-m", message, branch+"^{tree}")
	if err != nil {
		return "", err
	}
	hash := strings.TrimSpace(out)
	if _, err := git(r.Dir, nil, "update-ref", "refs/heads/"+branch, hash); err != nil {
		return "", err
	}
	r.head, r.tips[branch] = branch, hash
	return hash, nil
}

// SignTag makes a signed tag of a commit, and returns the hash of the tag object.
func (r *GitRepo) SignTag(name, commit string, s *GitSigner) (string, error) {
	if _, err := s.git(r.Dir, "tag", "-f", "-s", "-m", name, name, commit); err != nil {
		return "", err
	}
	out, err := git(r.Dir, nil, "rev-parse", "refs/tags/"+name)
	return strings.TrimSpace(string(out)), err
}
