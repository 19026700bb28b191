package compat

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/test/compat/replay"
)

// ruleLists are the numbered lists of behaviour of the kinds that are built, each with the number of its last rule.
func ruleLists() map[string]int {
	return map[string]int{
		"_common": 51, "artifactgenerator": 65, "bucket": 64, "externalartifact": 8, "gitrepository": 74, "helmchart": 74, "helmrelease": 100,
		"helmrepository": 62, "imagepolicy": 40, "imagerepository": 44,
		"imageupdateautomation": 64, "alert": 31, "provider": 52, "receiver": 41, "kustomization": 112, "ocirepository": 72,
	}
}

// unmetHeading is the section of docs/compatibility.md whose table lists the rules that no test has to name. A row that
// says "partly" excuses the rest of a rule: a test names the part that is met.
const unmetHeading = "## Rules not met yet"

// TestRules holds the promise of docs/compatibility.md: each rule is named by a test or by a recording that is played, or
// the page tells why not. A rule that is listed as missing and named all the same is told, too: one of the two is wrong.
func TestRules(t *testing.T) {
	named, err := namedRules(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	listed, partly, err := unmetRules(string(page))
	if err != nil {
		t.Fatal(err)
	}
	for _, complaint := range judgeRules(ruleLists(), named, listed, partly) {
		t.Error(complaint)
	}
}

// TestRulesJudgement shows the judge each thing it must not let pass.
func TestRulesJudgement(t *testing.T) {
	page := `# Page
| 2.9 | here | why |
|---|---|---|
| A difference (` + "`gitrepository 1`" + `) | is no excuse | |

` + unmetHeading + `

| Rules | What is missing | Comes with |
|---|---|---|
| ` + "`gitrepository 2-3`, `5`" + ` | something | later |
| ` + "`gitrepository 4`, `10`" + ` | partly: half of it | later |
| ` + "`gitrepository 19`" + ` | no such rule | never |

## Next
| ` + "`gitrepository 6`" + ` | another table | |
`
	listed, partly, err := unmetRules(page)
	if err != nil {
		t.Fatal(err)
	}
	named := ruleSet{}
	named.add("// gitrepository 3-4, 7: a test\nfunc Test() { t.Run(\"gitrepository_8, 9\") } // gitrepository 99")
	got := strings.Join(judgeRules(map[string]int{"gitrepository": 10}, named, listed, partly), "\n")
	want := strings.Join([]string{
		"gitrepository 1 is neither named by a test nor listed under \"Rules not met yet\" of docs/compatibility.md",
		"gitrepository 3 is listed as not met, but a test names it: remove it from docs/compatibility.md, or say \"partly\" in its row",
		"gitrepository 6 is neither named by a test nor listed under \"Rules not met yet\" of docs/compatibility.md",
		"gitrepository 10 is listed as partly met, but no test names the part that is: write it, or remove \"partly\"",
		"docs/compatibility.md lists gitrepository 19, but the last rule is 10",
		"a test names gitrepository 99, but the last rule is 10",
	}, "\n")
	if got != want {
		t.Errorf("complaints:\n%s\nwant:\n%s", got, want)
	}
	if _, _, err := unmetRules("# Page\n"); err == nil {
		t.Error("a page without the section passed")
	}
}

func judgeRules(lists map[string]int, named, listed, partly ruleSet) []string {
	var out []string
	for _, list := range slices.Sorted(maps.Keys(lists)) {
		last := lists[list]
		for rule := 1; rule <= last; rule++ {
			switch {
			case !named[list][rule] && !listed[list][rule]:
				out = append(out, fmt.Sprintf("%s %d is neither named by a test nor listed under %q of docs/compatibility.md",
					list, rule, strings.TrimPrefix(unmetHeading, "## ")))
			case !named[list][rule] && partly[list][rule]:
				out = append(out, fmt.Sprintf("%s %d is listed as partly met, but no test names the part that is: write it, or remove \"partly\"", list, rule))
			case named[list][rule] && listed[list][rule] && !partly[list][rule]:
				out = append(out, fmt.Sprintf("%s %d is listed as not met, but a test names it: remove it from docs/compatibility.md, or say \"partly\" in its row", list, rule))
			}
		}
		for _, rule := range listed.beyond(list, last) {
			out = append(out, fmt.Sprintf("docs/compatibility.md lists %s %d, but the last rule is %d", list, rule, last))
		}
		for _, rule := range named.beyond(list, last) {
			out = append(out, fmt.Sprintf("a test names %s %d, but the last rule is %d", list, rule, last))
		}
	}
	return out
}

// namedRules collects the rules named in the Go tests below root and in the recordings that are played.
func namedRules(root fs.FS) (ruleSet, error) {
	named := ruleSet{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if name != "." && strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || name == "bin" {
				return fs.SkipDir
			}
			return nil
		case !isTestCode(name) || name == "test/compat/rules_test.go":
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err == nil {
			named.add(string(content))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	exceptions, err := replay.ReadExceptions("differences.yaml", "pending.yaml")
	if err != nil {
		return nil, err
	}
	for _, kind := range replayed() {
		recordings, err := replay.ReadDir(path.Join("testdata/recordings", kind))
		if err != nil {
			return nil, err
		}
		for _, r := range recordings {
			if exceptions.PendingFor(r.Name) == nil {
				named.add(r.Rules)
			}
		}
	}
	return named, nil
}

// isTestCode reports whether a file tests: what lies below test/ does so under any name.
func isTestCode(name string) bool {
	return strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/") && strings.HasSuffix(name, ".go")
}

// unmetRules reads the table of the section.
func unmetRules(page string) (listed, partly ruleSet, err error) {
	_, section, ok := strings.Cut(page, "\n"+unmetHeading+"\n")
	if !ok {
		return nil, nil, fmt.Errorf("docs/compatibility.md has no section %q", unmetHeading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	listed, partly = ruleSet{}, ruleSet{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		listed.add(cells[1])
		if strings.Contains(cells[2], "partly") {
			partly.add(cells[1])
		}
	}
	return listed, partly, nil
}

// ruleMention is a list's name and numbers or ranges of them, as comments, subtests, recordings and the page write it.
var ruleMention = regexp.MustCompile("\\b(" + strings.Join(slices.Sorted(maps.Keys(ruleLists())), "|") +
	")[\\s_]+(\\d+(?:\\s*-\\s*\\d+)?(?:`?,\\s*`?\\d+(?:\\s*-\\s*\\d+)?)*)")

// ruleSet holds rules by list and number.
type ruleSet map[string]map[int]bool

// add collects the rules that a text mentions.
func (s ruleSet) add(text string) {
	for _, m := range ruleMention.FindAllStringSubmatch(text, -1) {
		if s[m[1]] == nil {
			s[m[1]] = map[int]bool{}
		}
		for part := range strings.SplitSeq(strings.ReplaceAll(m[2], "`", ""), ",") {
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

// beyond returns the rules of a list with numbers it does not have.
func (s ruleSet) beyond(list string, last int) []int {
	var out []int
	for rule := range s[list] {
		if rule < 1 || rule > last {
			out = append(out, rule)
		}
	}
	slices.Sort(out)
	return out
}
