package docs

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rules are the numbered lists of behaviour of what is built, with the number of their last rule.
func rules() map[string]int {
	return map[string]int{"_common": 51, "gitrepository": 74, "kustomization": 112}
}

// TestRules holds the promise of compatibility.md: each rule is named by a test or a recording that is played, or the
// page says that it differs, is missing, or is named by no test.
func TestRules(t *testing.T) {
	named, listed := ruleSet{}, ruleSet{}
	root := os.DirFS("..")
	pending := string(read(t, root, "test/compat/pending.yaml"))
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != "." && strings.HasPrefix(name, ".") || name == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		recording, isRecording := strings.CutPrefix(name, "test/compat/testdata/recordings/")
		suite := strings.HasSuffix(name, "test.go") || strings.Contains(name, "test/") && strings.HasSuffix(name, ".go")
		switch {
		case isRecording && strings.HasSuffix(name, ".yaml"):
			if strings.Contains(pending, "recording: "+strings.TrimSuffix(recording, ".yaml")+",") {
				return nil
			}
			if m := recordedRules.FindStringSubmatch(string(read(t, root, name))); m != nil {
				named.add(m[1])
			}
		case suite && !strings.HasPrefix(name, "docs/"):
			named.add(string(read(t, root, name)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page := string(read(t, root, "docs/compatibility.md"))
	before, rest, ok := strings.Cut(page, unnamedHeading)
	_, after, ok2 := strings.Cut(rest, "\n## ")
	if !ok || !ok2 {
		t.Fatalf("compatibility.md has no section %q with another one behind it", strings.TrimSpace(unnamedHeading))
	}
	listed.add(before)
	told := ruleSet{}
	told.add(page)
	section := "\n"
	for _, list := range []string{"_common", "gitrepository", "kustomization"} {
		var unnamed, lost []int
		for rule := 1; rule <= rules()[list]; rule++ {
			if !named[list][rule] && !listed[list][rule] {
				unnamed = append(unnamed, rule)
				if !told[list][rule] {
					lost = append(lost, rule)
				}
			}
		}
		if len(unnamed) > 0 {
			section += fmt.Sprintf("- `%s %s`\n", list, ranges(unnamed))
		}
		if len(lost) > 0 && !*update {
			t.Errorf("neither named by a test nor told of in compatibility.md: %s %s", list, ranges(lost))
		}
	}
	if section == "\n" {
		section += "None.\n"
	}
	if *update {
		if err := os.WriteFile("compatibility.md", []byte(before+unnamedHeading+section+"\n## "+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// update is what make generate asks for, so that a test that names a rule takes it off the list.
var update = flag.Bool("update", false, "write the list of rules that no test names anew")

const unnamedHeading = "## Rules that no test names yet\n"

// recordedRules is the key of a recording that names its rules, up to the next key.
var recordedRules = regexp.MustCompile(`(?m)^rules:((?:.*\n)(?:^\s.*\n)*)`)

// ruleMention is a list's name and numbers or ranges of them, as comments and subtests write it.
var ruleMention = regexp.MustCompile("\\b(_common|gitrepository|kustomization)[\\s_]+(\\d+(?:\\s*-\\s*\\d+)?(?:`?,\\s*`?\\d+(?:\\s*-\\s*\\d+)?)*)")

type ruleSet map[string]map[int]bool

func (s ruleSet) add(text string) {
	for _, m := range ruleMention.FindAllStringSubmatch(text, -1) {
		if s[m[1]] == nil {
			s[m[1]] = map[int]bool{}
		}
		for _, part := range strings.Split(strings.ReplaceAll(m[2], "`", ""), ",") {
			from, to, isRange := strings.Cut(part, "-")
			first, err := strconv.Atoi(strings.TrimSpace(from))
			last := first
			if err == nil && isRange {
				last, err = strconv.Atoi(strings.TrimSpace(to))
			}
			for rule := first; err == nil && rule <= last; rule++ {
				s[m[1]][rule] = true
			}
		}
	}
}

// ranges writes sorted numbers as compatibility.md has them.
func ranges(numbers []int) string {
	slices.Sort(numbers)
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		if part := fmt.Sprint(numbers[i]); j > i {
			parts = append(parts, part+"-"+fmt.Sprint(numbers[j]))
		} else {
			parts = append(parts, part)
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

func read(t *testing.T, tree fs.FS, name string) []byte {
	t.Helper()
	content, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
