package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// IgnoreFile is the name of the files that hold ignore patterns for the
// directory they are in.
const IgnoreFile = ".sourceignore"

const (
	maxIgnoreBytes = 1 << 20
	maxPatterns    = 100_000
	vcsPatterns    = ".git/,.gitignore,.gitmodules,.gitattributes"
	extPatterns    = "*.jpg,*.jpeg,*.gif,*.png,*.wmv,*.flv,*.tar.gz,*.zip"
	ciPatterns     = ".github/,.circleci/,.travis.yml,.gitlab-ci.yml,appveyor.yml,.drone.yml,cloudbuild.yaml,codeship-services.yml,codeship-steps.yml"
	extraPatterns  = "**/.goreleaser.yml,**/.sops.yaml,**/.flux.yaml"
)

// Pattern is one line of an ignore file, in the syntax of gitignore, bound to
// the directory it was read in.
type Pattern struct{ gitignore.Pattern }

// Matcher decides which entries an archive leaves out. The zero value excludes
// nothing.
type Matcher struct{ patterns []Pattern }

// NewMatcher returns a Matcher in which later patterns win over earlier ones.
func NewMatcher(patterns ...Pattern) Matcher { return Matcher{patterns: patterns} }

// Excludes reports whether the last pattern that matches the slash separated
// path excludes it. A pattern that matches a directory matches everything
// below it.
func (m Matcher) Excludes(name string, dir bool) bool {
	if len(m.patterns) == 0 {
		return false
	}
	parts := strings.Split(path.Clean(name), "/")
	for i := len(m.patterns) - 1; i >= 0; i-- {
		if r := m.patterns[i].Match(parts, dir); r != gitignore.NoMatch {
			return r == gitignore.Exclude
		}
	}
	return false
}

// VCSPatterns exclude the files of the version control system; they come
// before all other patterns (contract: gitrepository 60).
func VCSPatterns() []Pattern { return listed(vcsPatterns) }

// DefaultPatterns exclude media, archives and the files of CI and release
// tools; they apply when a source declares no patterns (contract:
// gitrepository 61).
func DefaultPatterns() []Pattern { return listed(extPatterns, ciPatterns, extraPatterns) }

func listed(lists ...string) []Pattern {
	var patterns []Pattern
	for _, list := range lists {
		for line := range strings.SplitSeq(list, ",") {
			patterns = append(patterns, Pattern{gitignore.ParsePattern(line, nil)})
		}
	}
	return patterns
}

// ParsePatterns reads one pattern per line. Blank lines and lines that begin
// with # are skipped (contract: gitrepository 63). The patterns apply below
// dir, a slash separated path relative to the root; "" or "." is the root
// itself. It returns an error for input over 1 MiB.
func ParsePatterns(r io.Reader, dir string) ([]Pattern, error) {
	var domain []string
	if dir = path.Clean(dir); dir != "." {
		domain = strings.Split(dir, "/")
	}
	limited := &io.LimitedReader{R: r, N: maxIgnoreBytes + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxIgnoreBytes)
	var patterns []Pattern
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		patterns = append(patterns, Pattern{gitignore.ParsePattern(line, domain)})
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) || limited.N == 0 {
		return nil, fmt.Errorf("ignore patterns are larger than the limit of %d bytes", maxIgnoreBytes)
	}
	return patterns, lines.Err()
}

// ReadPatterns collects the patterns of every ignore file of src, those of a
// directory before those of the directories below it, so that the deeper ones
// win. Ignore files in .git directories do not count, links are not followed.
// More than 100,000 patterns in all are an error.
func ReadPatterns(ctx context.Context, src Source) ([]Pattern, error) {
	type ignoreFile struct {
		dir      []string
		patterns []Pattern
	}
	var files []ignoreFile
	count := 0
	err := src.Walk(ctx, func(e Entry) error {
		if path.Base(e.Path) != IgnoreFile || !e.Mode.IsRegular() || inGitDir(e.Path) {
			return nil
		}
		r, err := e.Open()
		if err != nil {
			return fmt.Errorf("open '%s': %w", e.Path, err)
		}
		found, err := ParsePatterns(r, path.Dir(e.Path))
		if err = errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("read '%s': %w", e.Path, err)
		}
		if count += len(found); count > maxPatterns {
			return fmt.Errorf("read '%s': the ignore files hold more than the limit of %d patterns", e.Path, maxPatterns)
		}
		dir := strings.Split(e.Path, "/")
		files = append(files, ignoreFile{dir: dir[:len(dir)-1], patterns: found})
		return nil
	})
	// The walk meets ".a/.sourceignore" before ".sourceignore".
	slices.SortFunc(files, func(a, b ignoreFile) int { return slices.Compare(a.dir, b.dir) })
	var patterns []Pattern
	for _, f := range files {
		patterns = append(patterns, f.patterns...)
	}
	return patterns, err
}

func inGitDir(p string) bool {
	return strings.HasPrefix(p, ".git/") || strings.Contains(p, "/.git/")
}

// ReadIgnore returns the ignore rules of a source: those of its ignore files,
// then the lines of extra (spec.ignore), or the default patterns when there
// are neither. The version control files are always excluded first (contract:
// gitrepository 60, 61).
func ReadIgnore(ctx context.Context, src Source, extra string) (Matcher, error) {
	own, err := ReadPatterns(ctx, src)
	if err != nil {
		return Matcher{}, err
	}
	inline, err := ParsePatterns(strings.NewReader(extra), "")
	if err != nil {
		return Matcher{}, fmt.Errorf("spec.ignore: %w", err)
	}
	if own = append(own, inline...); len(own) == 0 {
		own = DefaultPatterns()
	}
	return NewMatcher(append(VCSPatterns(), own...)...), nil
}
