package setters

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// file is the text of a YAML file by lines.
type file struct {
	content []byte
	lines   []int // the offset of the begin of each line
}

func newFile(content []byte) *file {
	// The parser counts neither the bytes nor the column of a byte order mark.
	start := len(content) - len(bytes.TrimPrefix(content, []byte("\ufeff")))
	f := &file{content: content, lines: []int{start}}
	for at := start; at < len(content); {
		n := lineBreak(content[at:])
		if n == 0 {
			at++
			continue
		}
		at += n
		f.lines = append(f.lines, at)
	}
	return f
}

// lineBreak returns the length of the line break that text begins with, zero if there is none. To the parser, which counts
// the lines, the separators of Unicode are breaks as well.
func lineBreak(text []byte) int {
	switch {
	case bytes.HasPrefix(text, []byte("\r\n")):
		return 2
	case text[0] == '\r', text[0] == '\n':
		return 1
	}
	for _, separator := range []string{"\u0085", "\u2028", "\u2029"} {
		if bytes.HasPrefix(text, []byte(separator)) {
			return len(separator)
		}
	}
	return 0
}

// offset is where a line and column of the parser are.
func (f *file) offset(line, column int) (int, bool) {
	if line < 1 || line > len(f.lines) || column < 1 {
		return 0, false
	}
	at := f.lines[line-1]
	for ; column > 1; column-- {
		if at >= len(f.content) {
			return 0, false
		}
		_, n := utf8.DecodeRune(f.content[at:])
		at += n
	}
	return at, at < len(f.content)
}

// lineEnd is the offset at which the line with an offset ends, without its break.
func (f *file) lineEnd(at int) int {
	for at < len(f.content) && lineBreak(f.content[at:]) == 0 {
		at++
	}
	return at
}

func (f *file) lineOf(offset int) int {
	line, found := slices.BinarySearch(f.lines, offset)
	if found {
		return line + 1
	}
	return line
}

// span is where the value of a scalar stands, quotes included, and the comment in its line.
type span struct {
	start, end int
	value      string
	comment    string
	line       int // of the comment
}

// locate finds the bytes of a scalar that a comment follows in the same line. What is found is compared with what the parser
// has read: where the two differ, nothing was found.
func (f *file) locate(s scalar) (span, bool) {
	at, ok := f.offset(s.node.Line, s.node.Column)
	if !ok {
		return span{}, false
	}
	if at = f.skipProperties(at); at >= len(f.content) {
		return span{}, false
	}
	if s.node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return f.locateBlock(s.node, at)
	}
	end := 0
	switch {
	case s.node.Style&yaml.DoubleQuotedStyle != 0:
		end, ok = f.quoted(at, '"', s.node)
	case s.node.Style&yaml.SingleQuotedStyle != 0:
		end, ok = f.quoted(at, '\'', s.node)
	default:
		end, ok = f.plain(at, s)
	}
	if !ok {
		return span{}, false
	}
	comment, ok := f.commentAfter(end, s.flow)
	return span{start: at, end: end, value: s.node.Value, comment: comment, line: f.lineOf(end)}, ok
}

// skipProperties moves past an anchor and a tag, which stand before the value, perhaps in lines of their own.
func (f *file) skipProperties(at int) int {
	for at < len(f.content) {
		switch c := f.content[at]; {
		case c == '&' || c == '!':
			for at < len(f.content) && !blank(f.content[at]) && lineBreak(f.content[at:]) == 0 {
				at++
			}
		case blank(c):
			at++
		case c == '#':
			at = f.lineEnd(at)
		case lineBreak(f.content[at:]) > 0:
			at += lineBreak(f.content[at:])
		default:
			return at
		}
	}
	return at
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// quoted returns the end of a quoted scalar.
func (f *file) quoted(at int, quote byte, n *yaml.Node) (int, bool) {
	if f.content[at] != quote {
		return 0, false
	}
	for end := at + 1; end < len(f.content); end++ {
		switch c := f.content[end]; {
		case c == '\\' && quote == '"':
			end++
		case c == quote && quote == '\'' && end+1 < len(f.content) && f.content[end+1] == quote:
			end++
		case c == quote:
			return end + 1, f.reads(at, end+1, n)
		}
	}
	return 0, false
}

// reads reports whether a quoted scalar has the value of a node. Continued in other lines it is indented, which alone would
// be no YAML: it is read as the value of a key.
func (f *file) reads(start, end int, n *yaml.Node) bool {
	var read struct{ Value string }
	text := append([]byte("value: "), f.content[start:end]...)
	return yaml.Unmarshal(text, &read) == nil && read.Value == n.Value
}

// plain returns the end of a scalar without quotes, which may be continued in further lines.
func (f *file) plain(at int, s scalar) (int, bool) {
	words := strings.Fields(s.node.Value)
	if len(words) == 0 {
		return 0, false
	}
	for from := at; ; {
		end := f.plainEnd(from, s.flow)
		switch read := strings.Fields(string(f.content[at:end])); {
		case strings.Join(read, " ") == strings.Join(words, " "):
			return end, true
		case len(read) >= len(words):
			return 0, false
		}
		next := f.lineEnd(end)
		if next >= len(f.content) {
			return 0, false
		}
		for next < len(f.content) && (blank(f.content[next]) || lineBreak(f.content[next:]) > 0) {
			next += max(1, lineBreak(f.content[next:]))
		}
		if from = next; from >= len(f.content) {
			return 0, false
		}
	}
}

// plainEnd returns the end of what a plain scalar has in a line, without the blanks behind it.
func (f *file) plainEnd(at int, flow bool) int {
	end := at
	for i := at; i < len(f.content) && lineBreak(f.content[i:]) == 0; i++ {
		c := f.content[i]
		if c == '#' && i > at && blank(f.content[i-1]) || flow && strings.IndexByte(",[]{}", c) >= 0 {
			break
		}
		if !blank(c) {
			end = i + 1
		}
	}
	return end
}

// commentAfter returns the comment in the same line. Between brackets a comma may come before it.
func (f *file) commentAfter(at int, flow bool) (string, bool) {
	from := at
	for at < len(f.content) && (blank(f.content[at]) || flow && f.content[at] == ',') {
		at++
	}
	if at == from || at >= len(f.content) || f.content[at] != '#' || !blank(f.content[at-1]) {
		return "", false
	}
	return string(f.content[at:f.lineEnd(at)]), true
}

// locateBlock finds the value of a literal or folded scalar. Its comment is in the line of its | or >, and its value is to be
// one line, as that of an image is.
func (f *file) locateBlock(n *yaml.Node, at int) (span, bool) {
	value := strings.Trim(n.Value, "\n")
	header := f.lineEnd(at)
	comment := at
	for comment < header && !(f.content[comment] == '#' && blank(f.content[comment-1])) {
		comment++
	}
	if comment == header || value == "" || strings.ContainsAny(value, "\n") {
		return span{}, false
	}
	for from := header; from < len(f.content); {
		from += lineBreak(f.content[from:])
		end := f.lineEnd(from)
		if line := f.content[from:end]; len(bytes.TrimSpace(line)) > 0 {
			indent, ok := bytes.CutSuffix(line, []byte(value))
			if !ok || len(bytes.TrimLeft(indent, " ")) > 0 {
				return span{}, false
			}
			return span{
				start: end - len(value), end: end, value: value, comment: string(f.content[comment:header]), line: f.lineOf(comment),
			}, true
		}
		from = end
	}
	return span{}, false
}
