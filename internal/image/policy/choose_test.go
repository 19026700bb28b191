package policy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
)

func semverPolicy(within string) imagev1.ImagePolicySpec {
	return imagev1.ImagePolicySpec{Policy: imagev1.ImagePolicyChoice{SemVer: &imagev1.SemVerPolicy{Range: within}}}
}

func alphabetical(order string) imagev1.ImagePolicySpec {
	return imagev1.ImagePolicySpec{Policy: imagev1.ImagePolicyChoice{Alphabetical: &imagev1.AlphabeticalPolicy{Order: order}}}
}

func numerical(order string) imagev1.ImagePolicySpec {
	return imagev1.ImagePolicySpec{Policy: imagev1.ImagePolicyChoice{Numerical: &imagev1.NumericalPolicy{Order: order}}}
}

func filtered(spec imagev1.ImagePolicySpec, pattern, extract string) imagev1.ImagePolicySpec {
	spec.FilterTags = &imagev1.TagFilter{Pattern: pattern, Extract: extract}
	return spec
}

func compile(t testing.TB, spec imagev1.ImagePolicySpec) *chooser {
	t.Helper()
	c, err := newChooser(&spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChoose gives each list in a dozen orders: the choice is the same.
func TestChoose(t *testing.T) {
	const none, empty = "unable to determine latest version from provided list", "version list argument cannot be empty"
	tests := map[string]struct {
		spec imagev1.ImagePolicySpec
		tags string
		want string
		err  string
	}{
		"imagepolicy 11: the greatest of the range":                {semverPolicy("1.x"), "1.0.0 1.2.0 1.10.0 2.0.0", "1.10.0", ""},
		"imagepolicy 11: three parts":                              {semverPolicy("1.x"), "1.0.0 1.12 1", "1.0.0", ""},
		"imagepolicy 11, 24: a v counts for nothing":               {semverPolicy(">=v1.0.0"), "1.0.0 v1.10.0 1.2.0", "v1.10.0", ""},
		"imagepolicy 11: no pre-releases":                          {semverPolicy("1.x"), "1.0.0 1.11.0-rc.1", "1.0.0", ""},
		"imagepolicy 11: pre-releases that the range names":        {semverPolicy(">=1.0.0-0"), "1.0.0 1.11.0-rc.1", "1.11.0-rc.1", ""},
		"imagepolicy 11: the order of pre-releases":                {semverPolicy(">=1.0.0-0"), "1.0.0-rc.2 1.0.0-rc.10", "1.0.0-rc.10", ""},
		"imagepolicy 21: equal versions":                           {semverPolicy("*"), "1.0.0 v1.0.0", "v1.0.0", ""},
		"imagepolicy 11: leading zeros":                            {semverPolicy("*"), "01.0.0 0.9.0", "0.9.0", ""},
		"imagepolicy 9: nothing in the range":                      {semverPolicy(">=3"), "1.0.0 2.0.0", "", none},
		"imagepolicy 9: no version at all":                         {semverPolicy("*"), "latest main", "", none},
		"imagepolicy 12: the last one":                             {alphabetical("asc"), "a c b Z", "c", ""},
		"imagepolicy 12: by default":                               {alphabetical(""), "a c b Z", "c", ""},
		"imagepolicy 12, 22: the first, capital letters are first": {alphabetical("desc"), "a c b Z", "Z", ""},
		"imagepolicy 14: an order in capitals":                     {alphabetical("DESC"), "a c b", "a", ""},
		"imagepolicy 13: the largest":                              {numerical("asc"), "9 10 8", "10", ""},
		"imagepolicy 13: the smallest":                             {numerical("desc"), "9 10 8", "8", ""},
		"imagepolicy 13, 9: not a number":                          {numerical("asc"), "9 ten", "", "failed to parse invalid numeric value 'ten'"},
		"imagepolicy 13, 21: equal numbers":                        {numerical("asc"), "1 1.0 01", "01", ""},
		"imagepolicy 21: equal numbers the other way":              {numerical("desc"), "1 1.0 01", "01", ""},
		"imagepolicy 23: floats":                                   {numerical("asc"), "1e3 999 0x1p4", "1e3", ""},
		"imagepolicy 23: infinity":                                 {numerical("asc"), "Inf 999", "Inf", ""},
		"imagepolicy 23: the other infinity":                       {numerical("desc"), "-Inf 999", "-Inf", ""},
		"imagepolicy 23: what is no number never wins":             {numerical("asc"), "NaN 1", "1", ""},
		"imagepolicy 23: in no order":                              {numerical("desc"), "NaN 1", "1", ""},
		"imagepolicy 23: unless there is nothing else":             {numerical("asc"), "NaN nan", "NaN", ""},
		"long numbers are no floats":                               {numerical("asc"), "20260101123456788 20260101123456789 20260101123456787", "20260101123456789", ""},
		"long numbers the other way":                               {numerical("desc"), "20260101123456788 20260101123456789 20260101123456787", "20260101123456787", ""},
		"a long number and a short form of its neighbour":          {numerical("asc"), "10000000000000001 1e16 10000000000000000", "10000000000000001", ""},
		"imagepolicy 10: the pattern matches anywhere":             {filtered(alphabetical("asc"), "in-[0-9]+", ""), "main-1 main-2 dev-3", "main-2", ""},
		"imagepolicy 10: without extract the tag is compared":      {filtered(semverPolicy("*"), "^1", ""), "1.0.0 1.2.0 2.0.0", "1.2.0", ""},
		"imagepolicy 10: extract by name, the tag is told":         {filtered(numerical("asc"), "^main-(?P<n>[0-9]+)$", "$n"), "main-9 main-10 dev-11 latest", "main-10", ""},
		"imagepolicy 10: extract by number":                        {filtered(numerical("asc"), "^main-([0-9]+)-([0-9]+)$", "$2"), "main-9-1 main-1-2", "main-1-2", ""},
		"imagepolicy 10: equal extracts":                           {filtered(numerical("asc"), "^(main|dev)-(?P<n>[0-9]+)$", "$n"), "main-1 dev-1", "dev-1", ""},
		"imagepolicy 25: a group that does not exist":              {filtered(alphabetical("asc"), "^main-", "$nothing"), "main-1 main-2", "main-1", ""},
		"imagepolicy 25: a pattern alone matches the whole tag":    {filtered(alphabetical("asc"), "", ""), "a b", "b", ""},
		"imagepolicy 26: the filter leaves nothing":                {filtered(semverPolicy("*"), "^never$", ""), "1.0.0", "", empty},
		"an extract that grows too large": {
			filtered(alphabetical("asc"), ".*", strings.Repeat("$0", 512)), "a bcdefg", "",
			"failed to filter tags: what spec.filterTags.extract makes of tag bcdefg has more than 1024 bytes",
		},
		"imagepolicy 14: the first kind counts": {imagev1.ImagePolicySpec{Policy: imagev1.ImagePolicyChoice{
			SemVer: &imagev1.SemVerPolicy{Range: "1.x"}, Alphabetical: &imagev1.AlphabeticalPolicy{},
		}}, "1.0.0 2.0.0", "1.0.0", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := compile(t, tt.spec)
			tags := strings.Fields(tt.tags)
			for range 12 {
				rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
				before := slices.Clone(tags)
				got, err := c.choose(t.Context(), tags)
				switch {
				case tt.err != "" && (err == nil || err.Error() != tt.err):
					t.Fatalf("of %q: error %v, want %s", tags, err, tt.err)
				case tt.err == "" && (err != nil || got != tt.want):
					t.Fatalf("of %q: chose %q (error %v), want %q", tags, got, err, tt.want)
				case !slices.Equal(tags, before):
					t.Fatalf("imagepolicy 22: the list was changed from %q to %q", before, tags)
				}
			}
		})
	}
}

// imagepolicy 7
func TestInvalidPolicy(t *testing.T) {
	for want, spec := range map[string]imagev1.ImagePolicySpec{
		`invalid policy: improper constraint: "not a range"`:                                                                    semverPolicy("not a range"),
		"invalid policy: spec.policy has none of semver, alphabetical and numerical":                                            {},
		"invalid policy: spec.policy.alphabetical.order is 'up': want asc or desc":                                              alphabetical("up"),
		"invalid policy: spec.policy.numerical.order is 'up': want asc or desc":                                                 numerical("up"),
		"failed to filter tags: invalid regular expression pattern '([': error parsing regexp: missing closing ]: `[`":          filtered(semverPolicy("1.x"), "([", ""),
		"failed to filter tags: spec.filterTags.extract has more than 1024 bytes":                                               filtered(semverPolicy("1.x"), ".", strings.Repeat("x", 1025)),
		"failed to filter tags: invalid regular expression pattern '(?<a': error parsing regexp: invalid named capture: `(?<a`": filtered(semverPolicy("1.x"), "(?<a", ""),
	} {
		if _, err := newChooser(&spec); err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}

// A pattern or a range that would keep the process busy for hours is given up.
func TestSlowPolicy(t *testing.T) {
	tags := make([]string, 200)
	for i := range tags {
		tags[i] = fmt.Sprintf("1.%d.0-%s", i, strings.Repeat("a", 100))
	}
	over, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, errTooSlow)
	defer cancel()
	<-over.Done()
	for name, spec := range map[string]imagev1.ImagePolicySpec{
		"pattern": filtered(alphabetical("asc"), "((a|b|c|d)*x){40}", ""), "range": semverPolicy(strings.Repeat(">=1.0.0 || ", 20) + ">=1.0.0"),
	} {
		if _, err := compile(t, spec).choose(over, tags); !errors.Is(err, errTooSlow) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	exists := func() (bool, error) {
		t.Error("a search that was given up led to a question")
		return false, nil
	}
	if _, err := decide(over, compile(t, semverPolicy("*")), tags, "9.0.0", absence{}, time.Time{}, exists); !errors.Is(err, errTooSlow) {
		t.Errorf("error %v", err)
	}
}

func TestMisses(t *testing.T) {
	tests := map[string]struct {
		spec     imagev1.ImagePolicySpec
		tags     string
		previous string
		want     bool
	}{
		"it is there":                      {semverPolicy("*"), "1.0.0 2.0.0", "2.0.0", false},
		"the list lacks the best":          {semverPolicy("*"), "1.0.0", "2.0.0", true},
		"there is a better one":            {semverPolicy("*"), "3.0.0", "2.0.0", false},
		"it is not in the range any more":  {semverPolicy("1.x"), "1.0.0", "2.0.0", false},
		"it is not let through any more":   {filtered(semverPolicy("*"), "^1", ""), "1.0.0", "2.0.0", false},
		"the order was turned":             {alphabetical("desc"), "a b", "c", false},
		"the list has nothing that counts": {semverPolicy("*"), "latest", "2.0.0", true},
		"another way to write the version": {semverPolicy("*"), "1.0.0", "v1.0.0", true},
		"it is no number":                  {numerical("asc"), "1 2", "latest", false},
		"a number":                         {filtered(numerical("asc"), "^main-([0-9]+)$", "$1"), "main-1 main-2", "main-3", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := compile(t, tt.spec).misses(t.Context(), strings.Fields(tt.tags), tt.previous); got != tt.want {
				t.Errorf("misses = %t, want %t", got, tt.want)
			}
		})
	}
}

func FuzzChoose(f *testing.F) {
	f.Add("1.0.0\nv1.0.0\n2.0.0-rc.1", "^v?(.*)$", "$1", ">=1.0.0-0", uint8(0))
	f.Add("1\n1.0\nNaN\nInf\n0x1p4\n1e999", "", "", "", uint8(3))
	f.Fuzz(func(t *testing.T, text, pattern, extract, within string, kind uint8) {
		specs := []imagev1.ImagePolicySpec{semverPolicy(within), alphabetical("asc"), alphabetical("desc"), numerical("asc"), numerical("desc")}
		spec := specs[int(kind)%len(specs)]
		if pattern != "" {
			spec = filtered(spec, pattern, extract)
		}
		c, err := newChooser(&spec)
		if err != nil {
			return
		}
		tags := strings.Split(text, "\n")
		got, err := c.choose(t.Context(), tags)
		slices.Reverse(tags)
		again, againErr := c.choose(t.Context(), tags)
		if got != again && err == nil || (err == nil) != (againErr == nil) {
			t.Errorf("chose %q (error %v), and in the other order %q (error %v)", got, err, again, againErr)
		}
		if err == nil && !slices.Contains(tags, got) {
			t.Errorf("chose %q, which is not in the list", got)
		}
	})
}

func BenchmarkChoose9000(b *testing.B) {
	versions, builds := make([]string, 9000), make([]string, 9000)
	for i := range versions {
		versions[i] = fmt.Sprintf("v1.%d.%d", i/100, i%100)
		builds[i] = fmt.Sprintf("main-%07x-%d", i*7919, 1700000000+i)
	}
	for name, bench := range map[string]struct {
		spec imagev1.ImagePolicySpec
		tags []string
	}{
		"semver":       {semverPolicy(">=1.0.0"), versions},
		"alphabetical": {alphabetical("asc"), versions},
		"numerical":    {filtered(numerical("asc"), `^main-[a-f0-9]+-(?P<ts>[0-9]+)$`, "$ts"), builds},
	} {
		b.Run(name, func(b *testing.B) {
			c := compile(b, bench.spec)
			for b.Loop() {
				if _, err := c.choose(b.Context(), bench.tags); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
