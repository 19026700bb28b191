package helmrepo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// scan shows an index to a visitor, entry by entry: as JSON if it is JSON, else as strict YAML (helmrepository 15, 46).
//
// Generated indexes, which are the large ones, have a line for the beginning of each chart and each version, so that they
// can be cut there and read in pieces. Everything else is read as a whole, and so has to be small: the tree of a YAML
// document takes ten times the memory of its text.
func scan(ctx context.Context, r io.Reader, limits Limits, v visitor) (*header, error) {
	in := &replay{r: r, limit: limits.IndexBytes, keep: limits.WholeBytes}
	if err := v.reset(); err != nil {
		return nil, err
	}
	s := &scanner{ctx: ctx, limits: limits, visitor: v}
	buffered := bufio.NewReaderSize(in, 64<<10)
	first, err := firstByte(buffered)
	if errors.Is(err, io.EOF) {
		return nil, tell(ErrIndex, "empty index.yaml file")
	}
	if err != nil {
		return nil, err
	}
	var h *header
	if first == '{' {
		h, err = s.json(buffered)
	} else {
		h, err = s.yaml(buffered)
	}
	switch {
	case in.err != nil:
		// What the pieces looked like does not matter when they are not all there.
		return nil, in.err
	case err == nil:
	case s.final(err):
		return nil, err
	case first == '{' && !notJSON(err):
		return nil, told{err, ErrIndex}
	default:
		if h, err = s.whole(in, err); err != nil {
			return nil, err
		}
	}
	if h.APIVersion == "" {
		return nil, tell(ErrIndex, "no API version specified")
	}
	return h, nil
}

// firstByte returns the first byte that is no white space, without taking anything.
func firstByte(r *bufio.Reader) (byte, error) {
	for n := 1; ; n++ {
		b, err := r.Peek(n)
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				return ' ', nil
			}
			return 0, err
		}
		if c := b[n-1]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c, nil
		}
	}
}

// replay bounds what is read, keeps its beginning, and remembers the error of reading, which parsers wrap or replace.
type replay struct {
	r     io.Reader
	limit int64
	n     int64
	keep  int
	head  []byte // all that was read, as long as that is at most keep
	err   error
}

func (p *replay) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if p.n > p.limit {
		p.err = tooLarge("index", p.limit, "--helm-index-max-size")
		return 0, p.err
	}
	if p.n <= int64(p.keep) {
		p.head = append(p.head, b[:n]...)
	} else {
		p.head = nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// all returns what is read and what is left, unless that is more than may be kept.
func (p *replay) all() ([]byte, bool, error) {
	for p.n <= int64(p.keep) {
		if _, err := io.CopyN(io.Discard, p, 32<<10); errors.Is(err, io.EOF) {
			return p.head, p.n <= int64(p.keep), nil
		} else if err != nil {
			return nil, false, err
		}
	}
	return nil, false, nil
}

func tooLarge(what string, limit int64, flag string) error {
	return tell(ErrTooLarge, "the %s is larger than %d bytes: raise %s if it is meant to be", what, limit, flag)
}

// scanner is one pass over an index.
type scanner struct {
	ctx      context.Context
	limits   Limits
	visitor  visitor
	versions int
	stop     error
}

// final reports whether an error is not about the form of the index: to read it in another way does not help.
func (s *scanner) final(err error) bool { return s.stop != nil || errors.Is(err, ErrTooLarge) }

// chart shows a chart to the visitor.
func (s *scanner) chart(name string, null bool) error {
	s.stop = s.visitor.chart(name, null)
	return s.stop
}

// version shows a version to the visitor, unless it is to be dropped.
func (s *scanner) version(e *entry) error {
	if s.versions++; s.versions > s.limits.Versions {
		return tell(ErrTooLarge, "the index has more than %d versions", s.limits.Versions)
	}
	if s.stop = s.ctx.Err(); s.stop != nil {
		s.stop = context.Cause(s.ctx)
		return s.stop
	}
	if e != nil && !e.admit() {
		return nil
	}
	s.stop = s.visitor.version(e)
	return s.stop
}

// whole reads an index at once; cause is why it could not be read in pieces.
func (s *scanner) whole(in *replay, cause error) (*header, error) {
	data, small, err := in.all()
	if err != nil {
		return nil, err
	}
	if !small {
		return nil, told{cause, ErrIndex}
	}
	if err := s.visitor.reset(); err != nil {
		return nil, err
	}
	s.versions = 0
	var doc document
	if err := decodeYAML(data, s.limits.WholeBytes, &doc); err != nil {
		return nil, told{err, ErrIndex}
	}
	h := &header{
		ServerInfo: doc.ServerInfo, APIVersion: doc.APIVersion, Generated: doc.Generated, PublicKeys: doc.PublicKeys,
		Annotations: doc.Annotations, noEntries: doc.Entries == nil,
	}
	return h, s.charts(doc.Entries)
}

// charts shows charts that were decoded at once.
func (s *scanner) charts(charts map[string][]*entry) error {
	for name, versions := range charts {
		if err := s.chart(name, versions == nil); err != nil {
			return err
		}
		for _, v := range versions {
			if err := s.version(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// errNotJSON is the property of an error about what looks like JSON and is not.
var errNotJSON = errors.New("not JSON")

// notJSON tells an error of syntax from one about values.
func notJSON(err error) bool {
	var syntax *json.SyntaxError
	return errors.As(err, &syntax) || errors.Is(err, errNotJSON) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// json reads an index that begins like JSON. As in 2.9, unknown fields do not matter here.
func (s *scanner) json(r io.Reader) (*header, error) {
	p := &pieces{r: r, limit: s.limits.EntryBytes}
	dec := json.NewDecoder(p)
	h := &header{noEntries: true}
	if err := delimiter(dec, json.Delim('{')); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for dec.More() {
		p.n = 0
		key, err := nextKey(dec, seen)
		if err != nil {
			return nil, err
		}
		switch strings.ToLower(key) {
		case "entries":
			err = s.jsonCharts(dec, p, h)
		case "serverinfo":
			err = p.decode(dec, &h.ServerInfo)
		case "apiversion":
			err = p.decode(dec, &h.APIVersion)
		case "generated":
			err = p.decode(dec, &h.Generated)
		case "publickeys":
			err = p.decode(dec, &h.PublicKeys)
		case "annotations":
			err = p.decode(dec, &h.Annotations)
		default:
			err = p.decode(dec, &json.RawMessage{})
		}
		if err != nil {
			return nil, err
		}
	}
	if err := delimiter(dec, json.Delim('}')); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, tell(errNotJSON, "there is something after the end of the JSON")
	}
	return h, nil
}

func (s *scanner) jsonCharts(dec *json.Decoder, p *pieces, h *header) error {
	open, err := opening(dec, json.Delim('{'))
	if err != nil || !open {
		return err
	}
	h.noEntries = false
	seen := map[string]bool{}
	for dec.More() {
		p.n = 0
		chart, err := nextKey(dec, seen)
		if err != nil {
			return err
		}
		open, err := opening(dec, json.Delim('['))
		if err != nil {
			return err
		}
		if err := s.chart(chart, !open); err != nil {
			return err
		}
		if !open {
			continue
		}
		for dec.More() {
			var e *entry
			if err := p.decode(dec, &e); err != nil {
				return err
			}
			if err := s.version(e); err != nil {
				return err
			}
		}
		if err := delimiter(dec, json.Delim(']')); err != nil {
			return err
		}
	}
	return delimiter(dec, json.Delim('}'))
}

// nextKey reads the next key of a map, which has to be the first of its name.
func nextKey(dec *json.Decoder, seen map[string]bool) (string, error) {
	token, err := dec.Token()
	if err != nil {
		return "", err
	}
	key, ok := token.(string)
	if !ok {
		return "", tell(errNotJSON, "unexpected %v in JSON", token)
	}
	if seen[key] {
		return "", fmt.Errorf("key %q already set in map", key)
	}
	seen[key] = true
	return key, nil
}

func delimiter(dec *json.Decoder, want json.Delim) error {
	open, err := opening(dec, want)
	if err == nil && !open {
		err = fmt.Errorf("null in JSON where %s should be", want)
	}
	return err
}

// opening reads a delimiter, or null in its place.
func opening(dec *json.Decoder, want json.Delim) (bool, error) {
	token, err := dec.Token()
	switch {
	case err != nil:
		return false, err
	case token == nil:
		return false, nil
	case token != want:
		return false, fmt.Errorf("unexpected %v in JSON where %s should be", token, want)
	}
	return true, nil
}

// pieces bounds what a decoder reads at a time, and so what it has to hold.
type pieces struct {
	r     io.Reader
	limit int
	n     int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.n > p.limit {
		return 0, tell(ErrTooLarge, "one entry of the index is larger than %d bytes", p.limit)
	}
	n, err := p.r.Read(b[:min(len(b), 64<<10)])
	p.n += n
	return n, err
}

func (p *pieces) decode(dec *json.Decoder, v any) error {
	p.n = 0
	return dec.Decode(v)
}

// blank reports whether a line has no content: only space, or a comment.
func blank(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) == 0 || line[0] == '#'
}
