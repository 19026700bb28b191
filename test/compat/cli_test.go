package compat

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/internal/cli"
)

// contractCommand is a command of 2.9 as testdata/cli.json lists it.
type contractCommand struct {
	Path     string         `json:"path"`
	Runnable bool           `json:"runnable"`
	Hidden   bool           `json:"hidden"`
	Aliases  []string       `json:"aliases"`
	Args     []any          `json:"args"`
	Flags    []contractFlag `json:"flags"`
}

// contractFlag is a flag of a command of 2.9.
type contractFlag struct {
	Name         string `json:"name"`
	Type         string `json:"type"`
	Default      string `json:"default"`
	Shorthand    string `json:"shorthand"`
	Persistent   bool   `json:"persistent"`
	Hidden       bool   `json:"hidden"`
	Deprecated   bool   `json:"deprecated"`
	NoOptDefault string `json:"noOptDefault"`
}

// unbuiltCommands are the commands of 2.9 that come with later components. A name that ends in "*" stands for the command
// and all below it.
func unbuiltCommands() []string {
	return []string{
		"flux bootstrap*",
		"flux create tenant",
		"flux envsubst",
		"flux migrate",
		"flux plugin*",
	}
}

// deviations are differences on purpose, by command, flag and property.
func deviations() map[string]string {
	return map[string]string{
		"flux install --registry default": "2.9's registry holds one image per controller; ours is published elsewhere",
	}
}

func readContract(t *testing.T) []contractCommand {
	t.Helper()
	data, err := os.ReadFile("testdata/cli.json")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Commands []contractCommand `json:"commands"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	if err := decoder.Decode(&contract); err != nil {
		t.Fatal(err)
	}
	if len(contract.Commands) < 150 {
		t.Fatalf("only %d commands in testdata/cli.json: the contract is cut short", len(contract.Commands))
	}
	return contract.Commands
}

func find(root *cobra.Command, path string) *cobra.Command {
	words := strings.Fields(path)
	cmd := root
	for _, word := range words[1:] {
		i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
		if i < 0 {
			return nil
		}
		cmd = cmd.Commands()[i]
	}
	return cmd
}

func excluded(path string) (by string, ok bool) {
	for _, e := range unbuiltCommands() {
		prefix, all := strings.CutSuffix(e, "*")
		if path == prefix || all && strings.HasPrefix(path, prefix+" ") {
			return e, true
		}
	}
	return "", false
}

func newRoot() *cobra.Command {
	c := cli.System("flux")
	c.Kinds, c.Components = cli.Kinds(), cli.Components()
	// Defaults must not depend on the machine of the test.
	c.Getenv = func(string) string { return "" }
	root := cli.NewRoot(c)
	root.InitDefaultHelpCmd()
	return root
}

// TestCommands proves that every command of 2.9 that is built carries the flags, aliases and kind of arguments 2.9 has.
func TestCommands(t *testing.T) {
	root := newRoot()
	used := map[string]bool{}
	deviating := deviations()
	for _, want := range readContract(t) {
		cmd := find(root, want.Path)
		if by, ok := excluded(want.Path); ok {
			used[by] = true
			if cmd != nil {
				t.Errorf("%s is built: take it off the list of commands that are not", want.Path)
			}
			continue
		}
		if cmd == nil {
			t.Errorf("%s is missing", want.Path)
			continue
		}
		t.Run(want.Path, func(t *testing.T) { compareCommand(t, cmd, want, deviating) })
	}
	for _, e := range unbuiltCommands() {
		if !used[e] {
			t.Errorf("%s is on the list of commands that are not built, but 2.9 has no such command", e)
		}
	}
	for d := range deviating {
		t.Errorf("deviation %q does not exist (any more)", d)
	}
}

func compareCommand(t *testing.T, cmd *cobra.Command, want contractCommand, deviating map[string]string) {
	t.Helper()
	if cmd.Runnable() != want.Runnable {
		t.Errorf("runnable = %t, want %t", cmd.Runnable(), want.Runnable)
	}
	if cmd.Hidden != want.Hidden {
		t.Errorf("hidden = %t, want %t", cmd.Hidden, want.Hidden)
	}
	for _, alias := range want.Aliases {
		if !slices.Contains(cmd.Aliases, alias) {
			t.Errorf("alias %s is missing", alias)
		}
	}
	if len(want.Args) > 0 && cmd.Args != nil && cmd.Args(cmd, []string{"a"}) != nil {
		t.Errorf("an argument is refused")
	}
	if len(want.Args) == 0 && want.Runnable && cmd.Args != nil && cmd.Args(cmd, []string{"a"}) == nil {
		t.Errorf("an argument is accepted, 2.9 takes none")
	}
	for _, flag := range want.Flags {
		set := cmd.LocalNonPersistentFlags()
		if flag.Persistent {
			set = cmd.PersistentFlags()
		}
		have := set.Lookup(flag.Name)
		if have == nil {
			t.Errorf("flag --%s is missing", flag.Name)
			continue
		}
		for property, pair := range compareFlag(have, flag) {
			key := fmt.Sprintf("%s --%s %s", want.Path, flag.Name, property)
			if _, ok := deviating[key]; ok {
				delete(deviating, key)
				continue
			}
			t.Errorf("--%s: %s (-want +got): %s", flag.Name, property, cmp.Diff(pair[1], pair[0]))
		}
	}
}

// compareFlag returns what differs: the property, with what we have and what 2.9 has.
func compareFlag(have *pflag.Flag, want contractFlag) map[string][2]any {
	out := map[string][2]any{}
	check := func(property string, have, want any) {
		if have != want {
			out[property] = [2]any{have, want}
		}
	}
	check("type", have.Value.Type(), want.Type)
	check("default", have.DefValue, want.Default)
	check("shorthand", have.Shorthand, want.Shorthand)
	check("hidden", have.Hidden, want.Hidden)
	check("deprecated", have.Deprecated != "", want.Deprecated)
	check("noOptDefault", have.NoOptDefVal, want.NoOptDefault)
	return out
}
