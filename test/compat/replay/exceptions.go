package replay

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
)

// Difference is one deliberate difference from 2.9, reviewed by a person.
type Difference struct {
	// Recording is a name, or a pattern such as kustomization/*.
	Recording string `json:"recording"`
	// Path is that of the Diff; "*" stands for any text without brackets, as in events[*].message.
	Path string `json:"path"`
	// Ours is the value that we show there, "<absent>" for none. It must be equal, not similar.
	Ours any `json:"ours,omitempty"`
	// Inserted is a regular expression, instead of Ours, where our text is the recorded one with more in one place: it must
	// match the whole of that. It is for words that are not the same in each run, such as the state of a Pod at some moment.
	Inserted string `json:"inserted,omitempty"`
	// Reason says why ours is better, or why it cannot matter.
	Reason string `json:"reason"`
}

// Pending is a recording of a feature that a later issue brings. It is asserted to differ still.
type Pending struct {
	Recording string `json:"recording"`
	// Issue names who brings it.
	Issue  string `json:"issue"`
	Reason string `json:"reason"`
}

// Exceptions are the two reviewed lists. They remember what was of use, so that stale entries show.
type Exceptions struct {
	Differences []Difference
	Pending     []Pending

	inserted []*regexp.Regexp // by index of Differences; nil where Ours says it all

	mu   sync.Mutex // guards the fields below: recordings play in parallel
	used []bool
	ran  map[string]bool
}

// ReadExceptions reads both lists. Every entry must have a reason.
func ReadExceptions(differences, pending string) (*Exceptions, error) {
	e := &Exceptions{ran: map[string]bool{}}
	if err := readList(differences, &e.Differences); err != nil {
		return nil, err
	}
	if err := readList(pending, &e.Pending); err != nil {
		return nil, err
	}
	for _, d := range e.Differences {
		if d.Recording == "" || d.Path == "" || (d.Ours == nil) == (d.Inserted == "") || d.Reason == "" {
			return nil, fmt.Errorf("%s: entry %+v: recording, path, reason and one of ours and inserted must be set", differences, d)
		}
		var inserted *regexp.Regexp
		if d.Inserted != "" {
			var err error
			if inserted, err = regexp.Compile(`^(?s:` + d.Inserted + `)$`); err != nil {
				return nil, fmt.Errorf("%s: entry of %s at %s: %w", differences, d.Recording, d.Path, err)
			}
		}
		e.inserted = append(e.inserted, inserted)
	}
	for _, p := range e.Pending {
		if p.Recording == "" || p.Issue == "" || p.Reason == "" {
			return nil, fmt.Errorf("%s: entry %+v: recording, issue and reason must be set", pending, p)
		}
	}
	e.used = make([]bool, len(e.Differences))
	return e, nil
}

func readList(file string, into any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the list: %w", err)
	}
	if err := decode(b, into); err != nil {
		return fmt.Errorf("parsing %s: %w", file, err)
	}
	return nil
}

// PendingFor returns the entry of a recording that is not built yet, or nil.
func (e *Exceptions) PendingFor(recording string) *Pending {
	for i := range e.Pending {
		if e.Pending[i].Recording == recording {
			return &e.Pending[i]
		}
	}
	return nil
}

// Unexpected returns the differences that no entry accepts.
func (e *Exceptions) Unexpected(recording string, diffs []Diff) []Diff {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ran[recording] = true
	var left []Diff
	for _, d := range diffs {
		if !e.accepts(recording, d) {
			left = append(left, d)
		}
	}
	return left
}

func (e *Exceptions) accepts(recording string, d Diff) bool {
	accepted := false
	for i, entry := range e.Differences {
		if matches(entry.Recording, recording) && matches(entry.Path, d.Path) && e.means(i, d) {
			e.used[i], accepted = true, true
		}
	}
	return accepted
}

// means reports whether an entry describes what we show.
func (e *Exceptions) means(entry int, d Diff) bool {
	expr := e.inserted[entry]
	if expr == nil {
		return render(e.Differences[entry].Ours) == render(d.Ours)
	}
	want, isText := d.Want.(string)
	ours, areTexts := d.Ours.(string)
	if !isText || !areTexts {
		return false
	}
	same := 0
	for same < len(want) && same < len(ours) && want[same] == ours[same] {
		same++
	}
	rest, ok := strings.CutSuffix(ours[same:], want[same:])
	return ok && expr.MatchString(rest)
}

// matches is path.Match in which brackets and slashes are plain text and "*" stops at none of them
// but the closing bracket of a key.
func matches(pattern, s string) bool {
	if pattern == s {
		return true
	}
	escape := func(s string, star bool) string {
		out := make([]rune, 0, len(s))
		for _, r := range s {
			switch {
			case r == '/':
				r = '\x01'
			case r == '[':
				r = '\x02'
			case r == ']':
				r = '/' // the one thing that a star does not cross
			case r == '?' || r == '\\' || r == '*' && !star:
				r = '\x03'
			}
			out = append(out, r)
		}
		return string(out)
	}
	ok, err := path.Match(escape(pattern, true), escape(s, false))
	return ok && err == nil
}

// Stale lists the entries that were of no use although every recording they could concern was
// played; all are the names of the recordings there are.
func (e *Exceptions) Stale(all []string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var stale []string
	known := map[string]bool{}
	for _, name := range all {
		known[name] = true
	}
	for i, entry := range e.Differences {
		concerned, played := 0, 0
		for _, name := range all {
			if matches(entry.Recording, name) {
				concerned++
				if e.ran[name] {
					played++
				}
			}
		}
		if !e.used[i] && concerned == played {
			stale = append(stale, fmt.Sprintf("the difference of %s at %s was not seen: remove the entry", entry.Recording, entry.Path))
		}
	}
	for _, p := range e.Pending {
		if !known[p.Recording] {
			stale = append(stale, fmt.Sprintf("there is no recording %s: remove the pending entry", p.Recording))
		}
	}
	return stale
}
