package values

import (
	"fmt"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/strvals"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// set sets what a reference with a targetPath refers to, as `helm --set` would: commas, braces and types have their meaning, unless the
// text is quoted or taken literally (helmrelease 28).
func (c *composition) set(values map[string]any, ref *helmv2.ValuesReference, text string) (err error) {
	apply := strvals.ParseInto
	unquoted, quoted := unquote(text)
	switch {
	case ref.Literal:
		text, apply = escape(text), strvals.ParseIntoString
	case quoted:
		text, apply = unquoted, strvals.ParseIntoString
	}
	assignment := ref.TargetPath + "=" + text
	if err := c.afford(assignment); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = notThere(ref.TargetPath)
		}
	}()
	if err := apply(assignment, values); err != nil {
		if strings.Contains(err.Error(), "interface conversion") {
			// The words of a panic, which Helm catches.
			return notThere(ref.TargetPath)
		}
		return err
	}
	return nil
}

func notThere(path string) error {
	return fmt.Errorf("targetPath '%s' leads through a value that is neither a map nor a list", path)
}

// unquote removes a pair of quotes around a text.
func unquote(text string) (string, bool) {
	if n := len(text); n >= 2 && text[0] == text[n-1] && (text[0] == '"' || text[0] == '\'') {
		return text[1 : n-1], true
	}
	return text, false
}

// escape takes the meaning from all characters of a text.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `{`, `\{`, `}`, `\}`).Replace(text)
}

// afford accounts for the lists and levels that an assignment asks for before it is made: an index makes a list of that length, whatever
// the list is to hold, and a value may bring further assignments (reliability 012).
func (c *composition) afford(assignment string) error {
	for rest := assignment; rest != ""; {
		var path string
		path, rest = nextPath(rest)
		depth := 1
		for at := 0; at < len(path); at++ {
			switch path[at] {
			case '\\':
				at++
			case '.':
				depth++
			case '[':
				depth++
				if err := c.index(path[at+1:]); err != nil {
					return err
				}
			}
		}
		if depth > c.limits.Depth {
			return limited(fmt.Sprintf("a targetPath has more than %d levels: flatten the values, or raise --values-limit-depth", c.limits.Depth))
		}
	}
	return nil
}

// index accounts for the index that a text begins with. What is no number Helm refuses.
func (c *composition) index(text string) error {
	digits, _, _ := strings.Cut(text, "]")
	n, err := strconv.Atoi(digits)
	if err != nil && len(digits) < len("2147483647") || n < 0 {
		return nil
	}
	if err != nil || n >= c.elements {
		return limited(fmt.Sprintf("the indexes of the targetPaths ask for lists of more than %d elements: give the list as a document, or raise --values-limit-elements", c.limits.Elements))
	}
	c.elements -= n + 1
	return nil
}

// nextPath cuts the path from the first of several assignments, and returns the others.
func nextPath(text string) (path, rest string) {
	end := find(text, "=,")
	path = text[:end]
	if end == len(text) || text[end] == ',' {
		return path, text[min(end+1, len(text)):]
	}
	value := text[end+1:]
	from := 0
	if strings.HasPrefix(value, "{") {
		from = find(value, "}")
	}
	comma := from + find(value[from:], ",")
	return path, value[min(comma+1, len(value)):]
}

// find returns the index of the first of some characters that no backslash takes the meaning from, the length of the text if there is none.
func find(text, chars string) int {
	for at := 0; at < len(text); at++ {
		switch {
		case text[at] == '\\':
			at++
		case strings.IndexByte(chars, text[at]) >= 0:
			return at
		}
	}
	return len(text)
}
