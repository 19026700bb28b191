package git

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/toolkit/git"
)

// Every limit has a flag, with the default that the client has without.
func TestBindLimits(t *testing.T) {
	var o Options
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	BindLimits(fs, &o)
	if err := fs.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(git.DefaultLimits(), o.Limits); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	var args []string
	for i, name := range []string{"refs-size", "pack-size", "objects", "object-size", "files", "files-size", "depth", "path-length", "submodules", "submodule-depth"} {
		args = append(args, fmt.Sprintf("--git-limit-%s=%d", name, i+1))
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	want := git.Limits{
		AdvertisementBytes: 1, PackBytes: 2, Objects: 3, ObjectBytes: 4, TreeEntries: 5, TreeBytes: 6, TreeDepth: 7, PathBytes: 8,
		Submodules: 9, SubmoduleDepth: 10,
	}
	if diff := cmp.Diff(want, o.Limits); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
