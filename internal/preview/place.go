package preview

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// place is where a Kustomization is built: a directory that stands for its artifact, and the path in it.
type place struct{ tree, path string }

// directory makes the path of an existing directory absolute, free of links.
func directory(name string) (string, error) {
	if info, err := os.Stat(name); name == "" || err != nil || !info.IsDir() {
		return "", fmt.Errorf("invalid resource path %q: it must be an existing directory", name)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// locate finds the tree that a directory is part of, since what it refers to may lie beside it. The end of the path is spec.path if
// the files lie as in the source; else the tree is the enclosing Git repository, and else the directory alone.
func locate(dir, specPath string) (place, error) {
	abs, err := directory(dir)
	if err != nil {
		return place{}, err
	}
	rel := path.Clean("/" + specPath)
	if rel == "/" {
		return place{tree: abs, path: "."}, nil
	}
	if tree, ok := strings.CutSuffix(filepath.ToSlash(abs), rel); ok && tree != "" {
		return place{tree: filepath.FromSlash(tree), path: rel}, nil
	}
	for tree := abs; ; tree = filepath.Dir(tree) {
		if _, err := os.Lstat(filepath.Join(tree, ".git")); err == nil {
			rel, err := filepath.Rel(tree, abs)
			return place{tree: tree, path: filepath.ToSlash(rel)}, err
		}
		if tree == filepath.Dir(tree) {
			return place{tree: abs, path: "."}, nil
		}
	}
}

// ignore tells what a generated kustomization leaves out: what the source would have left out of its artifact (gitrepository 60,
// 61), by the ignore file at the root of the tree or the defaults, and the given patterns.
func (p place) ignore(lines []string) (func(name string, dir bool) bool, error) {
	patterns := archive.DefaultPatterns()
	f, err := os.Open(filepath.Join(p.tree, archive.IgnoreFile))
	switch {
	case err == nil:
		patterns, err = archive.ParsePatterns(f, "")
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archive.IgnoreFile, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the ignore file: %w", err)
	}
	given, err := archive.ParsePatterns(strings.NewReader(strings.Join(lines, "\n")), strings.TrimPrefix(path.Clean("/"+p.path), "/"))
	if err != nil {
		return nil, fmt.Errorf("--ignore-paths: %w", err)
	}
	return archive.NewMatcher(append(append(archive.VCSPatterns(), patterns...), given...)...).Excludes, nil
}
