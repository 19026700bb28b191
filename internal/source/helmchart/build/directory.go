package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/ignore"

	"github.com/seed-79636ae9/flux/internal/chartfile"
)

// readDirectory reads the files of a chart's directory, but for those its .helmignore excludes. Links are followed as long
// as they stay in the tree (helmchart 22).
func readDirectory(ctx context.Context, b *chartfile.Budget, tree fs.FS, dir string) ([]*archive.BufferedFile, error) {
	rules := ignore.Empty()
	content, err := readFile(b, tree, path.Join(dir, ignore.HelmIgnore))
	switch {
	case err == nil:
		if rules, err = ignore.Parse(bytes.NewReader(content)); err != nil {
			return nil, fmt.Errorf("parsing %s: %w", ignore.HelmIgnore, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	rules.AddDefaults()
	w := &walk{ctx: ctx, budget: b, tree: tree, top: dir, rules: rules}
	info, err := fs.Stat(tree, dir)
	if err != nil {
		return nil, relative(err)
	}
	if err := w.directory("", []fs.FileInfo{info}); err != nil {
		return nil, err
	}
	return w.files, nil
}

// readFile reads one file of a tree.
func readFile(b *chartfile.Budget, tree fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(tree, name)
	if err != nil {
		return nil, relative(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("'%s' is not a regular file", name)
	}
	f, err := tree.Open(name)
	if err != nil {
		return nil, relative(err)
	}
	defer f.Close()
	return b.Read(name, f)
}

// relative names the system call in an error of os.Root by what a person would: "stat", not "statat".
func relative(err error) error {
	if e := (*fs.PathError)(nil); errors.As(err, &e) && e.Op != "stat" && e.Op != "lstat" {
		return &fs.PathError{Op: strings.TrimSuffix(e.Op, "at"), Path: e.Path, Err: e.Err}
	}
	return err
}

// walk is one pass over a chart's directory.
type walk struct {
	ctx    context.Context
	budget *chartfile.Budget
	tree   fs.FS
	// top is the chart's directory in the tree.
	top   string
	rules *ignore.Rules
	files []*archive.BufferedFile
}

// directory reads what is below a directory of the chart. Above are the directories on the way to it, itself included.
func (w *walk) directory(dir string, above []fs.FileInfo) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	entries, err := fs.ReadDir(w.tree, path.Join(w.top, dir))
	if err != nil {
		return relative(err)
	}
	for _, e := range entries {
		if err := w.entry(path.Join(dir, e.Name()), e, above); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(name string, e fs.DirEntry, above []fs.FileInfo) error {
	if err := w.budget.Entry(name); err != nil {
		return err
	}
	below := path.Join(w.top, name)
	info, err := e.Info()
	if err != nil {
		return relative(err)
	}
	if w.rules.Ignore(name, info) {
		return nil
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if info, err = fs.Stat(w.tree, below); err != nil {
			return fmt.Errorf("following the link '%s': %w", below, relative(err))
		}
	}
	switch {
	case info.IsDir():
		if slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
			return fmt.Errorf("the link '%s' leads to a directory that it lies in", below)
		}
		return w.directory(name, append(slices.Clip(above), info))
	case !info.Mode().IsRegular():
		return fmt.Errorf("'%s' is not a regular file", below)
	}
	data, err := readFile(w.budget, w.tree, below)
	if err != nil {
		return err
	}
	w.files, err = w.budget.Add(w.ctx, w.files, name, data)
	return err
}
