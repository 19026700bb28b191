package chartfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
)

// BOM is the byte order mark that editors put before YAML, and that YAML parsers stumble over (helmchart 22).
const BOM = "\xef\xbb\xbf"

// Budget is what is left of the limits while a chart is read.
type Budget struct {
	limits  Limits
	bytes   int64
	entries int
}

// NewBudget returns the budget of one chart.
func NewBudget(l Limits) *Budget { return &Budget{limits: l, bytes: l.Bytes, entries: l.Entries} }

func tooLarge(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrTooLarge)...)
}

// Entry accounts for a file or directory. Its error is ErrTooLarge.
func (b *Budget) Entry(name string) error {
	if b.entries--; b.entries < 0 {
		return tooLarge("it has more than %d files", b.limits.Entries)
	}
	if len(name) > b.limits.PathBytes || strings.Count(name, "/") >= b.limits.Depth {
		return tooLarge("path '%.64s...' is longer than %d bytes or %d levels", name, b.limits.PathBytes, b.limits.Depth)
	}
	return nil
}

// Read returns the content of a file. Its error is ErrTooLarge, or that of r.
func (b *Budget) Read(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, min(b.bytes, b.limits.FileBytes)+1))
	switch n := int64(len(data)); {
	case err != nil:
		return nil, fmt.Errorf("reading '%s': %w", name, err)
	case n > b.limits.FileBytes:
		return nil, tooLarge("file '%s' is larger than %d bytes (--helm-chart-file-max-size)", name, b.limits.FileBytes)
	case n > b.bytes:
		return nil, tooLarge("it unpacks to more than %d bytes", b.limits.Bytes)
	default:
		b.bytes -= n
	}
	return data, nil
}

// Add appends a file of the chart, after a look into the archives it may have vendored: Helm unpacks those on its own.
func (b *Budget) Add(ctx context.Context, files []*archive.BufferedFile, name string, data []byte) ([]*archive.BufferedFile, error) {
	return b.add(ctx, files, name, data, 0)
}

func (b *Budget) add(ctx context.Context, files []*archive.BufferedFile, name string, data []byte, nesting int) ([]*archive.BufferedFile, error) {
	if vendored(name) {
		if _, err := b.archive(ctx, bytes.NewReader(data), nesting+1); err != nil {
			return nil, fmt.Errorf("in '%s': %w", name, err)
		}
	}
	return append(files, &archive.BufferedFile{Name: name, Data: bytes.TrimPrefix(data, []byte(BOM))}), nil
}

// vendored reports whether Helm takes a file for the archive of a subchart: charts/a.tgz, or charts/b/charts/a.tgz.
func vendored(name string) bool {
	parts := strings.Split(name, "/")
	if len(parts)%2 != 0 || path.Ext(name) != ".tgz" {
		return false
	}
	for i := 0; i < len(parts); i += 2 {
		if parts[i] != "charts" || strings.IndexAny(parts[i+1], "_.") == 0 {
			return false
		}
	}
	return true
}

// Archive reads the files of a chart archive. The names are relative to the chart's directory. Errors are ErrTooLarge, those of r and ctx, or
// about an archive that no chart has.
func (b *Budget) Archive(ctx context.Context, r io.Reader) ([]*archive.BufferedFile, error) {
	return b.archive(ctx, r, 0)
}

func (b *Budget) archive(ctx context.Context, r io.Reader, nesting int) ([]*archive.BufferedFile, error) {
	if nesting > b.limits.Nesting {
		return nil, tooLarge("charts are vendored in each other more than %d times", b.limits.Nesting)
	}
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("the archive is not a gzipped tar: %w", err)
	}
	// A tar header that was never seen still costs time: what lies between the entries counts as well.
	unzipped := &io.LimitedReader{R: zipped, N: b.bytes + int64(b.entries+1)*1024}
	entries := tar.NewReader(unzipped)
	var files []*archive.BufferedFile
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		header, err := entries.Next()
		switch {
		case unzipped.N <= 0:
			return nil, tooLarge("it unpacks to more than %d bytes", b.limits.Bytes)
		case errors.Is(err, io.EOF):
			if len(files) == 0 {
				return nil, errors.New("there are no files in the archive")
			}
			return files, nil
		case err != nil:
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
		if err := b.Entry(header.Name); err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg {
			// Directories follow from the files; a link in an archive has nowhere safe to lead to.
			continue
		}
		name, err := entryName(header.Name)
		if err != nil {
			return nil, err
		}
		data, err := b.Read(name, entries)
		if err != nil {
			return nil, err
		}
		if files, err = b.add(ctx, files, name, data, nesting); err != nil {
			return nil, err
		}
	}
}

// entryName strips the chart's directory from the name of a tar entry.
func entryName(raw string) (string, error) {
	dir, name, below := strings.Cut(strings.ReplaceAll(raw, "\\", "/"), "/")
	switch {
	case !below && dir == "Chart.yaml":
		return "", errors.New("Chart.yaml is not in a directory named like the chart")
	case dir == "." && strings.Contains(name, "/"):
		return entryName(name)
	}
	clean := path.Clean(name)
	if !below || dir == "" || !fs.ValidPath(clean) || clean == "." || strings.Contains(clean, ":/") {
		return "", fmt.Errorf("the archive holds '%.128s', which lies outside of the chart", raw)
	}
	return clean, nil
}
