package render

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// apply evaluates an operator (kustomization 56). Characters are Unicode code points.
func (e *expander) apply(op operator, value string, args []string) (string, error) {
	for len(args) < 2 {
		args = append(args, "")
	}
	switch op {
	case opLength:
		return strconv.Itoa(utf8.RuneCountInString(value)), nil
	case opSubstring:
		return substring(value, args[0], args[1]), nil
	case "^":
		return first(value, unicode.ToUpper), nil
	case "^^":
		return strings.ToUpper(value), nil
	case ",":
		return first(value, unicode.ToLower), nil
	case ",,":
		return strings.ToLower(value), nil
	case "#", "##", "%", "%%":
		return e.trim(value, args[0], op)
	case "/", "//", "/#", "/%":
		return e.replace(value, args[0], args[1], op)
	}
	return value, nil
}

func first(s string, change func(rune) rune) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 || r == utf8.RuneError {
		return s
	}
	return string(change(r)) + s[n:]
}

// substring cuts out length characters from an offset; a negative offset counts from the end. What is not a number
// leaves the value as it is.
func substring(s, offset, length string) string {
	runes := []rune(s)
	from, err := strconv.Atoi(strings.TrimSpace(offset))
	if err != nil {
		return s
	}
	if from < 0 {
		from = max(0, len(runes)+from)
	}
	from = min(from, len(runes))
	to := len(runes)
	if length = strings.TrimSpace(length); length != "" {
		n, err := strconv.Atoi(length)
		if err != nil {
			return s
		}
		if n < 0 {
			to = max(from, len(runes)+n)
		} else if n < to-from {
			to = from + n
		}
	}
	return string(runes[from:to])
}

// replace works on plain text, not on patterns.
func (e *expander) replace(s, old, with string, op operator) (string, error) {
	if old == "" {
		return s, nil
	}
	n := 1
	switch op {
	case "//":
		n = strings.Count(s, old)
	case "/#":
		if rest, ok := strings.CutPrefix(s, old); ok {
			return with + rest, nil
		}
		return s, nil
	case "/%":
		if rest, ok := strings.CutSuffix(s, old); ok {
			return rest + with, nil
		}
		return s, nil
	}
	if len(s)+n*max(0, len(with)-len(old)) > e.max {
		return "", e.tooLong()
	}
	return strings.Replace(s, old, with, n), nil
}

// maxMatchSteps bounds the work of one pattern: characters of the value times elements of the pattern.
const maxMatchSteps = 50_000_000

// trim removes what a pattern matches at the start (#) or end (%) of a value; doubled, the longest such match.
func (e *expander) trim(s, pattern string, op operator) (string, error) {
	glob, value := parseGlob(pattern), []rune(s)
	if len(glob)*len(value) > maxMatchSteps {
		return "", fmt.Errorf("the pattern of ${..%s..} is too long for a value of %d bytes", op, len(s))
	}
	atEnd := op[0] == '%'
	if atEnd {
		reverse(glob)
		reverse(value)
	}
	n := match(glob, value, len(op) == 2)
	value = value[n:]
	if atEnd {
		reverse(value)
	}
	return string(value), nil
}

func reverse[T any](s []T) {
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
}

// element is one element of a pattern: any run of characters, or one character out of a set.
type element struct {
	many    bool // *
	any     bool // ?
	not     bool // [!...]
	ranges  [][2]rune
	literal rune
}

func (x element) matches(r rune) bool {
	switch {
	case x.many || x.any:
		return true
	case x.ranges == nil:
		return x.literal == r
	}
	for _, rg := range x.ranges {
		if rg[0] <= r && r <= rg[1] {
			return !x.not
		}
	}
	return x.not
}

// parseGlob reads a pattern of *, ?, [sets] and backslash-quoted characters. A set without end is plain text.
func parseGlob(pattern string) []element {
	var glob []element
	runes := []rune(pattern)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; {
		case r == '*':
			glob = append(glob, element{many: true})
		case r == '?':
			glob = append(glob, element{any: true})
		case r == '\\' && i+1 < len(runes):
			i++
			glob = append(glob, element{literal: runes[i]})
		case r == '[':
			if set, n := parseSet(runes[i+1:]); n > 0 {
				glob = append(glob, set)
				i += n
				continue
			}
			fallthrough
		default:
			glob = append(glob, element{literal: r})
		}
	}
	return glob
}

// parseSet reads the inside of [...] and returns how many characters it took, the bracket included; 0 if there is none.
func parseSet(runes []rune) (set element, n int) {
	i := 0
	if i < len(runes) && (runes[i] == '!' || runes[i] == '^') {
		set.not = true
		i++
	}
	for start := i; i < len(runes); i++ {
		if runes[i] == ']' && i > start {
			return set, i + 1
		}
		rg := [2]rune{runes[i], runes[i]}
		if i+2 < len(runes) && runes[i+1] == '-' && runes[i+2] != ']' {
			rg[1] = runes[i+2]
			i += 2
		}
		set.ranges = append(set.ranges, rg)
	}
	return element{}, 0
}

// match returns the length of the shortest or longest start of value that the whole pattern matches, 0 if none. It
// keeps the set of places in the pattern that can be reached, so its work is the product of both lengths.
func match(glob []element, value []rune, longest bool) int {
	here, next := make([]bool, len(glob)+1), make([]bool, len(glob)+1)
	here[0] = true
	skipMany(glob, here)
	if here[len(glob)] && !longest {
		return 0
	}
	best := 0
	for n, r := range value {
		clear(next)
		alive := false
		for i, x := range glob {
			if here[i] && x.matches(r) {
				alive = true
				if x.many {
					next[i] = true
				} else {
					next[i+1] = true
				}
			}
		}
		if !alive {
			break
		}
		skipMany(glob, next)
		here, next = next, here
		if here[len(glob)] {
			best = n + 1
			if !longest {
				return best
			}
		}
	}
	return best
}

// skipMany adds the places reached by letting a * match nothing.
func skipMany(glob []element, places []bool) {
	for i, x := range glob {
		if places[i] && x.many {
			places[i+1] = true
		}
	}
}
