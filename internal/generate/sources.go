package generate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
)

// observed is what the sources offer, by alias.
type observed map[string]*meta.Artifact

// digest identifies what the artifacts of the sources are (artifactgenerator 15).
func (o observed) digest() string {
	lines := make([]string, 0, len(o))
	for alias, a := range o {
		lines = append(lines, fmt.Sprintf("%s=[digest=%s,revision=%s,url=%s]", alias, a.Digest, a.Revision, a.URL))
	}
	slices.Sort(lines)
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(lines, "|"))))
}

// originRevision is the revision the content of a source had before it was packed, else that of the source; empty for
// an alias there is none of (artifactgenerator 52).
func (o observed) originRevision(alias string) string {
	a := o[alias]
	if a == nil {
		return ""
	}
	if origin := a.Metadata[meta.OriginRevisionKey]; origin != "" {
		return origin
	}
	return a.Revision
}

// observe looks up the artifacts of all sources. Whether a source is ready does not matter (artifactgenerator 13).
func (g *Generator) observe(ctx context.Context, obj *v1beta1.ArtifactGenerator) (observed, error) {
	out := make(observed, len(obj.Spec.Sources))
	for _, s := range obj.Spec.Sources {
		source, err := g.Sources.Resolve(ctx, obj, sourceref.Reference{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name})
		switch {
		case errors.Is(err, sourceref.ErrAccessDenied):
			return nil, loop.Stall(meta.AccessDeniedReason, err)
		case err != nil:
			return nil, g.absent(fmt.Errorf("source '%s' (%s/%s/%s): %w", s.Alias, s.Kind, namespaceOf(obj, s), s.Name, err))
		}
		out[s.Alias] = source.Artifact
		g.seen.note(keyOf(obj), depend.Key{Kind: s.Kind, Namespace: source.Key.Namespace, Name: source.Key.Name}, source.Revision)
	}
	return out, nil
}

// seen remembers which revision of a source the last run of an object has looked at: an event that tells of this very
// revision comes late, and needs no run. The zero value is ready to use.
type seen struct {
	mu        sync.Mutex // guards revisions
	revisions map[depend.Key]map[depend.Key]string
}

func (s *seen) note(obj, source depend.Key, revision string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revisions == nil {
		s.revisions = map[depend.Key]map[depend.Key]string{}
	}
	if s.revisions[obj] == nil {
		s.revisions[obj] = map[depend.Key]string{}
	}
	s.revisions[obj][source] = revision
}

func (s *seen) has(obj, source depend.Key, revision string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revisions[obj][source] == revision && revision != ""
}

func (s *seen) forget(obj depend.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.revisions, obj)
}

// absent waits for something of a source that may still come; an edge makes the wait shorter (artifactgenerator 13, 16).
func (g *Generator) absent(err error) error {
	return loop.Wait(v1beta1.SourceFetchFailedReason, g.RequeueDependency, err).Announce(event.Event{
		Severity: event.Error, Reason: v1beta1.SourceFetchFailedReason, Message: err.Error(),
	})
}

// inputs are the opened sources of a run.
type inputs struct {
	trees map[string]*node
	close []func() error
}

// open fetches the artifacts of all sources (artifactgenerator 16, 17).
func (g *Generator) open(ctx context.Context, sources observed) (_ *inputs, err error) {
	in := &inputs{trees: make(map[string]*node, len(sources))}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	unpacked := map[string]*node{}
	for alias, a := range sources {
		if d := unpacked[a.Digest]; d != nil {
			in.trees[alias] = d
			continue
		}
		d, err := in.open(ctx, g.Artifacts, a)
		if err != nil {
			return nil, fmt.Errorf("source '%s': %w", alias, err)
		}
		in.trees[alias], unpacked[a.Digest] = d, d
	}
	return in, nil
}

func (in *inputs) open(ctx context.Context, opener *artifact.Opener, a *meta.Artifact) (*node, error) {
	tree, err := opener.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	in.close = append(in.close, tree.Close)
	root, err := readTree(ctx, tree.FS())
	if err != nil {
		return nil, fmt.Errorf("read artifact '%s': %w", a.Path, err)
	}
	return root, nil
}

// Close gives the sources back.
func (in *inputs) Close() error {
	var errs []error
	for _, f := range slices.Backward(in.close) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
