package sops

import (
	"cmp"
	"errors"
	"fmt"

	sops "github.com/getsops/sops/v3"
)

const (
	// maxPattern bounds a regular expression of a file, in bytes.
	maxPattern = 1024
	// maxSelection bounds the work of finding out which values of a file are encrypted, in bytes of compiled expressions:
	// the library compiles the expression of a file anew for each value, and for each level above it or each comment. This
	// much takes some seconds, and no context ends it.
	maxSelection = 100_000_000
	// compileCost stands for what compiling costs besides the length of the expression.
	compileCost = 16
)

var errSelection = errors.New("the file has too many values, levels or comments for its regular expression: divide it, or encrypt by suffix")

// checkSelection refuses a file whose expressions would keep the process busy.
func checkSelection(tree *sops.Tree) error {
	meta := &tree.Metadata
	byKey := cmp.Or(meta.EncryptedRegex, meta.UnencryptedRegex)
	byComment := cmp.Or(meta.EncryptedCommentRegex, meta.UnencryptedCommentRegex)
	for _, pattern := range []string{byKey, byComment} {
		if len(pattern) > maxPattern {
			return fmt.Errorf("a regular expression of the file has %d bytes, the limit is %d", len(pattern), maxPattern)
		}
	}
	var s selection
	for _, branch := range tree.Branches {
		s.count(branch, 0)
	}
	if byKey != "" && s.levels > maxSelection/(len(byKey)+compileCost) ||
		byComment != "" && s.leaves*s.comments > maxSelection/(len(byComment)+compileCost) {
		return errSelection
	}
	return nil
}

// selection counts values, the levels above each of them, and comments.
type selection struct{ leaves, levels, comments int }

func (s *selection) count(value any, depth int) {
	switch value := value.(type) {
	case sops.TreeBranch:
		for _, item := range value {
			if _, ok := item.Key.(sops.Comment); ok {
				s.count(item.Key, depth)
			} else {
				s.count(item.Value, depth+1)
			}
		}
	case []any:
		for _, item := range value {
			s.count(item, depth)
		}
	default:
		if _, ok := value.(sops.Comment); ok {
			s.comments++
		}
		s.leaves++
		s.levels += depth
	}
}
