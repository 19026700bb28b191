package archive

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Layer is a tree at a place within a larger one.
type Layer struct {
	// At is a clean path with slashes; "" or "." is the root.
	At string
	// Source is the tree. Its files are opened after its Walk has returned.
	Source Source
}

// Merge returns the tree that results when layers are copied one over the
// other: directories are joined, and where anything else has the same path the
// later layer wins, with all that is below it. The layers are walked once, here;
// their files are opened when the merged tree is read.
func Merge(ctx context.Context, layers ...Layer) (Source, error) {
	var all []layered
	for i, l := range layers {
		at := path.Clean(l.At)
		if at == ".." || strings.HasPrefix(at, "../") || path.IsAbs(at) {
			return nil, fmt.Errorf("path '%s' leaves the tree", l.At)
		}
		for dir := at; dir != "."; dir = path.Dir(dir) {
			all = append(all, layered{Entry{Path: dir, Mode: fs.ModeDir | dirMode}, i})
		}
		err := l.Source.Walk(ctx, func(e Entry) error {
			e.Path = path.Join(at, e.Path)
			all = append(all, layered{e, i})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b layered) int { return comparePaths(a.Path, b.Path) })
	return flatten(all), nil
}

// layered is an entry and the number of its layer.
type layered struct {
	Entry
	layer int
}

// flatten keeps of sorted entries what the later layers leave over.
func flatten(all []layered) Source {
	// replaced says from which layer on a path's content counts, because that
	// layer has something else than a directory there.
	type replaced struct {
		below string
		from  int
	}
	var above []replaced
	kept := make(entries, 0, len(all))
	for len(all) > 0 {
		name, n := all[0].Path, 1
		for n < len(all) && all[n].Path == name {
			n++
		}
		same := all[:n]
		all = all[n:]
		for len(above) > 0 && !strings.HasPrefix(name, above[len(above)-1].below) {
			above = above[:len(above)-1]
		}
		from := 0
		if len(above) > 0 {
			from = above[len(above)-1].from
		}
		last := same[n-1]
		if last.layer < from {
			continue
		}
		kept = append(kept, last.Entry)
		for _, e := range same {
			if !e.Mode.IsDir() {
				from = max(from, e.layer)
			}
		}
		above = append(above, replaced{name + "/", from})
	}
	return kept
}

// comparePaths orders as Walk does: name by name.
func comparePaths(a, b string) int {
	for {
		first, restA, moreA := strings.Cut(a, "/")
		second, restB, moreB := strings.Cut(b, "/")
		if c := strings.Compare(first, second); c != 0 || !moreA || !moreB {
			return cmp.Or(c, cmp.Compare(len(restA), len(restB)))
		}
		a, b = restA, restB
	}
}

// entries is a Source in memory.
type entries []Entry

func (l entries) Walk(ctx context.Context, fn func(Entry) error) error {
	for _, e := range l {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}
