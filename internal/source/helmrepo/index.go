// Package helmrepo is the source kind HelmRepository, and what charts take from Helm repositories: lookups in their indexes,
// and downloads.
package helmrepo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// Limits bound what the index and the charts of a repository may cost.
type Limits struct {
	// IndexBytes is the size of an index (--helm-index-max-size).
	IndexBytes int64
	// ChartBytes is the size of a chart's archive (--helm-chart-max-size).
	ChartBytes int64
	// EntryBytes is the size of one version in an index, aliases resolved, and of any other part of it that is read at once.
	EntryBytes int
	// WholeBytes is the size, aliases resolved, up to which an index is read as a whole when it cannot be taken apart by
	// its lines: YAML in flow style, or with anchors.
	WholeBytes int
	// Versions is the number of versions of all charts.
	Versions int
}

// DefaultLimits admits the indexes and charts that 2.9 admits by default.
func DefaultLimits() Limits {
	return Limits{IndexBytes: 50 << 20, ChartBytes: 10 << 20, EntryBytes: 1 << 20, WholeBytes: 4 << 20, Versions: 1_000_000}
}

var (
	// ErrNotFound is the property of an error about a chart, or a version of it, that an index does not have.
	ErrNotFound = errors.New("not in the index")
	// ErrInvalidRange is the property of an error about a version that is neither one nor a range of them.
	ErrInvalidRange = errors.New("not a version or a range of versions")
	// ErrIndex is the property of an error about an index that cannot be read, whoever reads it.
	ErrIndex = errors.New("not an index of a Helm repository")
	// ErrTooLarge is the property of an error about an index or a chart beyond one of the Limits.
	ErrTooLarge = errors.New("too large")
)

// told gives an error a property without a word of its own.
type told struct {
	error
	property error
}

func (t told) Unwrap() []error { return []error{t.error, t.property} }

func tell(property error, format string, args ...any) error {
	return told{fmt.Errorf(format, args...), property}
}

// Version is one version of a chart in an index.
type Version struct {
	// Chart is the name, Version the version as the index spells it.
	Chart, Version string
	// URL of the archive, the first of the entry; it may be relative to that of the repository (helmchart 14). Empty: none.
	URL string
	// Digest of the archive as the index tells it, usually SHA-256 in hexadecimal. Empty: none.
	Digest string
	// Created is the zero time when the index does not tell.
	Created time.Time
}

// Index is what a lookup needs of the index of a repository. It does not change and may be shared.
type Index struct {
	charts map[string][]record
	text   arena
	names  int64
}

// record is a version. Its strings are in the arena, so that the hundred thousand versions of a large repository are
// nothing to look at for the garbage collector.
type record struct {
	created              int64 // microseconds since 1970; unknown: notCreated
	version, url, digest span
}

// notCreated is earlier than any time an index can tell.
const notCreated = -1 << 63

// Parse reads an index, JSON or YAML, version by version: what is not kept is never in memory as a whole. Errors have the
// property ErrIndex or ErrTooLarge, unless reading fails (helmrepository 15-17, 46, 47).
func Parse(ctx context.Context, r io.Reader, limits Limits) (*Index, error) {
	c := &collector{}
	if _, err := scan(ctx, r, limits, c); err != nil {
		return nil, err
	}
	return c.index, nil
}

// Size returns about how many bytes of memory the index takes.
func (i *Index) Size() int64 {
	size := i.text.size() + i.names
	for _, versions := range i.charts {
		size += int64(cap(versions)) * recordBytes
	}
	return size
}

// recordBytes is the size of a record.
const recordBytes = 48

// Find returns the version of a chart that version asks for: the one that is spelt so, else the highest in the range, and
// of those that are equally high the newest. Empty and "*" mean the highest stable one. Errors have the property
// ErrNotFound or ErrInvalidRange (helmchart 11, 12).
func (i *Index) Find(name, version string) (*Version, error) {
	versions, ok := i.charts[name]
	if !ok {
		return nil, tell(ErrNotFound, "no '%s' chart found", name)
	}
	if version == "" {
		version = "*"
	}
	for _, r := range versions {
		if i.text.get(r.version) == version {
			return i.version(name, r), nil
		}
	}
	wanted, err := semver.NewConstraint(version)
	if err != nil {
		return nil, tell(ErrInvalidRange, "version '%s' of chart '%s': %w", version, name, err)
	}
	best, err := i.highest(versions, wanted)
	if err != nil {
		return nil, tell(ErrNotFound, "no '%s' chart with version matching '%s' found", name, version)
	}
	return i.version(name, best), nil
}

func (i *Index) highest(versions []record, wanted *semver.Constraints) (record, error) {
	var best record
	var highest *semver.Version
	for _, r := range versions {
		v, ok := parseVersion(i.text.get(r.version))
		if !ok || !wanted.Check(v) {
			continue
		}
		if highest != nil {
			if c := v.Compare(highest); c < 0 || c == 0 && r.created <= best.created {
				continue
			}
		}
		best, highest = r, v
	}
	if highest == nil {
		return best, ErrNotFound
	}
	return best, nil
}

func (i *Index) version(name string, r record) *Version {
	v := &Version{Chart: name, Version: i.text.get(r.version), URL: i.text.get(r.url), Digest: i.text.get(r.digest)}
	if r.created != notCreated {
		v.Created = time.UnixMicro(r.created).UTC()
	}
	return v
}

// parseVersion reads a version with its three parts; what has fewer is never selected (helmchart 11).
func parseVersion(s string) (*semver.Version, bool) {
	core, _, _ := strings.Cut(s, "+")
	core, _, _ = strings.Cut(core, "-")
	if strings.Count(core, ".") != 2 {
		return nil, false
	}
	v, err := semver.NewVersion(s)
	return v, err == nil
}

// entry is a version as an index holds it.
type entry struct {
	*chart.Metadata

	URLs    []string  `json:"urls"`
	Created time.Time `json:"created"`
	Removed bool      `json:"removed,omitempty"`
	Digest  string    `json:"digest,omitempty"`

	// Fields of older indexes. They mean nothing, and unknown fields are errors.
	Checksum      string `json:"checksum,omitempty"`
	Engine        string `json:"engine,omitempty"`
	TillerVersion string `json:"tillerVersion,omitempty"`
	URL           string `json:"url,omitempty"`
}

// admit completes an entry and reports whether it belongs into the index (helmrepository 16).
func (e *entry) admit() bool {
	if e.Metadata == nil {
		e.Metadata = &chart.Metadata{}
	}
	if e.APIVersion == "" {
		e.APIVersion = chart.APIVersionV1
	}
	if e.Validate() == nil {
		return true
	}
	return e.admissible()
}

// admissible tells whether only its dependencies make an entry invalid, and only by two of the same name: that is the
// affair of whoever builds the chart.
func (e *entry) admissible() bool {
	metadata := *e.Metadata
	metadata.Dependencies = nil
	if metadata.Validate() != nil {
		return false
	}
	for _, d := range e.Dependencies {
		if d == nil || d.Validate() != nil {
			return false
		}
	}
	return true
}

// header is an index without its charts.
type header struct {
	ServerInfo  map[string]any    `json:"serverInfo,omitempty"`
	APIVersion  string            `json:"apiVersion"`
	Generated   time.Time         `json:"generated"`
	PublicKeys  []string          `json:"publicKeys,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	// noEntries: there is no map of charts, not even an empty one.
	noEntries bool
}

// document is an index. It does not embed a header: numbers become strings, as 2.9 has it, only in fields of its own.
type document struct {
	ServerInfo  map[string]any      `json:"serverInfo,omitempty"`
	APIVersion  string              `json:"apiVersion"`
	Generated   time.Time           `json:"generated"`
	Entries     map[string][]*entry `json:"entries"`
	PublicKeys  []string            `json:"publicKeys,omitempty"`
	Annotations map[string]string   `json:"annotations,omitempty"`
}

// visitor takes the charts of an index in the order they stand there.
type visitor interface {
	// reset begins anew: what was visited so far does not count.
	reset() error
	// chart begins the versions of a chart; null: it has no list of them.
	chart(name string, null bool) error
	// version is the next one of the chart; nil: a null entry (helmrepository 47).
	version(*entry) error
}

// collector makes an Index.
type collector struct {
	index *Index
	name  string
}

func (c *collector) reset() error {
	c.index = &Index{charts: map[string][]record{}}
	return nil
}

func (c *collector) chart(name string, _ bool) error {
	c.name = strings.Clone(name)
	c.index.charts[c.name] = nil
	c.index.names += int64(len(name)) + 64
	return nil
}

func (c *collector) version(e *entry) error {
	if e == nil {
		return nil
	}
	text := &c.index.text
	r := record{created: notCreated, version: text.add(e.Version), digest: text.add(e.Digest)}
	if !e.Created.IsZero() {
		r.created = e.Created.UnixMicro()
	}
	if len(e.URLs) > 0 {
		r.url = text.add(e.URLs[0])
	}
	versions := c.index.charts[c.name]
	if len(versions) == cap(versions) {
		// A quarter more and not twice as much: an index may hold hundreds of thousands.
		versions = slices.Grow(versions, 8+len(versions)/4)
	}
	c.index.charts[c.name] = append(versions, r)
	return nil
}

// arena keeps strings in few large pieces.
type arena struct{ blocks [][]byte }

// span is a string in an arena.
type span struct{ block, from, length uint32 }

// Blocks grow from the first size to the last: most indexes are small.
const (
	firstBlock = 2 << 10
	lastBlock  = 256 << 10
)

func (a *arena) add(s string) span {
	last := len(a.blocks) - 1
	if last < 0 || cap(a.blocks[last])-len(a.blocks[last]) < len(s) {
		size := min(firstBlock<<min(len(a.blocks), 10), lastBlock)
		a.blocks = append(a.blocks, make([]byte, 0, max(size, len(s))))
		last++
	}
	b := a.blocks[last]
	at := span{uint32(last), uint32(len(b)), uint32(len(s))} //nolint:gosec // an index has at most IndexBytes
	a.blocks[last] = append(b, s...)
	return at
}

// get returns a copy.
func (a *arena) get(s span) string {
	if s.length == 0 {
		return ""
	}
	return string(a.blocks[s.block][s.from : s.from+s.length])
}

func (a *arena) size() int64 {
	var n int64
	for _, b := range a.blocks {
		n += int64(cap(b))
	}
	return n
}

// encode returns the JSON of a part of the stored index, to stand after prefix (helmrepository 18).
func encode(v any, prefix string) ([]byte, error) { return json.MarshalIndent(v, prefix, "  ") }
