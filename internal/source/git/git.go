// Package git is the source kind GitRepository.
package git

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// defaultRequeueDependency is how often an include that is not there is looked at, should its event get lost.
const defaultRequeueDependency = 30 * time.Second

// Options are the flags of the kind and what it shares with its process.
type Options struct {
	// KexAlgos and HostKeyAlgos override what SSH negotiates (--ssh-kex-algos, --ssh-hostkey-algos).
	KexAlgos, HostKeyAlgos []string
	// Limits bound what servers may send; zero fields take the default (--git-limit-*).
	Limits git.Limits
	// TempDir is where runs make their directories; empty: the system's.
	TempDir string
	// Hosts keeps hanging servers apart; nil: it does not.
	Hosts *frame.Hosts
	// Objects reads GitRepositories, usually from the cache; nil: live.
	Objects client.Reader
	// Artifacts opens the artifacts of included repositories.
	Artifacts *artifact.Opener
	// RequeueDependency is how often an include that is not there is looked at (--requeue-dependency); zero: 30 s.
	RequeueDependency time.Duration
	// Identities signs in to clouds and GitHub; nil: their providers are refused.
	Identities Identities
}

// Source connects GitRepositories to their servers.
type Source struct {
	reader   client.Reader
	options  Options
	includes *depend.Graph
}

// Controller returns the kind for the loop. Secrets are read live through the reader.
func Controller(name string, reader client.Reader, store *artifact.Store, o Options) *loop.Controller[*sourcev1.GitRepository] {
	if o.Objects == nil {
		o.Objects = reader
	}
	if o.RequeueDependency <= 0 {
		o.RequeueDependency = defaultRequeueDependency
	}
	source := &Source{reader: reader, options: o, includes: depend.NewGraph()}
	return &loop.Controller[*sourcev1.GitRepository]{
		Name: name,
		Kind: sourcev1.GitRepositoryKind,
		New:  func() *sourcev1.GitRepository { return &sourcev1.GitRepository{} },
		Reconciler: &frame.Reconciler[*sourcev1.GitRepository]{
			Kind: sourcev1.GitRepositoryKind, Store: store, TempDir: o.TempDir, Hosts: o.Hosts, Source: source, Words: words(),
		},
		Conditions: frame.Conditions([]string{sourcev1.IncludeUnavailableCondition}, []string{sourcev1.SourceVerifiedCondition}),
		FailReason: sourcev1.GitOperationFailedReason,
		Policy:     frame.Policy(),
		Watches:    []loop.Watch{{Object: &sourcev1.GitRepository{}, Map: source.includers}},
	}
}

func words() frame.Words[*sourcev1.GitRepository] {
	return frame.Words[*sourcev1.GitRepository]{
		Outdated: func(_ *sourcev1.GitRepository, revision string) string {
			return fmt.Sprintf("new upstream revision '%s'", revision)
		},
		Stored: func(obj *sourcev1.GitRepository) (reason, message string) {
			return "", fmt.Sprintf("stored artifact for revision '%s'", obj.Status.Artifact.Revision)
		},
		// Without a fetch the subject of the commit is not known (_common 33).
		News: func(obj *sourcev1.GitRepository) string {
			return fmt.Sprintf("stored artifact for commit '%s'", obj.Status.Artifact.Revision)
		},
		NoChange: noChange,
	}
}

func noChange(revision string) event.Event {
	return event.Event{
		Severity: event.Info, Reason: sourcev1.GitOperationSucceededReason, Local: true,
		Message: fmt.Sprintf("no changes since last reconciliation: observed revision '%s'", revision),
	}
}

// Connect implements frame.Kind.
func (s *Source) Connect(ctx context.Context, obj *sourcev1.GitRepository, run *loop.Run) (frame.Upstream[*sourcev1.GitRepository], error) {
	if c := status.Find(obj.Status.Conditions, sourcev1.SourceVerifiedCondition); c != nil && !status.IsTrue(obj.Status.Conditions, c.Type) {
		run.Unset(sourcev1.SourceVerifiedCondition) // gitrepository 49
	}
	o := git.Options{URL: obj.Spec.URL, KexAlgos: s.options.KexAlgos, HostKeyAlgos: s.options.HostKeyAlgos, Limits: s.options.Limits}
	if ref := obj.Spec.ProxySecretRef; ref != nil {
		proxy, err := s.proxy(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: ref.Name})
		if err != nil {
			return nil, authenticationFailed(fmt.Errorf("failed to configure proxy options: %w", err))
		}
		o.Proxy = proxy
	}
	if err := s.signIn(ctx, obj, &o); err != nil {
		return nil, err
	}
	verifier, err := s.verifier(ctx, obj, run)
	if err != nil {
		return nil, err
	}
	included, err := s.include(ctx, obj, run)
	if err != nil {
		return nil, err
	}
	c, err := git.New(o)
	if err != nil {
		return nil, connectFailed(err)
	}
	return &upstream{
		client: c, host: hostOf(obj.Spec.URL), run: run, artifacts: s.options.Artifacts,
		ref: reference(obj.Spec.Ref), ignore: ptr.Deref(obj.Spec.Ignore, ""), verifier: verifier, included: included,
		selection: git.Selection{Sparse: obj.Spec.SparseCheckout, Submodules: obj.Spec.RecurseSubmodules},
	}, nil
}

// Forget implements frame.Forgetter.
func (s *Source) Forget(key types.NamespacedName) {
	s.includes.Remove(depend.Key{Kind: sourcev1.GitRepositoryKind, Namespace: key.Namespace, Name: key.Name})
	if s.options.Identities != nil {
		s.options.Identities.Forget(sourcev1.GitRepositoryKind, key.Namespace, key.Name)
	}
}

func (s *Source) secret(ctx context.Context, key types.NamespacedName) (map[string][]byte, error) {
	var found corev1.Secret
	if err := s.reader.Get(ctx, key, &found); err != nil {
		return nil, fmt.Errorf("failed to get secret '%s': %w", key, err)
	}
	return found.Data, nil
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

func isSSH(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Scheme == "ssh"
}

func reference(ref *sourcev1.GitRepositoryRef) git.Reference {
	if ref == nil {
		return git.Reference{}
	}
	return git.Reference{Branch: ref.Branch, Tag: ref.Tag, SemVer: ref.SemVer, Name: ref.Name, Commit: ref.Commit}
}

func authenticationFailed(err error) error {
	return loop.Fail(sourcev1.AuthenticationFailedReason, err).On(sourcev1.FetchFailedCondition)
}

// connectFailed judges what the client says before it has connected (gitrepository 12, 14-16).
func connectFailed(err error) error {
	if errors.Is(err, git.ErrInvalidURL) {
		return loop.Stall(sourcev1.URLInvalidReason, err).On(sourcev1.FetchFailedCondition)
	}
	return authenticationFailed(fmt.Errorf("failed to configure authentication options: %w", err))
}
