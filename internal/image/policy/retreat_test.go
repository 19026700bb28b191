package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
)

// A table of what a list that lacks the previous choice leads to.
func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	outage := errors.New("no answer")
	const two = "2.0.0"
	cut := decision{tag: two, held: "the list of tags lacks 2.0.0, which the registry still has", again: recheckAfter}
	gone := func(since time.Time) decision {
		return decision{
			tag: two, held: "the registry has 2.0.0 no longer, 1.0.0 follows unless it comes back",
			again: confirmAfter - now.Sub(since), absent: absence{two, since},
		}
	}
	earlier := now.Add(-4 * time.Second)
	tests := map[string]struct {
		tags     string
		previous string
		seen     absence
		exists   bool
		err      error
		want     decision
		wantErr  error
	}{
		"the first choice":                       {tags: "1.0.0 2.0.0", want: decision{tag: two}},
		"a newer one":                            {tags: "1.0.0 2.0.0", previous: "1.0.0", want: decision{tag: two}},
		"the list is cut short":                  {tags: "1.0.0", previous: two, exists: true, want: cut},
		"the registry does not tell":             {tags: "1.0.0", previous: two, err: outage, wantErr: outage},
		"it is gone":                             {tags: "1.0.0", previous: two, want: gone(now)},
		"it is gone for a while":                 {tags: "1.0.0", previous: two, seen: absence{two, earlier}, want: gone(earlier)},
		"another one is gone":                    {tags: "1.0.0", previous: two, seen: absence{"3.0.0", now.Add(-time.Hour)}, want: gone(now)},
		"it is gone for good":                    {tags: "1.0.0", previous: two, seen: absence{two, now.Add(-confirmAfter)}, want: decision{tag: "1.0.0"}},
		"it came back":                           {tags: "1.0.0", previous: two, seen: absence{two, now.Add(-time.Hour)}, exists: true, want: cut},
		"a newer one comes while it is gone":     {tags: "1.0.0 3.0.0", previous: two, seen: absence{two, now}, want: decision{tag: "3.0.0"}},
		"the list has nothing to choose from":    {tags: "latest", previous: two, exists: true, wantErr: errNoMatch},
		"nothing at all":                         {previous: two, wantErr: errNoCandidates},
		"the policy wants no such tags any more": {tags: "1.0.0", previous: "latest", want: decision{tag: "1.0.0"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			exists := func() (bool, error) { return tt.exists, tt.err }
			got, err := decide(compile(t, semverPolicy("*")), strings.Fields(tt.tags), tt.previous, tt.seen, now, exists)
			if !errors.Is(err, tt.wantErr) {
				t.Fatalf("error %v, want %v", err, tt.wantErr)
			}
			if err == nil && got != tt.want {
				t.Errorf("decided %+v, want %+v", got, tt.want)
			}
		})
	}
}

// world is a registry that is scanned and asked, and lies about its list of tags.
type world struct {
	*rand.Rand
	tags    []string // what it has
	history [][]string
	next    int
	now     time.Time
}

// change pushes a tag, or deletes one.
func (w *world) change(name func(int) string) {
	w.history = append(w.history, slices.Clone(w.tags))
	if len(w.tags) > 1 && w.IntN(5) == 0 {
		i := w.IntN(len(w.tags))
		w.tags = slices.Delete(w.tags, i, i+1)
		return
	}
	w.next++
	if tag := name(w.next); !slices.Contains(w.tags, tag) {
		w.tags = append(w.tags, tag)
	}
}

// scan is what a list of tags shows: all, or what a fault leaves of it.
func (w *world) scan() []string {
	list := slices.Clone(w.tags)
	switch w.IntN(7) {
	case 0: // cut short
		slices.Sort(list)
		list = list[:w.IntN(len(list)+1)]
	case 1: // with holes
		list = slices.DeleteFunc(list, func(string) bool { return w.IntN(2) == 0 })
	case 2: // empty
		list = nil
	case 3: // stale
		if len(w.history) > 0 {
			list = slices.Clone(w.history[w.IntN(len(w.history))])
		}
	case 4: // repeated
		list = append(list, list...)
	}
	w.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// TestNeverBackwards leads ten thousand policies through lists that are cut short, full of holes, empty, stale, reordered and
// repeated, and through outages. None may go back from a tag that the registry has; and when the registry comes to rest, all
// have what it has (imagepolicy 9, 21, 26).
func TestNeverBackwards(t *testing.T) {
	kinds := []struct {
		name string
		spec imagev1.ImagePolicySpec
		tag  func(w *rand.Rand) func(i int) string
	}{
		{"semver", semverPolicy(">=0.0.0-0"), func(w *rand.Rand) func(int) string {
			return func(i int) string {
				v := fmt.Sprintf("%d.%d.%d", w.IntN(3), w.IntN(4), w.IntN(4))
				return []string{v, "v" + v, v + "-rc." + fmt.Sprint(i%12), "latest"}[w.IntN(4)]
			}
		}},
		{"alphabetical", alphabetical("asc"), func(w *rand.Rand) func(int) string {
			return func(int) string { return fmt.Sprintf("%c%c", 'A'+rune(w.IntN(60)), 'a'+rune(w.IntN(26))) }
		}},
		{"alphabetical, descending", alphabetical("desc"), func(w *rand.Rand) func(int) string {
			return func(int) string { return fmt.Sprintf("%c%c", 'a'+rune(w.IntN(26)), 'a'+rune(w.IntN(26))) }
		}},
		{"numerical", filtered(numerical("asc"), "^[a-z]+-(?P<n>[0-9.]+)$", "$n"), func(w *rand.Rand) func(int) string {
			return func(int) string {
				number := []string{fmt.Sprint(w.IntN(40)), fmt.Sprintf("%d.0", w.IntN(40)), fmt.Sprintf("90071992547409%d", 90+w.IntN(9))}
				return []string{"main-", "dev-"}[w.IntN(2)] + number[w.IntN(len(number))]
			}
		}},
		{"numerical, descending", numerical("desc"), func(w *rand.Rand) func(int) string {
			return func(int) string { return fmt.Sprint(w.IntN(200)) }
		}},
	}
	const runs = 10_000
	moves, held, retreats := 0, 0, 0
	for run := range runs {
		kind := kinds[run%len(kinds)]
		w := &world{Rand: rand.New(rand.NewPCG(uint64(run), 9)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		name := kind.tag(w.Rand)
		c := compile(t, kind.spec)
		chosen, seen := "", absence{}
		step := func(list []string, outage bool) {
			before := chosen
			d, err := decide(c, list, chosen, seen, w.now, func() (bool, error) {
				if outage {
					return false, errors.New("no answer")
				}
				return slices.Contains(w.tags, chosen), nil
			})
			if err != nil {
				return // the choice stays
			}
			chosen, seen = d.tag, d.absent
			if d.held != "" {
				held++
			}
			if before == "" || before == chosen {
				return
			}
			moves++
			// Back is where the policy, given both, would not go.
			if better, err := c.choose([]string{before, chosen}); err == nil && better == before {
				retreats++
				if slices.Contains(w.tags, before) || outage {
					t.Fatalf("run %d, %s: went from %s to %s, though the registry has %q and the list was %q", run, kind.name, before, chosen, w.tags, list)
				}
			}
		}
		for range 20 {
			w.change(name)
			w.now = w.now.Add(time.Duration(w.IntN(15)) * time.Second)
			step(w.scan(), w.IntN(4) == 0)
		}
		want, err := c.choose(w.tags)
		for range 2 {
			w.now = w.now.Add(confirmAfter)
			step(w.tags, false)
		}
		if err == nil && chosen != want {
			t.Fatalf("run %d, %s: at rest it has chosen %s of %q, want %s", run, kind.name, chosen, w.tags, want)
		}
	}
	// What never happens proves nothing.
	if moves < runs || held < runs || retreats < runs/100 {
		t.Errorf("too little has happened: %d moves, %d held, %d retreats", moves, held, retreats)
	}
	t.Logf("%d moves, %d held, %d retreats from tags that were deleted", moves, held, retreats)
}
