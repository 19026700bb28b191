package helmrepo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const demoIndex = `apiVersion: v1
generated: "2026-01-01T00:00:00Z"
entries:
  demo:
  - apiVersion: v2
    name: demo
    version: 1.0.0
    appVersion: "1.0"
    created: "2026-01-01T00:00:00Z"
    urls:
    - demo-1.0.0.tgz
  - apiVersion: v2
    name: demo
    version: 1.1.0
    appVersion: "1.0"
    created: "2026-01-02T00:00:00Z"
    urls:
    - demo-1.1.0.tgz
`

func stored(t testing.TB, index string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	var out bytes.Buffer
	err := WriteJSON(t.Context(), &out, strings.NewReader(index), dir, DefaultLimits())
	left, readErr := os.ReadDir(dir)
	if readErr != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v (%v)", left, readErr)
	}
	return out.String(), err
}

func mustParse(t testing.TB, index string) *Index {
	t.Helper()
	parsed, err := Parse(t.Context(), strings.NewReader(index), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// helmrepository 18: the stored index is that of 2.9, byte for byte; the digest is the recorded one.
func TestStoredIndex(t *testing.T) {
	out, err := stored(t, demoIndex)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(out))
	if is := hex.EncodeToString(sum[:]); is != "fb192c4de69c5ad6d0d697eacb304d7431cf26d4c304877169b81478f50f9aef" || len(out) != 550 {
		t.Errorf("stored %d bytes of digest %s:\n%s", len(out), is, out)
	}
	again, err := stored(t, out)
	if err != nil || again != out {
		t.Errorf("what was stored is stored otherwise (%v):\n%s", err, again)
	}
}

// compact drops white space and what every version has.
func compact(s string) string {
	for _, drop := range []string{"\n", " ", `"urls":null,`, `"created":"0001-01-01T00:00:00Z"`, `"apiVersion":"v2",`, `"apiVersion":"v1",`, `"generated":"0001-01-01T00:00:00Z",`} {
		s = strings.ReplaceAll(s, drop, "")
	}
	return strings.ReplaceAll(s, ",}", "}")
}

// What is stored of an index, in any of the forms YAML has for it.
func TestStore(t *testing.T) {
	for _, test := range []struct{ name, index, want string }{
		{"no entries", "apiVersion: v1\n", `{"entries":null}`},
		{"null entries", "apiVersion: v1\nentries:\n", `{"entries":null}`},
		{"empty entries", "apiVersion: v1\nentries: {}\n", `{"entries":{}}`},
		{"JSON", `{"apiVersion":"v1","entries":{"b":[{"name":"b","version":"1.0.0"}],"a":null,"c":[]}}`,
			`{"entries":{"a":null,"b":[{"name":"b","version":"1.0.0"}],"c":[]}}`},
		{"flow", "{apiVersion: v1, entries: {b: [{name: b, version: 1.0.0}]}}", `{"entries":{"b":[{"name":"b","version":"1.0.0"}]}}`},
		{"flow in lines", "apiVersion: v1\nentries:\n  b: [\n  {name: b,\n  version: 1.0.0}\n  ]\n  c: []\n  d: null\n  e:\n",
			`{"entries":{"b":[{"name":"b","version":"1.0.0"}],"c":[],"d":null,"e":null}}`},
		{"all fields", "annotations: {a: b}\npublicKeys:\n- key\nserverInfo: {contextPath: x}\napiVersion: v1\n",
			`{"serverInfo":{"contextPath":"x"},"entries":null,"publicKeys":["key"],"annotations":{"a":"b"}}`},
		{"helmrepository 16: without apiVersion", "apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n",
			`{"entries":{"a":[{"name":"a","version":"1.0.0"}]}}`},
		{"helmrepository 16, 49: invalid versions", "apiVersion: v1\nentries:\n  a:\n  - version: 1.0.0\n  - name: a\n  - {}\n  - name: a\n    version: one\n  - name: a/../b\n    version: 1.0.0\n  b:\n  - name: b\n    version: 1.0.0\n    type: nonsense\n",
			`{"entries":{"a":[],"b":[]}}`},
		{"helmrepository 16: two dependencies of a name", "apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n    dependencies:\n    - {name: b}\n    - {name: b}\n  c:\n  - name: c\n    version: 1.0.0\n    dependencies: [{name: b, alias: '%'}]\n",
			`{"entries":{"a":[{"name":"a","version":"1.0.0","dependencies":[{"name":"b","repository":""},{"name":"b","repository":""}]}],"c":[]}}`},
		{"helmrepository 47, 48: null entries and order", "apiVersion: v1\nentries:\n  a:\n  -\n  - name: a\n    version: 1.0.0\n  - ~\n  - name: a\n    version: 1.10.0\n  - name: a\n    version: 1.9.0-rc.1\n  - name: a\n    version: 1.9.0\n",
			`{"entries":{"a":[{"name":"a","version":"1.10.0"},{"name":"a","version":"1.9.0"},{"name":"a","version":"1.9.0-rc.1"},{"name":"a","version":"1.0.0"},null,null]}}`},
		{"lists as deep as their chart", "apiVersion: v1\nentries:\n    b:\n    - name: b\n      version: 1.0.0\n    a:\n    - name: a\n      version: 1.0.0\n",
			`{"entries":{"a":[{"name":"a","version":"1.0.0"}],"b":[{"name":"b","version":"1.0.0"}]}}`},
		{"names of many kinds", "apiVersion: v1\nentries:\n  \"quoted\":\n  - name: a\n    version: 1.0.0\n  'single': # why\n  - name: b\n    version: 1.0.0\n  12:\n  - name: c\n    version: 1.0.0\n  yes: # too\n  - name: d\n    version: 1.0.0\n",
			`{"entries":{"12":[{"name":"c","version":"1.0.0"}],"quoted":[{"name":"a","version":"1.0.0"}],"single":[{"name":"b","version":"1.0.0"}],"true":[{"name":"d","version":"1.0.0"}]}}`},
		{"comments, documents and a byte order mark", "\xef\xbb\xbf# hello\n---\n# there\napiVersion: v1\n\nentries:\n# of\n  a:\n\n# all\n  - name: a\n# kinds\n    version: 1.0.0\n...\nanything: [\n",
			`{"entries":{"a":[{"name":"a","version":"1.0.0"}]}}`},
		{"block scalars", "apiVersion: v1\nentries:\n  a:\n  - description: |\n      - name: x\n\n      b:\n    name: a\n    version: 1.0.0\n",
			`{"entries":{"a":[{"name":"a","version":"1.0.0","description":"-name:xb:"}]}}`},
		{"a quoted scalar with lines like those of the index", "apiVersion: v1\nentries:\n  a:\n  - description: \"x\n  - y\n  b:\n  z\"\n    name: a\n    version: 1.0.0\n",
			`{"entries":{"a":[{"name":"a","version":"1.0.0","description":"x-yb:z"}]}}`},
		{"anchors", "apiVersion: v1\nentries:\n  a:\n  - &one\n    name: a\n    version: 1.0.0\n  b:\n  - *one\n",
			`{"entries":{"a":[{"name":"a","version":"1.0.0"}],"b":[{"name":"a","version":"1.0.0"}]}}`},
		{"a number for apiVersion", "apiVersion: 1\n", `{"apiVersion":"1","entries":null}`},
		{"a number for apiVersion in flow style", "{apiVersion: 1}", `{"apiVersion":"1","entries":null}`},
		{"carriage returns", strings.ReplaceAll("apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n", "\n", "\r\n"),
			`{"entries":{"a":[{"name":"a","version":"1.0.0"}]}}`},
		{"unknown fields of JSON", `{"apiVersion":"v1","more":[1],"entries":{"a":[{"name":"a","version":"1.0.0","more":{}}]}}`,
			`{"entries":{"a":[{"name":"a","version":"1.0.0"}]}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := stored(t, test.index)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, compact(out)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if again, err := stored(t, out); err != nil || again != out {
				t.Errorf("what was stored is stored otherwise (%v):\n%s", err, again)
			}
		})
	}
}

// helmrepository 15, 17, 46: what no index is. The texts are those of 2.9.
func TestRefusedIndexes(t *testing.T) {
	many := strings.Repeat("- name: demo\n    description: "+strings.Repeat("x", 1000)+"\n  ", 5_000)
	for _, test := range []struct{ name, index, want string }{
		{"empty", "", "empty index.yaml file"},
		{"space", "\n \n", "empty index.yaml file"},
		{"no apiVersion", "entries: {}\n", "no API version specified"},
		{"no apiVersion in JSON", "{}", "no API version specified"},
		{"not YAML", "not: [an index", "error converting YAML to JSON: yaml: line 1: did not find expected ',' or ']'"},
		{"a list", "- a\n", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type"},
		{"a string", "hello\n", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go value of type"},
		{"an unknown field", "apiVersion: v1\nentries: {}\nunknownField: x\n", `error unmarshaling JSON: while decoding JSON: json: unknown field "unknownField"`},
		{"an unknown field of a version", "apiVersion: v1\nentries:\n  a:\n  - name: a\n    verzion: 1.0.0\n", `json: unknown field "verzion"`},
		{"a field twice", "apiVersion: v1\nentries: {}\nentries: {}\n", `key "entries" already set in map`},
		{"a chart twice", "apiVersion: v1\nentries:\n  a: []\n  b:\n  - name: b\n    version: 1.0.0\n  a:\n", `key "a" already set in map`},
		{"a field of a version twice", "apiVersion: v1\nentries:\n  a:\n  - name: a\n    name: a\n", `key "name" already set in map`},
		{"a chart twice in JSON", `{"apiVersion":"v1","entries":{"a":[],"a":[]}}`, `key "a" already set in map`},
		{"a wrong type in JSON", `{"apiVersion":"v1","entries":{"a":[{"name":1}]}}`, "json: cannot unmarshal number into Go struct field"},
		{"half of JSON", `{"apiVersion":"v1","entries":{"a":[{"name":"a"`, "error converting YAML to JSON"},
		{"a number where a string belongs", "apiVersion: v1\nentries:\n  a:\n  - name: a\n    appVersion: 1.10\n", "json: cannot unmarshal number into Go struct field"},
		{"entries in a list", "apiVersion: v1\nentries:\n- a\n", "json: cannot unmarshal array into Go struct field"},
		{"versions in a map", "apiVersion: v1\nentries:\n  a:\n    name: a\n", "json: cannot unmarshal object into Go struct field"},
		{"crooked", "apiVersion: v1\nentries:\n  a:\n  - name: a\n b:\n", "error converting YAML to JSON"},
		{"tabs", "apiVersion: v1\nentries:\n\ta:\n", "error converting YAML to JSON"},
		{"a large one with a mistake", "apiVersion: v1\nentries:\n  demo:\n  " + many + "- name: [\n", "in the part that begins in line 10004: error converting YAML to JSON: yaml: line"},
		{"a large one that cannot be cut", "apiVersion: v1\nentries:\n  demo: [\n" + strings.Repeat("    {name: demo, version: 1.0.0},\n", 200_000) + "  ]\n", "the part of the index in line 30844 is larger than 1048576 bytes"},
		{"an endless alias", "apiVersion: v1\nentries:\n  a: &a\n  - dependencies: *a\n", "with its aliases resolved the YAML is larger than 1048576 bytes"},
		{"a bomb of aliases", aliasBomb(), "with its aliases resolved the YAML is larger than 1048576 bytes"},
		{"a large version in JSON", `{"apiVersion":"v1","entries":{"a":[{"name":"` + strings.Repeat("a", 2<<20) + `"}]}}`, "one entry of the index is larger than 1048576 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := stored(t, test.index)
			if err == nil {
				t.Fatalf("stored:\n%s", out)
			}
			if !strings.HasPrefix(err.Error(), test.want) && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q", err, test.want)
			}
			if !errors.Is(err, ErrIndex) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("error without a property: %v", err)
			}
		})
	}
}

// errReader fails after some bytes.
type errReader struct {
	r   *strings.Reader
	err error
}

func (e errReader) Read(b []byte) (int, error) {
	if e.r.Len() == 0 {
		return 0, e.err
	}
	return e.r.Read(b)
}

// A failure to read, and the end of the context, are not taken for mistakes of the index.
func TestReadingFails(t *testing.T) {
	broken := errors.New("the disk is broken")
	for name, index := range map[string]string{"YAML": demoIndex, "JSON": `{"apiVersion":"v1","entries":{"a":[`} {
		_, err := Parse(t.Context(), errReader{strings.NewReader(index), broken}, DefaultLimits())
		if !errors.Is(err, broken) || errors.Is(err, ErrIndex) {
			t.Errorf("%s: error %v, want %v", name, err, broken)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, index := range map[string]string{"YAML": demoIndex, "JSON": `{"apiVersion":"v1","entries":{"a":[{"name":"a"}]}}`, "whole": "{apiVersion: v1, entries: {a: [{name: a}]}}"} {
		if _, err := Parse(ctx, strings.NewReader(index), DefaultLimits()); !errors.Is(err, context.Canceled) || errors.Is(err, ErrIndex) {
			t.Errorf("%s: error %v, want %v", name, err, context.Canceled)
		}
	}
}

// The limits hold for the whole index, and the error names them (catalogue 009).
func TestLimits(t *testing.T) {
	for want, limits := range map[string]Limits{
		"the index has more than 1 versions":                                                   {IndexBytes: 1 << 20, EntryBytes: 1 << 20, WholeBytes: 1 << 20, Versions: 1},
		"the index is larger than 100 bytes: raise --helm-index-max-size if it is meant to be": {IndexBytes: 100, EntryBytes: 1 << 20, WholeBytes: 1 << 20, Versions: 10},
	} {
		_, err := Parse(t.Context(), strings.NewReader(demoIndex), limits)
		if !errors.Is(err, ErrTooLarge) || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// helmchart 11, 12; helmrepository 47, 48: which version is found.
func TestFind(t *testing.T) {
	index := mustParse(t, `
apiVersion: v1
entries:
  demo:
  - {name: demo, version: 1.2.0, urls: [a.tgz, b.tgz], digest: abc, created: "2026-01-01T00:00:00Z"}
  -
  - {name: demo, version: 1.10.0}
  - {name: demo, version: 2.0.0-rc.1}
  - {name: demo, version: v1.3.0}
  - {name: demo, version: 1.4.0+old, created: "2026-01-01T00:00:00Z"}
  - {name: demo, version: 1.4.0+new, created: "2026-01-03T00:00:00Z"}
  - {name: demo, version: 1.4.0+mid, created: "2026-01-02T00:00:00Z"}
  - {name: demo, version: "3.0"}
  - {name: demo, version: "3"}
  pre:
  - {name: pre, version: 0.1.0-alpha.1}
  none: []
`)
	for _, test := range []struct{ chart, version, want string }{
		{"demo", "", "1.10.0"},
		{"demo", "*", "1.10.0"},
		{"demo", "1.2.0", "1.2.0"},
		{"demo", "1.3.0", "v1.3.0"},
		{"demo", "v1.3.0", "v1.3.0"},
		{"demo", "1.2.x", "1.2.0"},
		{"demo", "~1.4.0", "1.4.0+new"},
		{"demo", "1.4.0+old", "1.4.0+old"},
		{"demo", ">=2.0.0-0", "2.0.0-rc.1"},
		{"demo", "^1", "1.10.0"},
		{"demo", "3.0", "3.0"},
	} {
		v, err := index.Find(test.chart, test.version)
		if err != nil || v.Version != test.want {
			t.Errorf("%s %q: found %v (%v), want %s", test.chart, test.version, v, err, test.want)
		}
	}
	v, err := index.Find("demo", "1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	want := &Version{Chart: "demo", Version: "1.2.0", URL: "a.tgz", Digest: "abc", Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		chart, version, want string
		property             error
	}{
		{"demo", "9.9.9", "no 'demo' chart with version matching '9.9.9' found", ErrNotFound},
		{"demo", ">=3.0.0", "no 'demo' chart with version matching '>=3.0.0' found", ErrNotFound},
		{"pre", "", "no 'pre' chart with version matching '*' found", ErrNotFound},
		{"none", "*", "no 'none' chart with version matching '*' found", ErrNotFound},
		{"other", "*", "no 'other' chart found", ErrNotFound},
		{"demo", "latest", "version 'latest' of chart 'demo': improper constraint: \"latest\"", ErrInvalidRange},
	} {
		_, err := index.Find(test.chart, test.version)
		if !errors.Is(err, test.property) || err.Error() != test.want {
			t.Errorf("%s %q: error %v, want %s", test.chart, test.version, err, test.want)
		}
	}
}

// inPieces and atOnce read an index in one of the two ways alone.
func inPieces(data []byte, v visitor) (*header, error) {
	if err := v.reset(); err != nil {
		return nil, err
	}
	s := &scanner{ctx: context.Background(), limits: DefaultLimits(), visitor: v}
	return s.yaml(bufio.NewReader(bytes.NewReader(data)))
}

func atOnce(data []byte, v visitor) (*header, error) {
	limits := DefaultLimits()
	s := &scanner{ctx: context.Background(), limits: limits, visitor: v}
	return s.whole(&replay{r: bytes.NewReader(data), limit: limits.IndexBytes, keep: limits.WholeBytes}, errUncut)
}

// journal is a visitor that writes down what it sees; charts come in any order from a map.
type journal struct {
	charts map[string][]string
	last   string
}

func (j *journal) reset() error {
	j.charts = map[string][]string{}
	return nil
}

func (j *journal) chart(name string, null bool) error {
	j.last = name
	j.charts[name] = []string{fmt.Sprint(null)}
	return nil
}

func (j *journal) version(e *entry) error {
	line := "null"
	if e != nil {
		data, err := encode(e, "")
		if err != nil {
			return err
		}
		line = string(data)
	}
	j.charts[j.last] = append(j.charts[j.last], line)
	return nil
}

// nextDocument matches where a document may end.
var nextDocument = regexp.MustCompile(`[^ -~](---|\.\.\.)`)

// Whatever can be read in pieces means the same when it is read at once.
func FuzzIndex(f *testing.F) {
	for _, seed := range []string{
		demoIndex, "apiVersion: v1\nentries:\n  a:\n  - {name: a, version: 1.0.0}\n  -\n  b: null\n", aliasBomb(),
		"apiVersion: v1\nentries:\n  a:\n  - name: \"a\n  - b\"\n    version: 1.0.0\n", "---\napiVersion: v1\n...\nx", "entries:\n  a:\n  - |\n   x\n  - ? y\n  'b': &x\n  - *x\n",
		"apiVersion: v1\r\nentries:\r\n a:\r\n -\r\n  name: a\r\n  version: 1.0.0\r\n", "{\"apiVersion\":\"v1\",\"entries\":{\"a\":[null,{}]}}", "entries:\n  <<: {a: []}\n  y:\n  n:\n",
		"entries:\n &a}  a:\n  - |\n   x\n", "entries:\n {a: []}\n  y:\n", "apiVersion: 1\nentries:\n\u0085  a:\r  -\u2028\u2029  - x\n", "entries:\n\t\n a:\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Nothing may panic or hang, whatever it is.
		if _, err := Parse(t.Context(), bytes.NewReader(data), DefaultLimits()); err != nil && !errors.Is(err, ErrIndex) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("an error without a property: %v", err)
		}
		if !utf8.Valid(data) || nextDocument.Match(data) {
			// At once, the decoder looks a little beyond the end of the document.
			return
		}
		pieces, whole := &journal{}, &journal{}
		h, err := inPieces(data, pieces)
		if err != nil {
			return
		}
		want, err := atOnce(data, whole)
		if err != nil {
			t.Fatalf("read in pieces, but not at once: %v", err)
		}
		if diff := cmp.Diff(want, h, cmp.AllowUnexported(header{})); diff != "" {
			t.Errorf("fields (-at once +in pieces):\n%s", diff)
		}
		if diff := cmp.Diff(whole.charts, pieces.charts); diff != "" {
			t.Errorf("charts (-at once +in pieces):\n%s", diff)
		}
	})
}
