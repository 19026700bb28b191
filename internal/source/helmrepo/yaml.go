package helmrepo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// errUncut says that an index cannot be cut at its lines.
var errUncut = errors.New("the YAML is not of the form that can be read in pieces: a line for each chart, and versions in lines below that begin with a dash")

// yaml reads an index line by line and decodes it in pieces: each of the fields of the top level, each version.
//
// A cut cannot change the meaning. It is made before lines that are indented no deeper than the collection they belong
// to, where in YAML every block, block scalar and plain scalar ends. What goes on there all the same, a quoted scalar or a
// flow collection, leaves a piece without its end, which is an error; and then the index is read as a whole.
func (s *scanner) yaml(r *bufio.Reader) (*header, error) {
	c := &cutter{r: r, limit: s.limits.EntryBytes}
	if err := c.begin(); err != nil {
		return nil, err
	}
	h := &header{noEntries: true}
	seen := map[string]bool{}
	for !c.end() {
		match := topLevel.FindSubmatch(c.line)
		if match == nil {
			return nil, c.complain(errUncut)
		}
		key := string(match[1])
		if seen[key] {
			return nil, c.complain(fmt.Errorf("key %q already set in map", key))
		}
		seen[key] = true
		if key == "entries" && blank(match[2]) {
			if err := s.yamlCharts(c, h); err != nil {
				return nil, err
			}
			continue
		}
		at := c.number
		piece, err := c.take(0, 0)
		if err != nil {
			return nil, err
		}
		if key == "entries" {
			err = s.yamlInline(piece, h)
		} else {
			err = decodeYAML(piece, s.limits.EntryBytes, h)
		}
		if err != nil {
			return nil, s.at(at, err)
		}
	}
	return h, nil
}

// topLevel matches the line of a field of an index.
var topLevel = regexp.MustCompile(`^(serverInfo|apiVersion|generated|entries|publicKeys|annotations):((?:[ \r\n].*)?)\s*$`)

// yamlInline reads entries that begin in the line of their key, such as {}.
func (s *scanner) yamlInline(piece []byte, h *header) error {
	var doc struct {
		Entries map[string][]*entry `json:"entries"`
	}
	if err := decodeYAML(piece, s.limits.EntryBytes, &doc); err != nil {
		return err
	}
	h.noEntries = doc.Entries == nil
	return s.charts(doc.Entries)
}

// yamlCharts reads the charts below the line "entries:".
func (s *scanner) yamlCharts(c *cutter, h *header) error {
	if err := c.next(); err != nil {
		return err
	}
	if c.end() || c.indent == 0 && !c.dash() {
		return nil
	}
	h.noEntries = false
	depth := c.indent
	seen := map[string]bool{}
	for !c.end() && c.indent > 0 {
		if c.indent != depth || c.dash() {
			return c.complain(errUncut)
		}
		at := c.number
		chart, simple := chartName(c.line)
		if !simple {
			if !keyStart.Match(c.line) {
				return c.complain(errUncut)
			}
			piece, err := c.take(depth, depth)
			if err != nil {
				return err
			}
			if err := s.yamlChart(piece, seen); err != nil {
				return s.at(at, err)
			}
			continue
		}
		if seen[chart] {
			return c.complain(fmt.Errorf("key %q already set in map", chart))
		}
		seen[chart] = true
		if err := c.next(); err != nil {
			return err
		}
		if err := s.yamlVersions(c, chart, depth); err != nil {
			return err
		}
	}
	if !c.end() && c.dash() {
		return c.complain(errUncut)
	}
	return nil
}

// yamlChart reads a chart whose first line is more than its name.
func (s *scanner) yamlChart(piece []byte, seen map[string]bool) error {
	var charts map[string][]*entry
	if err := decodeYAML(piece, s.limits.EntryBytes, &charts); err != nil {
		return err
	}
	if len(charts) != 1 {
		return errUncut
	}
	for name := range charts {
		if seen[name] {
			return fmt.Errorf("key %q already set in map", name)
		}
		seen[name] = true
	}
	return s.charts(charts)
}

// yamlVersions reads the versions of a chart whose name stands at depth.
func (s *scanner) yamlVersions(c *cutter, chart string, depth int) error {
	null := c.end() || c.indent < depth || c.indent == depth && !c.dash()
	if err := s.chart(chart, null); err != nil || null {
		return err
	}
	if !c.dash() {
		return c.complain(errUncut)
	}
	dashes := c.indent
	for !c.end() && c.indent == dashes && c.dash() {
		at := c.number
		piece, err := c.take(dashes, -1)
		if err != nil {
			return err
		}
		var versions []*entry
		if err := decodeYAML(piece, s.limits.EntryBytes, &versions); err != nil {
			return s.at(at, err)
		}
		if len(versions) != 1 {
			return s.at(at, errUncut)
		}
		if err := s.version(versions[0]); err != nil {
			return err
		}
	}
	if !c.end() && c.indent > depth {
		return c.complain(errUncut)
	}
	return nil
}

// at says where a piece is that cannot be read.
func (s *scanner) at(line int, err error) error {
	if s.final(err) {
		return err
	}
	return fmt.Errorf("in the part that begins in line %d: %w", line, err)
}

// plainName matches a line with nothing but a name that YAML reads as a string.
var plainName = regexp.MustCompile(`^ +([A-Za-z][A-Za-z0-9._/-]*|"[A-Za-z0-9._/-]+"|'[A-Za-z0-9._/-]+'):\s*(?:\s#.*)?$`)

// keyStart matches a line that begins with a plain or quoted key: what it begins is a map in lines.
var keyStart = regexp.MustCompile(`^ +[A-Za-z0-9_.~"']`)

// otherThanString matches what YAML reads as null or as a boolean.
var otherThanString = regexp.MustCompile(`^(?i:null|true|false|yes|no|on|off|y|n)$`)

// chartName reads a line that is the name of a chart and nothing else.
func chartName(line []byte) (string, bool) {
	match := plainName.FindSubmatch(line)
	if match == nil || otherThanString.Match(match[1]) {
		return "", false
	}
	return string(bytes.Trim(match[1], `"'`)), true
}

// cutter takes a YAML document apart at its lines.
type cutter struct {
	r      *bufio.Reader
	limit  int
	line   []byte // the next line with content, with its end; nil: there is none
	number int    // of line, from 1
	indent int    // of line
	raw    []byte // backing of line
	rest   []byte // of raw: lines that end in something else than a line feed
	piece  []byte // backing of what take returned last
}

// begin goes to the first line of the document.
func (c *cutter) begin() error {
	if mark, err := c.r.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = c.r.Discard(len(mark))
	}
	if err := c.next(); err != nil {
		return err
	}
	if bytes.Equal(bytes.TrimRight(c.line, " \r\n"), []byte("---")) {
		if err := c.next(); err != nil {
			return err
		}
	}
	if c.end() {
		return errUncut
	}
	return nil
}

// end reports whether the document is over. What follows after it does not count.
func (c *cutter) end() bool {
	if c.line == nil {
		return true
	}
	return (bytes.HasPrefix(c.line, []byte("---")) || bytes.HasPrefix(c.line, []byte("..."))) && spaceAt(c.line, 3)
}

// dash reports whether the line begins an element of a sequence.
func (c *cutter) dash() bool { return c.line[c.indent] == '-' && spaceAt(c.line, c.indent+1) }

// spaceAt reports whether a line has a space at i, or ends there.
func spaceAt(line []byte, i int) bool {
	return i >= len(line) || bytes.IndexByte([]byte(" \t\r\n"), line[i]) >= 0 || lineEnd(line[i:]) > 0
}

func (c *cutter) complain(err error) error { return fmt.Errorf("in line %d: %w", c.number, err) }

// next goes to the next line with content.
func (c *cutter) next() error {
	for {
		if err := c.read(); err != nil {
			return err
		}
		if c.line == nil || !blank(c.line) {
			return nil
		}
		if bytes.IndexByte(c.line, '\t') >= 0 {
			// Between the lines of a collection tabs are no space.
			return c.complain(errUncut)
		}
	}
}

// read reads a line.
func (c *cutter) read() error {
	if len(c.rest) == 0 {
		if err := c.fill(); err != nil {
			return err
		}
	}
	c.line, c.indent = nil, 0
	if len(c.rest) == 0 {
		return nil
	}
	end := firstLine(c.rest)
	c.line, c.rest = c.rest[:end], c.rest[end:]
	c.number++
	c.indent = len(c.line) - len(bytes.TrimLeft(c.line, " "))
	return nil
}

// fill reads up to the next line feed.
func (c *cutter) fill() error {
	c.raw = c.raw[:0]
	for {
		part, err := c.r.ReadSlice('\n')
		c.raw = append(c.raw, part...)
		switch {
		case len(c.raw) > c.limit:
			c.number++
			return c.oversize()
		case err == nil, errors.Is(err, io.EOF):
			c.rest = c.raw
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// firstLine returns the length of the first of the lines that YAML sees in what has at most one line feed, at its end.
func firstLine(b []byte) int {
	if bytes.IndexByte(b, '\r') < 0 && bytes.IndexByte(b, 0xc2) < 0 && bytes.IndexByte(b, 0xe2) < 0 {
		return len(b)
	}
	for i := range b {
		if n := lineEnd(b[i:]); n > 0 {
			return i + n
		}
	}
	return len(b)
}

// lineEnd returns the length of the line break at the beginning of b, 0 if there is none: besides those of text files,
// YAML 1.1 has next line, line separator and paragraph separator.
func lineEnd(b []byte) int {
	switch {
	case bytes.HasPrefix(b, []byte("\r\n")):
		return 2
	case len(b) > 0 && (b[0] == '\n' || b[0] == '\r'):
		return 1
	case bytes.HasPrefix(b, []byte("\u0085")):
		return 2
	case bytes.HasPrefix(b, []byte("\u2028")), bytes.HasPrefix(b, []byte("\u2029")):
		return 3
	}
	return 0
}

func (c *cutter) oversize() error {
	return tell(ErrIndex, "the part of the index in line %d is larger than %d bytes", c.number, c.limit)
}

// take returns the line and those that belong to it: deeper ones, and elements of a sequence at the indentation dashes,
// unless that is negative. It goes to the line after them. What it returns is valid until it is called again.
func (c *cutter) take(indent, dashes int) ([]byte, error) {
	c.piece = append(c.piece[:0], c.line...)
	for {
		if err := c.read(); err != nil {
			return nil, err
		}
		if c.line == nil || !blank(c.line) && (c.end() || c.indent <= indent && (c.indent != dashes || !c.dash())) {
			return c.piece, nil
		}
		if len(c.piece)+len(c.line) > c.limit {
			return nil, c.oversize()
		}
		c.piece = append(c.piece, c.line...)
	}
}

// decodeYAML decodes a document as 2.9 does: unknown fields and keys that stand twice are errors (helmrepository 17, 46).
// With its aliases resolved it may be as large as limit.
func decodeYAML(data []byte, limit int, into any) error {
	if bytes.IndexByte(data, '&') >= 0 && anchor.Match(data) {
		if err := checkAliases(data, limit); err != nil {
			return err
		}
	}
	return yaml.UnmarshalStrict(data, into)
}

// anchor matches what may be the beginning of an anchor.
var anchor = regexp.MustCompile(`(?:^|[\s\[{,:?-])&[^\s&]`)

// checkAliases refuses a document that is small and means something large.
func checkAliases(data []byte, limit int) error {
	var doc yamlv3.Node
	if err := yamlv3.Unmarshal(data, &doc); err != nil {
		// The decoder will say so, in its own words.
		return nil //nolint:nilerr // see above
	}
	size := &expansion{known: map[*yamlv3.Node]int{}, limit: limit}
	if size.of(&doc) > limit {
		return tell(ErrTooLarge, "with its aliases resolved the YAML is larger than %d bytes", limit)
	}
	return nil
}

// expansion measures documents with their aliases resolved.
type expansion struct {
	known map[*yamlv3.Node]int
	limit int
}

func (x *expansion) of(n *yamlv3.Node) int {
	if size, ok := x.known[n]; ok {
		return size
	}
	// An anchor inside of what it names is endless.
	x.known[n] = x.limit + 1
	size := len(n.Value) + 1
	if n.Alias != nil {
		size = x.of(n.Alias)
	}
	for _, child := range n.Content {
		// Each part is at most one beyond the limit, so the sum stops here before it can overflow.
		if size = size + x.of(child); size > x.limit {
			size = x.limit + 1
			break
		}
	}
	x.known[n] = size
	return size
}
