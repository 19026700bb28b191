package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"

	sops "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
	yamlv3 "go.yaml.in/yaml/v3"
)

// Format is how content is written.
type Format int

// The formats of SOPS. Binary is the zero value: what has no known extension.
const (
	Binary Format = iota
	Dotenv
	INI
	JSON
	YAML
)

func (f Format) String() string {
	return map[Format]string{Binary: "binary", Dotenv: "dotenv", INI: "ini", JSON: "json", YAML: "yaml"}[f]
}

// FormatOf returns the format that the extension of a name stands for (kustomization 45).
func FormatOf(name string) Format {
	if path.Base(name) == ".dockerconfigjson" {
		return JSON
	}
	switch path.Ext(name) {
	case ".yaml", ".yml":
		return YAML
	case ".json":
		return JSON
	case ".env":
		return Dotenv
	case ".ini":
		return INI
	}
	return Binary
}

// marks tell content that SOPS has encrypted: the message authentication code, in the spelling of the format.
var marks = map[Format]*regexp.Regexp{
	Dotenv: regexp.MustCompile(`(?m)^sops_mac=ENC\[`),
	JSON:   regexp.MustCompile(`"mac"\s*:\s*"ENC\[`),
	INI:    regexp.MustCompile(`(?m)^mac\s*=\s*\W?ENC\[`),
	YAML:   regexp.MustCompile(`(?m)^\s*"?mac"?\s*:\s*["']?ENC\[`),
}

// Detect tells in which format content is encrypted; false means that SOPS has not encrypted it. Binary content is
// wrapped in JSON and cannot be told from it: the name decides.
func Detect(content []byte) (Format, bool) {
	if !bytes.Contains(content, []byte("ENC[")) {
		return Binary, false
	}
	for _, f := range []Format{JSON, Dotenv, INI, YAML} {
		if marks[f].Match(content) {
			return f, true
		}
	}
	return Binary, false
}

// store returns what reads and writes a format, with the defaults of the sops command.
func (f Format) store() sops.Store {
	c := config.NewStoresConfig()
	switch f {
	case Dotenv:
		return dotenv.NewStore(&c.Dotenv)
	case INI:
		return ini.NewStore(&c.INI)
	case JSON:
		return sopsjson.NewStore(&c.JSON)
	case YAML:
		return yaml.NewStore(&c.YAML)
	}
	return sopsjson.NewBinaryStore(&c.JSONBinary)
}

var (
	errAlias    = errors.New("the file has YAML aliases, which SOPS never writes")
	errDepth    = fmt.Errorf("the file is nested deeper than %d levels", maxDepth)
	errMetadata = errors.New("the file has metadata of SOPS more than once, or too much of it")
)

const (
	// maxDepth bounds the nesting of content: the library follows it by recursion.
	maxDepth = 100
	// maxMetadata bounds the lines of metadata in a dotenv file: the time of the library grows with their square.
	maxMetadata = 10_000
)

// guard refuses content that would exhaust the process while the library reads it.
func (f Format) guard(content []byte) error {
	switch f {
	case YAML:
		return guardYAML(content)
	case JSON, Binary:
		return guardJSON(content)
	}
	return guardFlat(content)
}

// guardFlat looks at the keys of dotenv and INI, which hold the place of a value in the metadata.
func guardFlat(content []byte) error {
	metadata := 0
	for line := range bytes.Lines(content) {
		if bytes.HasPrefix(line, []byte("sops_")) {
			metadata++
		}
		if metadata > maxMetadata {
			return errMetadata
		}
		if bytes.Count(line, []byte("__map_"))+bytes.Count(line, []byte("__list_")) > maxDepth {
			return errDepth
		}
	}
	return nil
}

// guardYAML leaves mistakes to the library, which words them.
func guardYAML(content []byte) error {
	decoder := yamlv3.NewDecoder(bytes.NewReader(content))
	for {
		var doc yamlv3.Node
		if err := decoder.Decode(&doc); err != nil {
			return nil
		}
		if err := guardNode(&doc, 0); err != nil {
			return err
		}
		if metadataKeys(&doc) > 1 {
			return errMetadata
		}
	}
}

// metadataKeys counts how often a document has the field sops.
func metadataKeys(doc *yamlv3.Node) (n int) {
	for _, root := range doc.Content {
		for i := 0; i < len(root.Content); i += 2 {
			if root.Kind == yamlv3.MappingNode && root.Content[i].Value == "sops" {
				n++
			}
		}
	}
	return n
}

func guardNode(n *yamlv3.Node, depth int) error {
	if n.Kind == yamlv3.AliasNode {
		return errAlias
	}
	if depth > maxDepth {
		return errDepth
	}
	for _, child := range n.Content {
		if err := guardNode(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func guardJSON(content []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	depth := 0
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxDepth {
			return errDepth
		}
	}
}
