package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/receiver"
)

// table is a part of a page that is written from a registry of the program.
type table struct {
	// name is between the marks that enclose the part.
	name string
	// page is its path below docs.
	page string
	// text returns the part, which ends with a line break. It fails when the registry tells too little.
	text func() (string, error)
}

func tables() []table {
	return []table{
		{"providers", "provider.md", func() (string, error) { return providerTables(provider.Types()) }},
		{"receivers", "receiver.md", func() (string, error) { return receiverTable(receiver.Types()) }},
	}
}

// writeTables replaces the parts of the pages in dir. A page that is already as it should be is not touched.
func writeTables(dir string) error {
	for _, t := range tables() {
		file := filepath.Join(dir, t.page)
		before, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read page: %w", err)
		}
		text, err := t.text()
		if err != nil {
			return fmt.Errorf("table of %s: %w", t.name, err)
		}
		after, err := replacePart(before, t.name, text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if bytes.Equal(before, after) {
			continue
		}
		if err := os.WriteFile(file, after, 0o644); err != nil {
			return fmt.Errorf("write page: %w", err)
		}
	}
	return nil
}

// replacePart puts text between the two marks of a name, each of which is a line of the page.
func replacePart(page []byte, name, text string) ([]byte, error) {
	begin := fmt.Sprintf("<!-- begin: %s, written by `make generate` -->\n", name)
	end := fmt.Sprintf("<!-- end: %s -->\n", name)
	head, rest, begun := strings.Cut(string(page), begin)
	old, tail, ended := strings.Cut(rest, end)
	if !begun || !ended || strings.Contains(old+tail, begin) || strings.Contains(tail, end) {
		return nil, fmt.Errorf("wants the lines %q and %q once each, in this order", begin, end)
	}
	return []byte(head + begin + "\n" + text + "\n" + end + tail), nil
}

// groups are the sorts of services in the order of the page.
func groups() []provider.Group {
	return []provider.Group{
		provider.Chat, provider.Incident, provider.Observability, provider.Bus, provider.Webhook, provider.CommitStatus, provider.Comment,
	}
}

// providerTables has a heading and a table for each sort of service.
func providerTables(types []provider.Type) (string, error) {
	byGroup := map[provider.Group][][]string{}
	for _, t := range types {
		if t.Title == "" {
			return "", fmt.Errorf("the type '%s' has no title", t.Name)
		}
		byGroup[t.Group] = append(byGroup[t.Group], []string{"`" + t.Name + "`", t.Title, t.Address, t.Channel, t.Secret})
	}
	var parts []string
	rows := 0
	for _, g := range groups() {
		if len(byGroup[g]) == 0 {
			continue
		}
		rows += len(byGroup[g])
		parts = append(parts, fmt.Sprintf("### %s\n\n%s", g, markdown([]string{"`type`", "Service", "`address`", "`channel`", "Secret"}, byGroup[g])))
	}
	if rows != len(types) {
		return "", fmt.Errorf("%d of %d types are of no group that the page has", len(types)-rows, len(types))
	}
	return strings.Join(parts, "\n"), nil
}

// receiverTable has a line for each sort of sender.
func receiverTable(types []receiver.Type) (string, error) {
	var rows [][]string
	for _, t := range types {
		if t.Title == "" || t.Proof == "" {
			return "", fmt.Errorf("the type '%s' has no title, or does not say what proves a call", t.Name)
		}
		event := ""
		if t.Events != "" {
			event = "`" + t.Events + "`"
		}
		rows = append(rows, []string{"`" + t.Name + "`", t.Title, t.Proof, event, receiverSecret(t)})
	}
	return markdown([]string{"`type`", "Sender", "Proof of a call", "Event", "Secret"}, rows), nil
}

// receiverSecret says which keys of the Secret a type needs.
func receiverSecret(t receiver.Type) string {
	switch {
	case t.OIDC:
		return "none"
	case t.NoSecret:
		return "`token`, for the path alone"
	}
	keys := "`token`"
	for _, key := range t.SecretKeys {
		keys += ", `" + key + "`"
	}
	return keys
}

// markdown returns a table.
func markdown(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		for _, cell := range cells {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	line(head)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return b.String()
}
