package ssa

import "strings"

// Action is what happened to an object.
type Action string

// The words of events (kustomization 76, 83).
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	Deleted    Action = "deleted"
	Skipped    Action = "skipped"
)

// Change is one line of a change set.
type Change struct {
	ID     ID
	Action Action
}

// String is "Kind/namespace/name action".
func (c Change) String() string { return c.ID.Subject() + " " + string(c.Action) }

// ChangeSet lists what happened, in the order in which it happened.
type ChangeSet []Change

// String is one line per change.
func (cs ChangeSet) String() string {
	lines := make([]string, len(cs))
	for i, c := range cs {
		lines[i] = c.String()
	}
	return strings.Join(lines, "\n")
}

// Only are the changes of the given actions.
func (cs ChangeSet) Only(actions ...Action) ChangeSet {
	var out ChangeSet
	for _, c := range cs {
		for _, a := range actions {
			if c.Action == a {
				out = append(out, c)
				break
			}
		}
	}
	return out
}
