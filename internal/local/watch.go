package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleTime lets git finish: one commit renames several files in its directory.
const settleTime = 50 * time.Millisecond

// watchBranch calls watching once nothing can be missed any more, and moved whenever a branch of the repository in gitDir points to
// another commit, until ctx ends. Nobody pushes to a working tree, so its files are the event.
func watchBranch(ctx context.Context, g *git, gitDir, branch string, watching, moved func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", gitDir, err)
	}
	defer watcher.Close()
	if err := watcher.Add(gitDir); err != nil {
		return fmt.Errorf("watch %s: %w", gitDir, err)
	}
	last, err := tip(ctx, g, gitDir, branch)
	if err != nil {
		return err
	}
	arm(watcher, gitDir, branch)
	watching()
	settled := time.NewTimer(0)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err, open := <-watcher.Errors:
			if !open {
				return nil
			}
			// Events may have been lost; what they would have told is looked up below.
			_ = err
			settled.Reset(settleTime)
		case _, open := <-watcher.Events:
			if !open {
				return nil
			}
			settled.Reset(settleTime)
		case <-settled.C:
			arm(watcher, gitDir, branch)
			now, err := tip(ctx, g, gitDir, branch)
			if err == nil && now != last {
				last = now
				moved()
			}
		}
	}
}

// arm watches the directories in which git keeps a branch: a file of its own, packed with others in the Git directory itself, or in
// the reftable format. They come and go as refs are packed; adding one again is harmless.
func arm(watcher *fsnotify.Watcher, gitDir, branch string) {
	heads := filepath.Join(gitDir, "refs", "heads")
	for _, dir := range []string{heads, filepath.Dir(filepath.Join(heads, filepath.FromSlash(branch))), filepath.Join(gitDir, "reftable")} {
		if _, err := os.Stat(dir); err == nil {
			_ = watcher.Add(dir)
		}
	}
}
