package helmrepo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// WriteJSON reads an index and writes it as it is stored: indented JSON, charts by name, their versions by number, the
// highest first. Versions wait for their turn in a file in dir, so that memory is needed for their numbers alone.
// Errors are those of Parse (helmrepository 18, 47-49).
func WriteJSON(ctx context.Context, w io.Writer, r io.Reader, dir string, limits Limits) (err error) {
	file, err := os.CreateTemp(dir, "versions-*")
	if err != nil {
		return fmt.Errorf("make a file for the versions of the index: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	s := &shelf{file: file}
	h, err := scan(ctx, r, limits, s)
	if err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write the versions of the index: %w", err)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	if err := s.write(ctx, out, h); err != nil {
		return err
	}
	return out.Flush()
}

// shelf keeps the JSON of versions in a file and remembers where.
type shelf struct {
	file   *os.File
	out    *bufio.Writer
	at     int64
	charts map[string]*shelved
	last   *shelved
	text   arena
}

// shelved is a chart whose versions are in the file.
type shelved struct {
	null     bool
	versions []place
}

// place is where a version is in the file; a version of length zero is null.
type place struct {
	at      int64
	length  uint32
	version span
}

func (s *shelf) reset() error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.out, s.at, s.charts, s.text = bufio.NewWriterSize(s.file, 64<<10), 0, map[string]*shelved{}, arena{}
	return nil
}

func (s *shelf) chart(name string, null bool) error {
	s.last = &shelved{null: null}
	s.charts[strings.Clone(name)] = s.last
	return nil
}

func (s *shelf) version(e *entry) error {
	if e == nil {
		s.last.add(place{})
		return nil
	}
	data, err := encode(e, "      ")
	if err != nil {
		return told{err, ErrIndex}
	}
	if _, err := s.out.Write(data); err != nil {
		return fmt.Errorf("write the versions of the index: %w", err)
	}
	s.last.add(place{s.at, uint32(len(data)), s.text.add(e.Version)}) //nolint:gosec // an entry has at most EntryBytes
	s.at += int64(len(data))
	return nil
}

func (c *shelved) add(p place) {
	if len(c.versions) == cap(c.versions) {
		c.versions = slices.Grow(c.versions, 8+len(c.versions)/4)
	}
	c.versions = append(c.versions, p)
}

// write writes the index. Its fields stand in the order of 2.9.
func (s *shelf) write(ctx context.Context, w *bufio.Writer, h *header) error {
	before := struct {
		ServerInfo any    `json:"serverInfo,omitempty"`
		APIVersion string `json:"apiVersion"`
		Generated  any    `json:"generated"`
	}{nil, h.APIVersion, h.Generated}
	if len(h.ServerInfo) > 0 {
		before.ServerInfo = h.ServerInfo
	}
	head, err := encode(before, "")
	if err != nil {
		return told{err, ErrIndex}
	}
	tail, err := encode(struct {
		PublicKeys  []string          `json:"publicKeys,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}{h.PublicKeys, h.Annotations}, "")
	if err != nil {
		return told{err, ErrIndex}
	}
	_, _ = w.WriteString(strings.TrimSuffix(string(head), "\n}") + ",\n  \"entries\": ")
	if err := s.writeCharts(ctx, w, h.noEntries); err != nil {
		return err
	}
	if rest, more := strings.CutPrefix(string(tail), "{\n"); more {
		_, _ = w.WriteString(",\n" + rest)
		return nil
	}
	_, _ = w.WriteString("\n}")
	return nil
}

func (s *shelf) writeCharts(ctx context.Context, w *bufio.Writer, null bool) error {
	if len(s.charts) == 0 {
		_, _ = w.WriteString(map[bool]string{true: "null", false: "{}"}[null])
		return nil
	}
	names := make([]string, 0, len(s.charts))
	for name := range s.charts {
		names = append(names, name)
	}
	slices.Sort(names)
	separator := "{\n    "
	for _, name := range names {
		key, err := encode(name, "")
		if err != nil {
			return told{err, ErrIndex}
		}
		_, _ = w.WriteString(separator + string(key) + ": ")
		separator = ",\n    "
		if err := s.writeVersions(ctx, w, s.charts[name]); err != nil {
			return err
		}
	}
	_, err := w.WriteString("\n  }")
	return err
}

func (s *shelf) writeVersions(ctx context.Context, w *bufio.Writer, c *shelved) error {
	if len(c.versions) == 0 {
		_, _ = w.WriteString(map[bool]string{true: "null", false: "[]"}[c.null])
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	separator := "[\n      "
	for _, p := range s.sorted(c.versions) {
		_, _ = w.WriteString(separator)
		separator = ",\n      "
		if p.length == 0 {
			_, _ = w.WriteString("null")
			continue
		}
		if _, err := io.Copy(w, io.NewSectionReader(s.file, p.at, int64(p.length))); err != nil {
			return fmt.Errorf("read back the versions of the index: %w", err)
		}
	}
	_, err := w.WriteString("\n    ]")
	return err
}

// sorted sorts the versions of a chart, the highest first and what is no version last; what is equal keeps its order.
func (s *shelf) sorted(versions []place) []place {
	type numbered struct {
		place

		number *semver.Version
	}
	list := make([]numbered, len(versions))
	for i, p := range versions {
		list[i].place = p
		if p.length > 0 {
			// Without a number it goes to the end.
			list[i].number, _ = semver.NewVersion(s.text.get(p.version))
		}
	}
	slices.SortStableFunc(list, func(a, b numbered) int {
		switch {
		case a.number != nil && b.number != nil:
			return b.number.Compare(a.number)
		case a.number != nil:
			return -1
		case b.number != nil:
			return 1
		}
		// Null entries come after all others.
		return cmp.Compare(min(b.length, 1), min(a.length, 1))
	})
	for i, n := range list {
		versions[i] = n.place
	}
	return versions
}
