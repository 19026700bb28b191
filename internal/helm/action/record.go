package action

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"
)

// Helm keeps a release as base64 of gzip of JSON. Most of it is the chart, which never changes and which nobody needs to see again but for
// its metadata. So a record is written as two gzip members, which to a reader are one stream: everything else, and the chart. The second
// is compressed once and then copied, from version to version of a record and from record to record. Records of others have one member.

// chartMember is the comment in the header of the member that holds the chart.
const chartMember = "chart"

const (
	// maxRecord is the most that an API server takes in a Secret, in bytes.
	maxRecord = 1 << 20
	// recordMargin is what a record may grow by between its first writing and its last: results of hooks, and what went wrong.
	recordMargin = 16 << 10
	// maxDecoded bounds the size of a record when it is decompressed.
	maxDecoded = 64 << 20
	// maxDescription bounds the text about how an action ended, in bytes.
	maxDescription = 4 << 10
)

var errRecordTooLarge = errors.New("the release is too large to be stored")

// storedChart is a chart as it is in a record: compressed, from the comma before its key to the end of the record.
type storedChart []byte

// compressors are used again: each is most of a megabyte.
var compressors = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	return z
}}

func compressor(w io.Writer) *gzip.Writer {
	z := compressors.Get().(*gzip.Writer)
	z.Reset(w)
	return z
}

func compressChart(c *chart.Chart) (storedChart, error) {
	var b bytes.Buffer
	z := compressor(&b)
	defer compressors.Put(z)
	z.Comment = chartMember
	if _, err := io.WriteString(z, `,"chart":`); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(z).Encode(c); err != nil {
		return nil, fmt.Errorf("failed to encode the chart: %w", err)
	}
	if _, err := io.WriteString(z, "}"); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// encodeRecord encodes a release with a chart. It returns the record, and the release as whoever reads the record will see it.
func encodeRecord(rel *release.Release, c storedChart) ([]byte, *release.Release, error) {
	rest := *rel
	rest.Chart = nil
	info := *rel.Info
	info.Description = cut(info.Description, maxDescription)
	rest.Info = &info
	text, err := json.Marshal(&rest)
	if err != nil {
		return nil, nil, fmt.Errorf("failed to encode the release: %w", err)
	}
	var b bytes.Buffer
	z := compressor(&b)
	defer compressors.Put(z)
	if _, err := z.Write(text[:len(text)-1]); err != nil {
		return nil, nil, err
	}
	if err := z.Close(); err != nil {
		return nil, nil, err
	}
	b.Write(c)
	record := make([]byte, base64.StdEncoding.EncodedLen(b.Len()))
	base64.StdEncoding.Encode(record, b.Bytes())
	var seen release.Release
	if err := json.Unmarshal(text, &seen); err != nil {
		return nil, nil, fmt.Errorf("failed to decode the release: %w", err)
	}
	return record, &seen, nil
}

// record is a decoded one.
type record struct {
	release *release.Release // with only the metadata of its chart
	raw     []byte           // the chart as JSON, where it was not compressed alone
	chart   storedChart
}

// stored returns the chart as it is stored.
func (r *record) stored() (storedChart, error) {
	if r.chart != nil {
		return r.chart, nil
	}
	c, err := r.whole()
	if err != nil {
		return nil, err
	}
	return compressChart(c)
}

// whole decodes the chart.
func (r *record) whole() (*chart.Chart, error) {
	raw := r.raw
	if r.chart != nil {
		z, err := gzip.NewReader(bytes.NewReader(r.chart))
		if err != nil {
			return nil, fmt.Errorf("failed to decompress the chart: %w", err)
		}
		text, err := readAll(z)
		if err != nil {
			return nil, fmt.Errorf("failed to decompress the chart: %w", err)
		}
		raw = bytes.TrimSuffix(bytes.TrimPrefix(text, []byte(`,"chart":`)), []byte("}"))
	}
	c := &chart.Chart{}
	if raw == nil {
		return c, nil
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("failed to decode the chart: %w", err)
	}
	return c, nil
}

// partialChart is as much of a chart as is kept.
type partialChart struct {
	Metadata *chart.Metadata `json:"metadata"`
}

func decodeRecord(data []byte) (*record, error) {
	b := make([]byte, base64.StdEncoding.DecodedLen(len(data)))
	n, err := base64.StdEncoding.Decode(b, data)
	if err != nil {
		return nil, err
	}
	b = b[:n]
	if len(b) < 3 || b[0] != 0x1f || b[1] != 0x8b {
		// Helm once wrote records without compression.
		return decodePlain(b)
	}
	members := bytes.NewReader(b)
	z, err := gzip.NewReader(members)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	text, err := readAll(z)
	if err != nil {
		return nil, err
	}
	rest := b[len(b)-members.Len():]
	if len(rest) == 0 {
		return decodePlain(text)
	}
	if err := z.Reset(bytes.NewReader(rest)); err != nil {
		return nil, err
	}
	if z.Comment != chartMember {
		more, err := readAll(z)
		if err != nil {
			return nil, err
		}
		return decodePlain(append(text, more...))
	}
	metadata, err := chartMetadata(io.LimitReader(z, maxDecoded))
	if err != nil {
		return nil, err
	}
	rel := &release.Release{}
	if err := json.Unmarshal(append(text, '}'), rel); err != nil {
		return nil, err
	}
	rel.Chart = &chart.Chart{Metadata: metadata}
	return checked(&record{release: rel, chart: bytes.Clone(rest)})
}

// chartMetadata reads no more of a chart than it needs.
func chartMetadata(r io.Reader) (*chart.Metadata, error) {
	if _, err := io.CopyN(io.Discard, r, int64(len(`,"chart":`))); err != nil {
		return nil, err
	}
	d := json.NewDecoder(r)
	switch t, err := d.Token(); {
	case err != nil:
		return nil, err
	case t == nil:
		return nil, nil
	case t != json.Delim('{'):
		return nil, errors.New("the chart is no object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		if key == "metadata" {
			var m *chart.Metadata
			err := d.Decode(&m)
			return m, err
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func decodePlain(text []byte) (*record, error) {
	var parts struct {
		release.Release
		Chart json.RawMessage `json:"chart"`
	}
	if err := json.Unmarshal(text, &parts); err != nil {
		return nil, err
	}
	var c partialChart
	if len(parts.Chart) > 0 {
		if err := json.Unmarshal(parts.Chart, &c); err != nil {
			return nil, err
		}
	}
	rel := parts.Release
	rel.Chart = &chart.Chart{Metadata: c.Metadata}
	return checked(&record{release: &rel, raw: parts.Chart})
}

// checked refuses records without what everybody relies on.
func checked(r *record) (*record, error) {
	switch rel := r.release; {
	case rel.Info == nil:
		return nil, errors.New("the record has no info")
	case rel.Name == "":
		return nil, errors.New("the record has no name")
	case rel.Version <= 0:
		return nil, errors.New("the record has no version")
	}
	if r.release.Chart.Metadata == nil {
		r.release.Chart.Metadata = &chart.Metadata{}
	}
	for _, h := range r.release.Hooks {
		if h == nil {
			return nil, errors.New("the record has an empty hook")
		}
	}
	return r, nil
}

func readAll(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDecoded+1))
	if err == nil && len(text) > maxDecoded {
		err = fmt.Errorf("the record has more than %d bytes", maxDecoded)
	}
	return text, err
}
