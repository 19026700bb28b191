package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoEnvironment says that a directory and those above it have no environment.
type ErrNoEnvironment struct {
	Directory string
	// Others are the directories of the running environments.
	Others []string
}

func (e *ErrNoEnvironment) Error() string {
	text := "no environment of flux up belongs to " + e.Directory
	for i, dir := range e.Others {
		if i == 0 {
			text += "; running ones belong to "
		} else {
			text += ", "
		}
		text += dir
	}
	return text
}

// Places knows where environments keep their data: Root/<hash of a directory's path> is the data directory of that directory's
// environment, or a symbolic link to one that the user has chosen.
type Places struct{ Root string }

// UserPlaces are the places below the user's cache directory. Without one, environments need a data directory of the user's choice.
func UserPlaces() Places {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Places{}
	}
	return Places{Root: filepath.Join(cache, "flux", "up")}
}

// of returns the entry of a directory.
func (p Places) of(directory string) (string, error) {
	if p.Root == "" {
		return "", errors.New("this user has no cache directory (HOME is not set): name a data directory with --dir")
	}
	if real, err := filepath.EvalSymlinks(directory); err == nil {
		directory = real
	}
	sum := sha256.Sum256([]byte(directory))
	return filepath.Join(p.Root, hex.EncodeToString(sum[:6])), nil
}

// Find returns the data directory of the environment that belongs to directory or to the nearest directory above it: who works in
// the demo repository works in the environment that made it. It returns *ErrNoEnvironment.
func (p Places) Find(directory string) (string, error) {
	if p.Root != "" {
		for dir := directory; ; dir = filepath.Dir(dir) {
			place, err := p.of(dir)
			if err != nil {
				return "", err
			}
			if data, err := filepath.EvalSymlinks(place); err == nil && isHome(data) {
				return data, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", &ErrNoEnvironment{Directory: directory, Others: p.running()}
}

// running returns the directories of the environments that run.
func (p Places) running() []string {
	var dirs []string
	for _, data := range p.all() {
		if state, live, err := Read(data); err == nil && live {
			dirs = append(dirs, state.Directory)
		}
	}
	return dirs
}

func (p Places) all() []string {
	entries, err := os.ReadDir(p.Root)
	if err != nil {
		return nil
	}
	var all []string
	for _, entry := range entries {
		if data, err := filepath.EvalSymlinks(filepath.Join(p.Root, entry.Name())); err == nil && isHome(data) {
			all = append(all, data)
		}
	}
	return all
}

// choose returns the data directory for a new environment of o.Directory.
func (p Places) choose(o Options) (string, error) {
	if o.Data != "" {
		return filepath.Abs(o.Data)
	}
	place, err := p.of(o.Directory)
	if err != nil {
		return "", err
	}
	if data, err := filepath.EvalSymlinks(place); err == nil {
		return data, nil
	}
	return place, nil
}

// check refuses data for a directory that has an environment elsewhere.
func (p Places) check(directory, data string) error {
	if p.Root == "" {
		return nil
	}
	place, err := p.of(directory)
	if err != nil {
		return err
	}
	if old, err := filepath.EvalSymlinks(place); err == nil && old != data && isHome(old) {
		return fmt.Errorf("%s has an environment in %s already: remove it with `flux down --delete` first", directory, old)
	}
	return nil
}

// link makes Find find data by directory.
func (p Places) link(directory, data string) error {
	if p.Root == "" {
		return nil
	}
	place, err := p.of(directory)
	if err != nil || place == data {
		return err
	}
	if old, err := os.Readlink(place); err == nil && old == data {
		return nil
	}
	if err := os.MkdirAll(p.Root, 0o700); err != nil {
		return fmt.Errorf("remember the data directory: %w", err)
	}
	_ = os.Remove(place)
	if err := os.Symlink(data, place); err != nil {
		return fmt.Errorf("remember the data directory: %w", err)
	}
	return nil
}

// unlink forgets what link remembered.
func (p Places) unlink(directory string) {
	place, err := p.of(directory)
	if err != nil {
		return
	}
	if info, err := os.Lstat(place); err == nil && info.Mode()&os.ModeSymlink != 0 {
		_ = os.Remove(place)
	}
}

// Kubeconfig returns the kubeconfig of the running environment that belongs to directory, or of the only one that runs on this
// machine; empty when there is none. It is what a command connects with when the user has no kubeconfig at all.
func (p Places) Kubeconfig(directory string) string {
	data, err := p.Find(directory)
	if err != nil {
		running := 0
		for _, candidate := range p.all() {
			if _, live, err := Read(candidate); err == nil && live {
				data, running = candidate, running+1
			}
		}
		if running != 1 {
			return ""
		}
	}
	state, live, err := Read(data)
	if err != nil || !live {
		return ""
	}
	return state.Kubeconfig
}

// Serving returns the running environment whose API server has the given URL.
func (p Places) Serving(server string) (State, bool) {
	for _, data := range p.all() {
		if state, live, err := Read(data); err == nil && live && state.Server == server {
			return state, true
		}
	}
	return State{}, false
}
