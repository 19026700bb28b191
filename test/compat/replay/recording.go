package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"
)

// Recording is one scenario: what was done to a cluster and what an observer then saw.
type Recording struct {
	Name       string                     `json:"name"`
	Namespace  string                     `json:"namespace"`
	Namespaces []string                   `json:"namespaces,omitempty"`
	Rules      string                     `json:"rules,omitempty"`
	Input      map[string]json.RawMessage `json:"input"`
	Steps      []Step                     `json:"steps"`
	Observed   map[string]map[string]any  `json:"observed"`
}

// Kind is the folder of the recording: the toolkit kind it is about.
func (r *Recording) Kind() string {
	kind, _, _ := strings.Cut(r.Name, "/")
	return kind
}

// AllNamespaces lists the recording's namespaces, its own first.
func (r *Recording) AllNamespaces() []string {
	return append([]string{r.Namespace}, r.Namespaces...)
}

// Step is one action. Exactly one verb field is set; the others refine it.
type Step struct {
	Commit          string `json:"commit,omitempty"`
	Bundle          string `json:"bundle,omitempty"`
	Push            string `json:"push,omitempty"`
	Serve           string `json:"serve,omitempty"`
	EmptyRepository string `json:"emptyRepository,omitempty"`
	Apply           string `json:"apply,omitempty"`
	Patch           string `json:"patch,omitempty"`
	Delete          string `json:"delete,omitempty"`
	Wait            string `json:"wait,omitempty"`
	Sleep           string `json:"sleep,omitempty"`
	Snapshot        string `json:"snapshot,omitempty"`
	HTTP            *HTTP  `json:"http,omitempty"`
	// GitLog looks at a repository.
	GitLog *GitLog `json:"gitlog,omitempty"`
	// EditHelmRelease and CreateHelmRelease name a Helm storage Secret.
	EditHelmRelease   string `json:"editHelmRelease,omitempty"`
	CreateHelmRelease string `json:"createHelmRelease,omitempty"`

	FieldManager string         `json:"fieldManager,omitempty"`
	Rejected     []string       `json:"rejected,omitempty"`
	With         map[string]any `json:"with,omitempty"`
	Until        map[string]any `json:"until,omitempty"`
	Timeout      Duration       `json:"timeout,omitempty"`
	Answer       *Answer        `json:"answer,omitempty"`
	// From is the storage Secret whose release CreateHelmRelease copies.
	From string `json:"from,omitempty"`

	// unknown names a verb this replayer does not speak.
	unknown string
}

// HTTP is a request to the system under test.
type HTTP struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Body    string            `json:"body,omitempty"`
}

// Answer is what came back on an HTTP step.
type Answer struct {
	Code int    `json:"code"`
	Body string `json:"body"`
}

// Duration is a Go duration written as text.
type Duration time.Duration

// UnmarshalJSON reads "90s".
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("reading a duration: %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("reading a duration: %w", err)
	}
	*d = Duration(v)
	return nil
}

// verbs are the actions this replayer performs; anything else is reported by name when it is reached.
func verbs() []string {
	return []string{"commit", "bundle", "push", "serve", "emptyRepository", "apply", "patch", "delete", "wait", "sleep", "snapshot", "http",
		"editHelmRelease", "createHelmRelease", "gitlog"}
}

// UnmarshalJSON reads a step and remembers a verb it does not know.
func (s *Step) UnmarshalJSON(b []byte) error {
	type plain Step
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return fmt.Errorf("reading a step: %w", err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return fmt.Errorf("reading a step: %w", err)
	}
	known := 0
	for _, v := range verbs() {
		if _, ok := keys[v]; ok {
			known++
			delete(keys, v)
		}
	}
	if known == 1 {
		return nil
	}
	left := make([]string, 0, len(keys))
	for k := range keys {
		left = append(left, k)
	}
	sort.Strings(left)
	s.unknown = strings.Join(left, ", ")
	return nil
}

// String names the step in messages.
func (s *Step) String() string {
	for _, v := range [][2]string{
		{"commit", s.Commit}, {"bundle", s.Bundle}, {"push", s.Push}, {"serve", s.Serve}, {"emptyRepository", s.EmptyRepository}, {"apply", s.Apply},
		{"patch", s.Patch}, {"delete", s.Delete}, {"wait", s.Wait}, {"sleep", s.Sleep}, {"snapshot", s.Snapshot},
		{"editHelmRelease", s.EditHelmRelease}, {"createHelmRelease", s.CreateHelmRelease},
	} {
		if v[1] != "" {
			return v[0] + " " + v[1]
		}
	}
	if s.GitLog != nil {
		return "gitlog " + s.GitLog.Repo
	}
	if s.HTTP != nil {
		return "http " + s.HTTP.Method + " " + s.HTTP.URL
	}
	return s.unknown
}

// Read parses one recording.
func Read(path string) (*Recording, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the recording: %w", err)
	}
	r := &Recording{}
	if err := decode(b, r); err != nil {
		return nil, fmt.Errorf("parsing the recording %s: %w", path, err)
	}
	if r.Name == "" || r.Namespace == "" || len(r.Steps) == 0 {
		return nil, fmt.Errorf("parsing the recording %s: name, namespace and steps must be set", path)
	}
	return r, nil
}

// decode reads YAML by the 1.2 rules, where a key or message "n" or "off" is a text: the recordings
// were written so, and the decoder of the Kubernetes libraries would make booleans of them.
func decode(b []byte, into any) error {
	var tree any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		return err
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	return json.Unmarshal(asJSON, into)
}

// ReadDir parses every recording below dir, sorted by name.
func ReadDir(dir string) ([]*Recording, error) {
	var all []*Recording
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		r, err := Read(path)
		if err != nil {
			return err
		}
		all = append(all, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading recordings: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("reading recordings: no recording below " + dir)
	}
	return all, nil
}
