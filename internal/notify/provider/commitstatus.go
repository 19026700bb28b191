package provider

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// maxStatusDescription is the longest description all hosts take; the strictest is GitHub.
const maxStatusDescription = 140

// maxStatusName is the longest name of a build that both Bitbuckets take.
const maxStatusName = 255

// verdict is what a commit status says.
type verdict int

const (
	succeeded verdict = iota
	failed
	pending
)

// commitStatus is what is said of a commit.
type commitStatus struct {
	// sha is the commit, id tells this status from others on it.
	sha, id string
	verdict verdict
	// description is short and for people.
	description string
	// event that it comes from.
	event *event.Payload
}

// statusHost is a Git host that shows commit statuses.
type statusHost interface {
	// posted reports whether the host shows this very status already (provider 11, 46).
	posted(ctx context.Context, s *commitStatus) (bool, error)
	// post sets the status.
	post(ctx context.Context, s *commitStatus) error
}

// notifyStatus returns a Notifier that posts commit statuses. Work that has begun is told only to a host where such a status goes away with
// the next one, and only if the event names a commit (provider 11).
func notifyStatus(c *Config, host statusHost, tellsProgress bool) (Notifier, error) {
	id := c.CommitStatus
	if id == "" {
		return nil, errors.New("the id of the commit status is empty: let spec.commitStatusExpr return a text that is not empty")
	}
	return NotifierFunc(func(ctx context.Context, e event.Payload) error {
		if e.Reason == progressingReason && (!tellsProgress || revisionOf(&e) == "") {
			return nil
		}
		status, err := newCommitStatus(id, &e)
		if err != nil {
			return err
		}
		found, err := host.posted(ctx, status)
		if err != nil {
			return fmt.Errorf("could not list commit statuses: %w%s", err, refusalHint(err))
		}
		if found {
			return nil
		}
		if err := host.post(ctx, status); err != nil {
			return fmt.Errorf("could not create commit status: %w%s", err, refusalHint(err))
		}
		return nil
	}), nil
}

func newCommitStatus(id string, e *event.Payload) (*commitStatus, error) {
	sha, err := commitOf(e)
	if err != nil {
		return nil, err
	}
	out := &commitStatus{sha: sha, id: id, description: cutForForge(words(e.Reason), maxStatusDescription), event: e}
	switch {
	case e.Severity == event.Error:
		out.verdict = failed
	case e.Reason == progressingReason:
		out.verdict = pending
	}
	return out, nil
}

// revisionOf is the revision that counts for Git hosts (alert 20).
func revisionOf(e *event.Payload) string {
	for _, key := range []string{commitKey, originRevisionKey, revisionKey} {
		if revision := e.Metadata[key]; revision != "" {
			return revision
		}
	}
	return ""
}

var commitSHA = regexp.MustCompile(`^[0-9a-fA-F]{40}$`)

// commitOf is the commit an event is about (provider 12, alert 20).
func commitOf(e *event.Payload) (string, error) {
	revision := revisionOf(e)
	if revision == "" {
		return "", fmt.Errorf("the event has no revision: a commit status needs one of the metadata '%s', '%s' and '%s'",
			commitKey, originRevisionKey, revisionKey)
	}
	sha := revision[strings.LastIndexAny(revision, ":/")+1:]
	if !commitSHA.MatchString(sha) {
		return "", fmt.Errorf("the revision '%s' names no commit: it does not end with a SHA-1 of 40 digits", cutForForge(revision, 256))
	}
	return strings.ToLower(sha), nil
}

// buildKey is the id as the key of a build: Bitbucket takes no longer ones (wire contract 13).
func (s *commitStatus) buildKey() string {
	sum := sha1.Sum([]byte(s.id))
	return hex.EncodeToString(sum[:])
}

// objectTitle is the kind and name of the object: "kustomization/app" (wire contract 13).
func (s *commitStatus) objectTitle() string {
	o := &s.event.InvolvedObject
	return strings.ToLower(o.Kind + "/" + o.Name)
}
