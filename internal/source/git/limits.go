package git

import (
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/toolkit/git"
)

// BindLimits adds a flag for each limit of what a Git server may send.
func BindLimits(fs *pflag.FlagSet, o *Options) {
	l, d := &o.Limits, git.DefaultLimits()
	for _, f := range []struct {
		field *int64
		name  string
		value int64
		usage string
	}{
		{&l.AdvertisementBytes, "refs-size", d.AdvertisementBytes, "The size of a Git server's list of references, in bytes."},
		{&l.PackBytes, "pack-size", d.PackBytes, "The size of what is fetched from a Git repository, in bytes."},
		{&l.Objects, "objects", d.Objects, "The number of objects fetched from a Git repository."},
		{&l.ObjectBytes, "object-size", d.ObjectBytes, "The size of one Git object, in bytes."},
		{&l.TreeEntries, "files", d.TreeEntries, "The number of files and directories of a Git commit."},
		{&l.TreeBytes, "files-size", d.TreeBytes, "The size of all files of a Git commit, in bytes."},
		{&l.TreeDepth, "depth", d.TreeDepth, "How deep the directories of a Git commit are nested."},
		{&l.PathBytes, "path-length", d.PathBytes, "The length of a path in a Git commit, in bytes."},
		{&l.Submodules, "submodules", d.Submodules, "The number of submodules of a Git commit, nested ones included."},
		{&l.SubmoduleDepth, "submodule-depth", d.SubmoduleDepth, "How deep Git submodules are nested."},
	} {
		fs.Int64Var(f.field, "git-limit-"+f.name, f.value, f.usage)
	}
}
