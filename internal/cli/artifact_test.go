package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// artifacts is a terminal with a registry at hand.
type artifacts struct {
	t        *testing.T
	registry *testkit.Registry
	dir      string
}

func newArtifacts(t *testing.T) *artifacts {
	t.Helper()
	a := &artifacts{t: t, registry: testkit.NewRegistry(), dir: t.TempDir()}
	t.Cleanup(a.registry.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	return a
}

func (a *artifacts) write(name, content string) {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// run runs a command line in which $REG and $DIR stand for registry and directory, and returns all it printed.
func (a *artifacts) run(line string) string {
	a.t.Helper()
	line, input, _ := strings.Cut(line, " <<< ")
	args := split(strings.NewReplacer("$REG", a.registry.Host(), "$DIR", a.dir).Replace(line))
	var out, errOut bytes.Buffer
	c := Config{
		Program: "flux", Streams: Streams{In: strings.NewReader(input), Out: &out, Err: &errOut},
		Clock: clocktesting.NewFakeClock(now()), Getenv: func(string) string { return "" },
	}
	code := run(a.t.Context(), c, args)
	text := out.String() + errOut.String()
	if code != 0 {
		text += "[exit 1]\n"
	}
	text = strings.NewReplacer(a.registry.Host(), "$REG", a.dir, "$DIR", "\t", "→").Replace(text)
	// The width of columns depends on the port of the registry.
	return regexp.MustCompile(` +→`).ReplaceAllString(text, "→")
}

func (a *artifacts) expect(line, want string) {
	a.t.Helper()
	if diff := cmp.Diff(want, a.run(line)); diff != "" {
		a.t.Errorf("flux %s (-want +got):\n%s", line, diff)
	}
}

// cli 34-37: an artifact is pushed, tagged, listed, pulled and compared.
func TestArtifacts(t *testing.T) {
	a := newArtifacts(t)
	a.write("src/app.yaml", "kind: ConfigMap\n")
	a.write("src/logo.png", "ignored")
	const (
		from   = " --path $DIR/src --source https://example.com/app.git --revision main@sha1:abc --reproducible"
		digest = "sha256:2abdbe2a6fb98756ac5641836bf24dcd83e7958855a59c203003d38f8341fcd4"
	)
	a.expect("push artifact oci://$REG/org/app:1.0.0"+from, `► pushing artifact to oci://$REG/org/app:1.0.0
✔ artifact successfully pushed to oci://$REG/org/app@`+digest+`
`)
	// cli 35: the digest depends on the content alone.
	a.expect("push artifact oci://$REG/org/app:1.1.0 -o json"+from, `{
  "url": "oci://$REG/org/app@`+digest+`",
  "repository": "$REG/org/app",
  "tag": "1.1.0",
  "digest": "`+digest+`"
}
`)
	a.expect("tag artifact oci://$REG/org/app:1.1.0 --tag latest,stable", `► tagging artifact
✔ artifact tagged as oci://$REG/org/app:latest
✔ artifact tagged as oci://$REG/org/app:stable
`)
	// cli 37
	const header = "ARTIFACT→DIGEST→SOURCE→REVISION→\n"
	row := func(tag string) string {
		return "oci://$REG/org/app:" + tag + "→" + digest + "→https://example.com/app.git→main@sha1:abc→\n"
	}
	a.expect("list artifacts oci://$REG/org/app --filter-semver >=1.0.0", header+row("1.1.0")+row("1.0.0"))
	a.expect("list artifacts oci://$REG/org/app --filter-regex ^latest$", header+row("latest"))
	a.expect("list artifacts oci://$REG/org/app", header+row("1.1.0")+row("1.0.0")+row("latest")+row("stable"))

	if err := os.Mkdir(filepath.Join(a.dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	a.expect("pull artifact oci://$REG/org/app:latest --output $DIR/out", `► pulling artifact from oci://$REG/org/app:latest
✔ source https://example.com/app.git
✔ revision main@sha1:abc
✔ digest `+digest+`
✔ artifact content extracted to $DIR/out
`)
	// cli 36: media files are left out.
	entries, err := os.ReadDir(filepath.Join(a.dir, "out"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "app.yaml" {
		t.Errorf("pulled %v (error %v), want app.yaml alone", entries, err)
	}

	a.expect("diff artifact oci://$REG/org/app:latest --path $DIR/src", "✔ no changes detected\n")
	a.write("src/app.yaml", "kind: Secret\n")
	a.write("src/more.yaml", "more\n")
	a.expect("diff artifact oci://$REG/org/app:latest --path $DIR/src", `~ app.yaml
+ more.yaml
✗ oci://$REG/org/app:latest and '$DIR/src' differ in 2 files
[exit 1]
`)
}

// cli 35, 38: an artifact that is built into the directory it packs holds neither itself nor its predecessor, so that
// building twice gives the same bytes.
func TestBuildArtifactInPlace(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.yaml"), []byte("app"), 0o600); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(dir, "artifact.tgz")
	build := func() []byte {
		t.Helper()
		var out, errOut bytes.Buffer
		c := Config{Program: "flux", Streams: Streams{Out: &out, Err: &errOut}, Getenv: func(string) string { return "" }}
		if code := run(t.Context(), c, []string{"build", "artifact", "--path", dir, "--output", output}); code != 0 {
			t.Fatalf("exit %d: %s", code, &errOut)
		}
		content, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	first := build()
	if second := build(); !bytes.Equal(first, second) {
		t.Error("the second build differs from the first")
	}
	into := t.TempDir()
	if err := archive.Extract(t.Context(), bytes.NewReader(first), into, archive.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(into)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "app.yaml" {
		t.Errorf("packed %v, want app.yaml alone", entries)
	}
}

// cli 34, 35: what is refused before anything is sent, and what the registry refuses.
func TestArtifactErrors(t *testing.T) {
	a := newArtifacts(t)
	a.write("app.yaml", "kind: ConfigMap\n")
	a.write("fake.tgz", "no archive")
	const flags = " --source s --revision r"
	for line, want := range map[string]string{
		"push artifact registry.example.com/app:1 --path $DIR/app.yaml" + flags:                  "'registry.example.com/app:1' is not an address of the form oci://<host>/<path>:<tag>",
		"push artifact oci://$REG/app:1 --path $DIR/app.yaml --source s":                         "--revision is required",
		"push artifact oci://$REG/app:1 --path $DIR/app.yaml --revision r":                       "--source is required",
		"push artifact oci://$REG/app:1 --path $DIR/none" + flags:                                "--path: stat $DIR/none: no such file or directory",
		"push artifact oci://$REG/app:1 --path $DIR/fake.tgz" + flags:                            "'$DIR/fake.tgz' is not a gzipped archive: gzip: invalid header",
		"push artifact oci://$REG/app:1 --path $DIR/app.yaml -a novalue" + flags:                 "--annotations 'novalue' is not of the form <key>=<value>",
		"push artifact oci://$REG/app:1 --path $DIR/app.yaml -o xml" + flags:                     "--output is 'xml', use json or yaml",
		"push artifact oci://$REG/app:1 --path $DIR/app.yaml --creds :x" + flags:                 "--creds is not of the form <username>[:<password>]",
		"push artifact oci://$REG/app:1 --path $DIR/app.yaml --provider other" + flags:           "unsupported OCI provider 'other'",
		"push artifact oci://$REG/app:1 --path $DIR/app.yaml --provider aws --creds a:b" + flags: "--creds is for --provider=generic",
		"tag artifact oci://$REG/app:1":                                                          "--tag is required",
		"tag artifact oci://$REG/app:1 --tag a/b":                                                "--tag 'a/b'",
		"pull artifact oci://$REG/app:1":                                                         "--output is required",
		"pull artifact oci://$REG/app:1 -o $DIR/app.yaml":                                        "--output '$DIR/app.yaml' is not a directory",
		"pull artifact oci://$REG/none:1 -o $DIR":                                                "pulling artifact: ",
		"list artifacts oci://$REG/app:1":                                                        "without a tag or digest",
		"list artifacts oci://$REG/app --filter-semver not-a-range":                              "--filter-semver: ",
		"list artifacts oci://$REG/app --filter-regex [":                                         "--filter-regex: ",
		"list artifacts oci://$REG/app --filter-regex a --filter-semver 1":                       "exclude each other",
		"diff artifact oci://$REG/app:1":                                                         "--path is required",
	} {
		if got := a.run(line); !strings.Contains(got, want) || !strings.HasSuffix(got, "[exit 1]\n") {
			t.Errorf("flux %s:\n%s\nwant %q and exit 1", line, got, want)
		}
	}
	// cli 35: standard input, and what was built before.
	for _, line := range []string{
		"push artifact oci://$REG/app:1 --path - --reproducible" + flags + " <<< kind: ConfigMap",
		"build artifact --path $DIR/app.yaml --output $DIR/built.tgz",
		"push artifact oci://$REG/app:2 --path $DIR/built.tgz --reproducible" + flags,
		"push artifact oci://$REG/app:3 --path $DIR/app.yaml --reproducible" + flags,
	} {
		if got := a.run(line); strings.Contains(got, "[exit 1]") {
			t.Errorf("flux %s:\n%s", line, got)
		}
	}
	digests := regexp.MustCompile(`app:([23])→(sha256:[0-9a-f]+)`).FindAllStringSubmatch(a.run("list artifacts oci://$REG/app"), -1)
	if len(digests) != 2 || digests[0][2] != digests[1][2] {
		t.Errorf("an artifact that was built before differs from one that is built on the way: %q", digests)
	}
}
