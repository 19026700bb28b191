package policy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
)

var (
	// errNoCandidates is the failure of a policy that has no tag to choose from (imagepolicy 26).
	errNoCandidates = errors.New("version list argument cannot be empty")
	// errNoMatch is the failure of a policy none of whose candidates will do (imagepolicy 9).
	errNoMatch = errors.New("unable to determine latest version from provided list")
	// errTooSlow ends the search of a policy whose pattern or range would keep the process busy.
	errTooSlow = fmt.Errorf("invalid policy: choosing a tag takes longer than %s: simplify spec.filterTags or spec.policy", maxChoosing)
)

const (
	// maxChoosing bounds the time of one choice. Nine thousand tags take some milliseconds.
	maxChoosing = 10 * time.Second
	// maxKey is the length of the longest text that tags are compared by, in bytes.
	maxKey = 1024
)

// chooser is the policy and the filter of an ImagePolicy, compiled. What it chooses depends on the set of tags alone, never
// on their order (imagepolicy 21).
type chooser struct {
	filter  *regexp.Regexp // nil: all tags
	extract string
	best    best
}

// best returns the winner of keys, none of which is repeated. It gives up when ctx ends.
type best func(ctx context.Context, keys []string) (string, error)

// newChooser compiles the spec. Its errors are about the spec: nothing but another one can help (imagepolicy 7).
func newChooser(spec *imagev1.ImagePolicySpec) (*chooser, error) {
	best, err := newBest(spec.Policy)
	if err != nil {
		return nil, fmt.Errorf("invalid policy: %w", err)
	}
	c := &chooser{best: best}
	if f := spec.FilterTags; f != nil {
		if c.filter, err = regexp.Compile(f.Pattern); err != nil {
			return nil, fmt.Errorf("failed to filter tags: invalid regular expression pattern '%s': %w", f.Pattern, err)
		}
		if c.extract = f.Extract; len(c.extract) > maxKey {
			return nil, fmt.Errorf("failed to filter tags: spec.filterTags.extract has more than %d bytes", maxKey)
		}
	}
	return c, nil
}

// newBest returns the comparison of the policy; the first one counts where the spec has several (imagepolicy 14).
func newBest(policy imagev1.ImagePolicyChoice) (best, error) {
	switch {
	case policy.SemVer != nil:
		return bestVersion(policy.SemVer.Range)
	case policy.Alphabetical != nil:
		descending, err := isDescending("alphabetical", policy.Alphabetical.Order)
		return bestText(descending), err
	case policy.Numerical != nil:
		descending, err := isDescending("numerical", policy.Numerical.Order)
		return bestNumber(descending), err
	}
	return nil, errors.New("spec.policy has none of semver, alphabetical and numerical")
}

// isDescending reads an order; letters count in either case (imagepolicy 14).
func isDescending(policy, order string) (bool, error) {
	switch strings.ToLower(order) {
	case "", imagev1.OrderAscending:
		return false, nil
	case imagev1.OrderDescending:
		return true, nil
	}
	return false, fmt.Errorf("spec.policy.%s.order is '%s': want %s or %s", policy, order, imagev1.OrderAscending, imagev1.OrderDescending)
}

// choose returns the tag that the policy wants of those there are, more included.
func (c *chooser) choose(ctx context.Context, tags []string, more ...string) (string, error) {
	if c.filter == nil {
		if len(more) > 0 {
			tags = slices.Concat(tags, more)
		}
		return c.winner(ctx, tags)
	}
	// Of tags with equal keys the one counts that comes last in the descending order of the database (imagepolicy 10).
	byKey := map[string]string{}
	for _, list := range [][]string{tags, more} {
		for _, tag := range list {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			key, ok, err := c.key(tag)
			if err != nil {
				return "", err
			}
			if other, taken := byKey[key]; ok && (!taken || tag < other) {
				byKey[key] = tag
			}
		}
	}
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	key, err := c.winner(ctx, keys)
	return byKey[key], err
}

// winner returns the best key.
func (c *chooser) winner(ctx context.Context, keys []string) (string, error) {
	if len(keys) == 0 {
		return "", errNoCandidates
	}
	return c.best(ctx, keys)
}

// key returns what a tag is compared by, and whether the filter lets it pass (imagepolicy 10, 25).
func (c *chooser) key(tag string) (key string, ok bool, err error) {
	match := c.filter.FindStringSubmatchIndex(tag)
	if match == nil {
		return "", false, nil
	}
	if c.extract == "" {
		return tag, true, nil
	}
	expanded := c.filter.ExpandString(nil, c.extract, tag, match)
	if len(expanded) > maxKey {
		return "", false, fmt.Errorf("failed to filter tags: what spec.filterTags.extract makes of tag %s has more than %d bytes", tag, maxKey)
	}
	return string(expanded), true, nil
}

// misses reports whether the list lacks a tag that the policy would choose if the list had it: whoever chose it before would
// go backwards, or at least elsewhere, for no other reason than that the list is shorter.
func (c *chooser) misses(ctx context.Context, tags []string, tag string) bool {
	if slices.Contains(tags, tag) {
		return false
	}
	chosen, err := c.choose(ctx, tags, tag)
	return err == nil && chosen == tag
}

// bestVersion wants the highest version of a range. Of versions that differ in nothing that counts, the text that comes last
// in the order of bytes wins: it comes first in the database (imagepolicy 11, 21, 24).
func bestVersion(within string) (best, error) {
	constraint, err := semver.NewConstraint(within)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, keys []string) (string, error) {
		var best *semver.Version
		chosen := ""
		for _, key := range keys {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			v, err := semver.StrictNewVersion(strings.TrimPrefix(key, "v"))
			if err != nil || !constraint.Check(v) {
				continue
			}
			if best == nil || v.GreaterThan(best) || v.Equal(best) && key > chosen {
				best, chosen = v, key
			}
		}
		if best == nil {
			return "", errNoMatch
		}
		return chosen, nil
	}, nil
}

// bestText wants the last text in the order of bytes, or the first (imagepolicy 12, 22).
func bestText(descending bool) best {
	return func(_ context.Context, keys []string) (string, error) {
		if descending {
			return slices.Min(keys), nil
		}
		return slices.Max(keys), nil
	}
}

// bestNumber wants the largest number, or the smallest. Every key has to be one. Of equal numbers the text that comes first
// in the order of bytes wins: it comes last in the database (imagepolicy 13, 21, 23).
func bestNumber(descending bool) best {
	return func(_ context.Context, keys []string) (string, error) {
		var best number
		for i, key := range keys {
			n, err := parseNumber(key)
			if err != nil {
				return "", err
			}
			order := n.compare(best)
			if descending {
				order = -order
			}
			// What is no number loses against any, whatever the order.
			if n.invalid() != best.invalid() {
				order = 1
				if n.invalid() {
					order = -1
				}
			}
			if i == 0 || order > 0 || order == 0 && key < best.text {
				best = n
			}
		}
		return best.text, nil
	}
}

// exactDigits is how long a number may be for a float to tell it from its neighbours. The precision of those compared
// exactly has room for the longest tags.
const (
	exactDigits    = 15
	exactPrecision = 2048
)

// number is a key of a numerical policy.
type number struct {
	text  string
	value float64
}

func parseNumber(text string) (number, error) {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return number{}, fmt.Errorf("failed to parse invalid numeric value '%s'", text)
	}
	return number{text, value}, nil
}

func (n number) invalid() bool { return math.IsNaN(n.value) }

// compare tells long numbers apart that are one to a float, such as times with milliseconds: to take them for equal would
// choose the older of two.
func (n number) compare(other number) int {
	switch {
	case n.value < other.value:
		return -1
	case n.value > other.value:
		return 1
	case len(n.text) <= exactDigits && len(other.text) <= exactDigits:
		return 0
	}
	a, _, errA := big.ParseFloat(n.text, 0, exactPrecision, big.ToNearestEven)
	b, _, errB := big.ParseFloat(other.text, 0, exactPrecision, big.ToNearestEven)
	if errA != nil || errB != nil {
		return 0
	}
	return a.Cmp(b)
}
