package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/manifests"
)

// now is the time of every session.
func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// session is a story a user could type: commands against a fake cluster with all they print.
//
// Files of the archive: cluster.yaml (objects that are there), reactions.yaml (what controllers answer),
// uninstalled (API groups not served, one a line), unbuilt (components that this build lacks), log/<pod> (its log), env (NAME=value lines),
// and session.
// In session, lines that start with "$ " are commands ("<<< text" at the end is their input), the lines below are
// the output: standard error has the prefix "! ", tabs read "→", and "[exit 1]" tells the code when it is not 0.
// `show Kind/namespace/name` prints an object of the cluster, `writes` what was written since the last time.
type session struct {
	t    *testing.T
	api  *fakeAPI
	env  map[string]string
	dir  string
	live bool
	// unbuilt are components that cannot be installed.
	unbuilt []string
}

func TestSessions(t *testing.T) {
	update := flag.Lookup("update").Value.String() == "true"
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no sessions found: %v", err)
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range archive.Files {
				if archive.Files[i].Name != "session" {
					continue
				}
				s := newSession(t, archive)
				want := string(archive.Files[i].Data)
				got := s.replay(want)
				if update {
					archive.Files[i].Data = []byte(got)
					continue
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: run the tests with -update to accept (-want +got):\n%s", path, diff)
				}
			}
			if update {
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the recorded sessions")
	flag.Parse()
	os.Exit(m.Run())
}

func newSession(t *testing.T, archive *txtar.Archive) *session {
	t.Helper()
	s := &session{t: t, api: newFakeAPI(t, now), env: map[string]string{}, dir: t.TempDir()}
	for _, f := range archive.Files {
		data := string(f.Data)
		switch name := f.Name; {
		case name == "cluster.yaml":
			s.api.add(t, data)
		case name == "reactions.yaml":
			if err := yaml.UnmarshalStrict(f.Data, &s.api.reactions); err != nil {
				t.Fatalf("reactions.yaml: %v", err)
			}
		case name == "uninstalled":
			for _, group := range strings.Fields(data) {
				s.api.unserve(group)
			}
		case name == "unbuilt":
			s.unbuilt = strings.Fields(data)
		case name == "env":
			for _, line := range strings.Fields(data) {
				k, v, _ := strings.Cut(line, "=")
				s.env[k] = v
			}
		case strings.HasPrefix(name, "log/"):
			s.api.podLogs[strings.TrimPrefix(name, "log/")] = data
		case name == "session":
		default:
			path := filepath.Join(s.dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.api.writes = nil
	return s
}

// replay runs the commands of a script and returns the script with their real output.
func (s *session) replay(script string) string {
	var out strings.Builder
	for _, line := range strings.Split(script, "\n") {
		switch {
		case strings.HasPrefix(line, "$ "):
			fmt.Fprintln(&out, line)
			out.WriteString(s.command(strings.TrimPrefix(line, "$ ")))
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		}
	}
	return out.String()
}

func (s *session) command(line string) string {
	line, input, _ := strings.Cut(line, " <<< ")
	args := split(line)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "$DIR", s.dir)
	}
	switch args[0] {
	case "show":
		return s.show(args[1])
	case "writes":
		s.api.mu.Lock()
		defer s.api.mu.Unlock()
		text := strings.Join(s.api.writes, "\n")
		s.api.writes = nil
		return text + "\n"
	}
	var stdout, stderr bytes.Buffer
	c := s.config(strings.NewReader(input+"\n"), &stdout, &stderr)
	args = append(args[1:], "--server", s.api.URL)
	code := run(s.t.Context(), c, args)
	if strings.ContainsRune(stdout.String()+stderr.String(), 0x1b) {
		s.t.Errorf("%s: escape sequences in a pipe", line)
	}
	var out strings.Builder
	out.WriteString(s.clean(stdout.String(), ""))
	out.WriteString(s.clean(stderr.String(), "! "))
	if code != 0 {
		fmt.Fprintf(&out, "[exit %d]\n", code)
	}
	return out.String()
}

func (s *session) config(in *strings.Reader, out, err *bytes.Buffer) Config {
	built := slices.DeleteFunc(Components(), func(c manifests.Component) bool { return slices.Contains(s.unbuilt, c.Name) })
	return Config{
		Program: "flux", Version: "v2.9.0", Kinds: Kinds(), Components: built,
		Streams: Streams{In: in, Out: out, Err: err, Live: s.live},
		Clock:   clocktesting.NewFakeClock(now()),
		Getenv:  func(name string) string { return s.env[name] },
	}
}

func (s *session) clean(text, prefix string) string {
	text = strings.NewReplacer("\t", "→", s.api.URL, "$SERVER", s.dir, "$DIR").Replace(text)
	if text == "" {
		return ""
	}
	text = strings.TrimSuffix(text, "\n")
	return prefix + strings.ReplaceAll(text, "\n", "\n"+prefix) + "\n"
}

func (s *session) show(ref string) string {
	s.api.mu.Lock()
	defer s.api.mu.Unlock()
	parts := strings.Split(ref, "/")
	for k, u := range s.api.objects {
		if u.GetKind() == parts[0] && strings.HasSuffix(k, "/"+parts[1]+"/"+parts[2]) {
			data, err := yaml.Marshal(u.Object)
			if err != nil {
				s.t.Fatal(err)
			}
			return string(data)
		}
	}
	return "absent\n"
}

// split cuts a line into words; single and double quotes keep spaces.
func split(line string) []string {
	var words []string
	var word strings.Builder
	var quote rune
	open := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if open || word.Len() > 0 {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
		}
	}
	if open || word.Len() > 0 {
		words = append(words, word.String())
	}
	return words
}
