package replay

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// Vars maps the placeholders of a recording, without the ${}, to what they stand for in this run.
type Vars map[string]string

// Expand replaces the known placeholders and leaves every other ${..} alone: those belong to the
// manifests. A multi-line value is indented like the line that names it.
func (v Vars) Expand(s string) string {
	placeholder := regexp.MustCompile(`(?m)^([ \t]*)?\$\{([A-Z_]+)\}|\$\{([A-Z_]+)\}`)
	return placeholder.ReplaceAllStringFunc(s, func(m string) string {
		sub := placeholder.FindStringSubmatch(m)
		indent, key := sub[1], sub[2]+sub[3]
		value, ok := v[key]
		if !ok {
			return m
		}
		return indent + strings.ReplaceAll(strings.TrimRight(value, "\n"), "\n", "\n"+indent)
	})
}

type commitInput struct {
	Repo         string                     `json:"repo"`
	Branch       string                     `json:"branch"`
	Message      string                     `json:"message"`
	Files        map[string]json.RawMessage `json:"files"`
	Tag          string                     `json:"tag,omitempty"`
	AnnotatedTag string                     `json:"annotatedTag,omitempty"`
}

type bundleInput struct {
	Repo   string `json:"repo"`
	Base64 string `json:"base64"`
}

type ociInput struct {
	Ref         string            `json:"ref"`
	ConfigType  string            `json:"configType"`
	Annotations map[string]string `json:"annotations"`
	Layers      []struct {
		MediaType string            `json:"mediaType"`
		Files     map[string]string `json:"files,omitempty"`
		Raw       string            `json:"raw,omitempty"`
	} `json:"layers"`
	Tags []string `json:"tags"`
}

type fileInput struct {
	Path string            `json:"path"`
	Text string            `json:"text,omitempty"`
	Tgz  map[string]string `json:"tgz,omitempty"`
}

// input decodes the entry called key.
func (r *Recording) input(key string, into any) error {
	raw, ok := r.Input[key]
	if !ok {
		return fmt.Errorf("the recording has no input %q", key)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decoding input %q: %w", key, err)
	}
	return nil
}

// commit decodes a commit-N entry.
func (r *Recording) commit(key string, vars Vars) (repo string, c testkit.GitCommit, err error) {
	var in commitInput
	if err := r.input(key, &in); err != nil {
		return "", c, err
	}
	c = testkit.GitCommit{Branch: in.Branch, Message: in.Message, Tag: in.Tag, AnnotatedTag: in.AnnotatedTag, Files: map[string]*testkit.GitFile{}}
	for path, raw := range in.Files {
		file, err := commitFile(raw, vars)
		if err != nil {
			return "", c, fmt.Errorf("decoding %s of input %q: %w", path, key, err)
		}
		c.Files[path] = file
	}
	return in.Repo, c, nil
}

func commitFile(raw json.RawMessage, vars Vars) (*testkit.GitFile, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	if raw[0] == '"' {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, err
		}
		return &testkit.GitFile{Content: vars.Expand(text)}, nil
	}
	var f struct{ Content, Mode, Symlink string }
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	return &testkit.GitFile{Content: vars.Expand(f.Content), Executable: f.Mode == "755", Symlink: f.Symlink}, nil
}

// bundle decodes a bundle-N entry.
func (r *Recording) bundle(key string) (repo string, content []byte, err error) {
	var in bundleInput
	if err := r.input(key, &in); err != nil {
		return "", nil, err
	}
	content, err = base64.StdEncoding.DecodeString(in.Base64)
	if err != nil {
		return "", nil, fmt.Errorf("decoding input %q: %w", key, err)
	}
	return in.Repo, content, nil
}

// image decodes and builds an oci-N entry; ref is relative to the namespace's part of the registry.
func (r *Recording) image(key string, vars Vars) (ref string, tags []string, img v1.Image, err error) {
	var in ociInput
	if err := r.input(key, &in); err != nil {
		return "", nil, nil, err
	}
	layers := make([]testkit.Layer, len(in.Layers))
	for i, l := range in.Layers {
		layers[i] = testkit.Layer{MediaType: l.MediaType, Raw: vars.Expand(l.Raw), Files: expandAll(l.Files, vars)}
	}
	img, err = testkit.BuildImage(in.ConfigType, in.Annotations, layers)
	if err != nil {
		return "", nil, nil, fmt.Errorf("building input %q: %w", key, err)
	}
	return in.Ref, in.Tags, img, nil
}

// file decodes a file-N entry.
func (r *Recording) file(key string, vars Vars) (path string, content []byte, err error) {
	var in fileInput
	if err := r.input(key, &in); err != nil {
		return "", nil, err
	}
	if in.Tgz == nil {
		return in.Path, []byte(vars.Expand(in.Text)), nil
	}
	content, err = testkit.TarGzip(expandAll(in.Tgz, vars))
	if err != nil {
		return "", nil, fmt.Errorf("packing input %q: %w", key, err)
	}
	return in.Path, content, nil
}

// manifest decodes a manifest-N entry into objects.
func (r *Recording) manifest(key string, vars Vars) ([]map[string]any, error) {
	var text string
	if err := r.input(key, &text); err != nil {
		return nil, err
	}
	return parseDocuments(vars.Expand(text))
}

func parseDocuments(text string) ([]map[string]any, error) {
	var objects []map[string]any
	// The recordings' writer read 40 digits as a string, as YAML 1.2's core schema does not; a commit hash may be such digits.
	text = regexp.MustCompile(`(?m)(: )(\d{40})$`).ReplaceAllString(text, `$1"$2"`)
	for _, doc := range regexp.MustCompile(`(?m)^---\s*$`).Split(text, -1) {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			return nil, fmt.Errorf("parsing a manifest: %w", err)
		}
		if len(o) > 0 {
			objects = append(objects, o)
		}
	}
	return objects, nil
}

func expandAll(files map[string]string, vars Vars) map[string]string {
	if files == nil {
		return nil
	}
	out := make(map[string]string, len(files))
	for k, v := range files {
		out[k] = vars.Expand(v)
	}
	return out
}
