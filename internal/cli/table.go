package cli

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table prints rows as 2.9 does: cells padded to the width of their column, each followed by a tab.
type table struct {
	header []string
	rows   []tableRow
	widths []int
}

// tableRow is a row, and lines that are printed below it.
type tableRow struct{ cells, below []string }

func newTable(header ...string) *table {
	t := &table{header: header, widths: make([]int, len(header))}
	t.measure(header)
	return t
}

func (t *table) measure(cells []string) {
	for i, c := range cells {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(c))
	}
}

// add appends a row with as many cells as the header.
func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = oneLine(cells[i])
	}
	t.measure(cells)
	t.rows = append(t.rows, tableRow{cells: cells})
}

// below puts lines under the row added last, indented.
func (t *table) below(lines []string) { t.rows[len(t.rows)-1].below = lines }

// print writes the header, unless told not to, and all rows added since the last print.
func (t *table) print(w io.Writer, header bool) error {
	var b strings.Builder
	if header {
		t.row(&b, t.header)
	}
	for _, r := range t.rows {
		t.row(&b, r.cells)
		for _, line := range r.below {
			b.WriteString("    " + line + "\n")
		}
	}
	t.rows = nil
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) row(b *strings.Builder, cells []string) {
	for i, c := range cells {
		b.WriteString(c)
		b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(c)))
		b.WriteByte('\t')
	}
	b.WriteByte('\n')
}
