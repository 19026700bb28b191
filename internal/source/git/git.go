// Package git is the source kind GitRepository.
package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// subjectLength is how much of a commit's subject an event shows, in characters (gitrepository 68).
const subjectLength = 50

// Options are the flags of the kind.
type Options struct {
	// KexAlgos and HostKeyAlgos override what SSH negotiates (--ssh-kex-algos, --ssh-hostkey-algos).
	KexAlgos, HostKeyAlgos []string
	// TempDir is where runs make their directories; empty: the system's.
	TempDir string
}

// Source connects GitRepositories to their servers.
type Source struct {
	reader  client.Reader
	options Options
}

// Controller returns the kind for the loop. Secrets are read live through the reader.
func Controller(name string, reader client.Reader, store *artifact.Store, o Options) *loop.Controller[*sourcev1.GitRepository] {
	return &loop.Controller[*sourcev1.GitRepository]{
		Name: name,
		Kind: sourcev1.GitRepositoryKind,
		New:  func() *sourcev1.GitRepository { return &sourcev1.GitRepository{} },
		Reconciler: &frame.Reconciler[*sourcev1.GitRepository]{
			Kind: sourcev1.GitRepositoryKind, Titled: "commit", Store: store, TempDir: o.TempDir, NoChange: noChange,
			Source: &Source{reader: reader, options: o},
		},
		Conditions: frame.Conditions([]string{sourcev1.IncludeUnavailableCondition}, []string{sourcev1.SourceVerifiedCondition}),
		FailReason: sourcev1.GitOperationFailedReason,
		Policy:     frame.Policy(),
	}
}

func noChange(revision string) event.Event {
	return event.Event{
		Severity: event.Info, Reason: sourcev1.GitOperationSucceededReason, Local: true,
		Message: fmt.Sprintf("no changes since last reconciliation: observed revision '%s'", revision),
	}
}

// Settled implements frame.Kind (gitrepository 39).
func (s *Source) Settled(obj *sourcev1.GitRepository) bool {
	return ptr.Equal(obj.Spec.Ignore, obj.Status.ObservedIgnore)
}

// Settle implements frame.Kind (gitrepository 66).
func (s *Source) Settle(obj *sourcev1.GitRepository) {
	obj.Status.ObservedIgnore = nil
	if obj.Spec.Ignore != nil {
		obj.Status.ObservedIgnore = ptr.To(*obj.Spec.Ignore)
	}
}

// Connect implements frame.Kind.
func (s *Source) Connect(ctx context.Context, obj *sourcev1.GitRepository) (frame.Upstream, error) {
	if err := supported(obj); err != nil {
		return nil, err
	}
	o := git.Options{URL: obj.Spec.URL, KexAlgos: s.options.KexAlgos, HostKeyAlgos: s.options.HostKeyAlgos}
	if ref := obj.Spec.ProxySecretRef; ref != nil {
		proxy, err := s.proxy(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: ref.Name})
		if err != nil {
			return nil, authenticationFailed(fmt.Errorf("failed to configure proxy options: %w", err))
		}
		o.Proxy = proxy
	}
	data, err := s.credentials(ctx, obj)
	if err != nil {
		return nil, err
	}
	if data != nil || isSSH(obj.Spec.URL) {
		if o.Auth, err = git.AuthFromSecret(obj.Spec.URL, data); err != nil {
			return nil, connectFailed(err)
		}
	}
	c, err := git.New(o)
	if err != nil {
		return nil, connectFailed(err)
	}
	return &upstream{client: c, ref: reference(obj.Spec.Ref), ignore: ptr.Deref(obj.Spec.Ignore, "")}, nil
}

// supported refuses what would otherwise be silently left out: a verification above all must fail closed.
func supported(obj *sourcev1.GitRepository) error {
	switch provider := obj.Spec.Provider; {
	case provider == sourcev1.GitProviderGitHub && obj.Spec.SecretRef == nil:
		return loop.Stall(sourcev1.InvalidProviderConfigurationReason,
			errors.New("secretRef with github app data must be specified when provider is set to github")).On(sourcev1.FetchFailedCondition)
	case provider != "" && provider != sourcev1.GitProviderGeneric:
		return unsupported("spec.provider '%s'", provider)
	case obj.Spec.Verify != nil && obj.Spec.Verify.Mode != "":
		return unsupported("spec.verify")
	case len(obj.Spec.Include) > 0:
		return unsupported("spec.include")
	case obj.Spec.RecurseSubmodules:
		return unsupported("spec.recurseSubmodules")
	case len(obj.Spec.SparseCheckout) > 0:
		return unsupported("spec.sparseCheckout")
	}
	return nil
}

func unsupported(format string, args ...any) error {
	return loop.Stall(sourcev1.GitOperationFailedReason,
		fmt.Errorf(format+" is not supported by this version: remove it, or let another controller reconcile the object", args...)).
		On(sourcev1.FetchFailedCondition)
}

// credentials returns the data of the object's Secret, nil without one (gitrepository 13, 20).
func (s *Source) credentials(ctx context.Context, obj *sourcev1.GitRepository) (map[string][]byte, error) {
	if obj.Spec.SecretRef == nil {
		return nil, nil
	}
	key := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Spec.SecretRef.Name}
	data, err := s.secret(ctx, key)
	if err != nil {
		return nil, authenticationFailed(fmt.Errorf("failed to get secret '%s': %w", key, err))
	}
	if _, app := data["githubAppID"]; app {
		return nil, loop.Fail(sourcev1.InvalidProviderConfigurationReason,
			fmt.Errorf("secretRef '%s' has github app data but provider is not set to github", key)).On(sourcev1.FetchFailedCondition)
	}
	return data, nil
}

func (s *Source) proxy(ctx context.Context, key types.NamespacedName) (*url.URL, error) {
	data, err := s.secret(ctx, key)
	if err != nil {
		return nil, err
	}
	proxy, err := secret.Proxy(data)
	if err != nil {
		return nil, secret.Wrap(key.Namespace, key.Name, err)
	}
	return proxy, nil
}

func (s *Source) secret(ctx context.Context, key types.NamespacedName) (map[string][]byte, error) {
	var found corev1.Secret
	if err := s.reader.Get(ctx, key, &found); err != nil {
		return nil, fmt.Errorf("failed to get secret '%s': %w", key, err)
	}
	return found.Data, nil
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

// upstream is the connection of one run.
type upstream struct {
	client *git.Client
	ref    git.Reference
	ignore string
}

// Observe implements frame.Upstream. Tags that are equally good versions take a fetch to tell apart.
func (u *upstream) Observe(ctx context.Context) (string, error) {
	revision, err := u.client.Resolve(ctx, u.ref)
	if errors.Is(err, git.ErrAmbiguous) {
		return "", nil
	}
	if err != nil {
		return "", checkoutFailed(err)
	}
	return revision.String(), nil
}

// Fetch implements frame.Upstream.
func (u *upstream) Fetch(ctx context.Context, dir string) (*frame.Content, error) {
	checkout, err := u.client.Fetch(ctx, u.ref, dir)
	if err != nil {
		return nil, checkoutFailed(err)
	}
	return &frame.Content{
		Revision: checkout.Revision.String(),
		File:     checkout.Revision.Commit + ".tar.gz",
		Title:    fmt.Sprintf("commit '%s'", shorten(checkout.Commit.Subject())),
		Close:    checkout.Close,
		Write: func(ctx context.Context, w io.Writer) error {
			ignore, err := archive.ReadIgnore(ctx, checkout.Tree(), u.ignore)
			if err != nil {
				return fmt.Errorf("reading ignore rules: %w", err)
			}
			return archive.Write(ctx, w, checkout.Tree(), ignore)
		},
	}, nil
}

// Close implements frame.Upstream.
func (u *upstream) Close() { u.client.Close() }

// shorten cuts a subject for an event (gitrepository 68).
func shorten(subject string) string {
	if runes := []rune(subject); len(runes) > subjectLength {
		return string(runes[:subjectLength]) + "..."
	}
	return subject
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

// checkoutFailed judges what went wrong with the server (gitrepository 35, 36).
func checkoutFailed(err error) error {
	if errors.Is(err, git.ErrEmptyRepository) {
		return loop.Fail(sourcev1.EmptyGitRepositoryReason, git.ErrEmptyRepository).On(sourcev1.FetchFailedCondition)
	}
	return loop.Fail(sourcev1.GitOperationFailedReason, fmt.Errorf("failed to checkout and determine revision: %w", err)).
		On(sourcev1.FetchFailedCondition)
}
