// Package update is the kind that writes the tags that policies have chosen to a Git repository.
//
// A run gathers what the objects say, edits files in memory on top of the commit that it has fetched, and pushes the commit so that
// it lands on what was fetched or not at all. Whoever is slower fetches and edits anew.
package update

import (
	"context"
	"crypto/tls"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// DefaultMaxFileBytes is the size of the largest file that is edited. To be read as YAML, before and after, a file can take some 170
// times its size of memory.
const DefaultMaxFileBytes = 1 << 20

// Identities obtains credentials for Git servers; *auth.Authenticator does.
type Identities interface {
	Git(ctx context.Context, provider string, r auth.Request, repository *url.URL) (*auth.GitLogin, error)
	GitHubApp(ctx context.Context, r auth.Request, data map[string][]byte, tls *tls.Config) (*auth.Login, error)
}

// Options are the flags of the kind and what it shares with its process.
type Options struct {
	// Objects reads from the cache.
	Objects client.Reader
	// Reader reads live: Secrets, and policies before they are committed.
	Reader client.Reader
	// NoCrossNamespaceRefs refuses sources in other namespaces.
	NoCrossNamespaceRefs bool
	// ForcePushBranch lets a push branch that is made anew take the place of what is there (the gate GitForcePushBranch).
	ForcePushBranch bool
	// AllBranchReferences continues a push branch that is there; otherwise it is made anew (the gate GitAllBranchReferences).
	AllBranchReferences bool
	// SparseCheckout fetches what is below spec.update.path alone (the gate GitSparseCheckout).
	SparseCheckout bool
	// KexAlgos and HostKeyAlgos override what SSH negotiates (--ssh-kex-algos, --ssh-hostkey-algos).
	KexAlgos, HostKeyAlgos []string
	// MaxFileBytes is the size of the largest file that is edited (--update-limit-file-size); zero: DefaultMaxFileBytes.
	MaxFileBytes int64
	// Limits bound what servers may send; zero fields take the default.
	Limits git.Limits
	// TempDir is where packs are kept while they are read; empty: the system's.
	TempDir string
	// Identities signs in to clouds and GitHub; nil: their providers are refused.
	Identities Identities
	// Clock is the time of commits; nil: the real one.
	Clock clock.Clock
}

// Automator reconciles the kind.
type Automator struct {
	options  Options
	branches *branches
	hosts    *hosts
}

// New returns the reconciler of the kind.
func New(o Options) *Automator {
	if o.MaxFileBytes <= 0 {
		o.MaxFileBytes = DefaultMaxFileBytes
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Automator{options: o, branches: newBranches(o.Clock), hosts: newHosts(o.Clock)}
}

// Controller returns the kind for the loop. The interval is without jitter (imageupdateautomation 1), which is the caller's to
// switch off.
func (a *Automator) Controller(name string) *loop.Controller[*imagev1.ImageUpdateAutomation] {
	return &loop.Controller[*imagev1.ImageUpdateAutomation]{
		Name: name, Kind: imagev1.ImageUpdateAutomationKind,
		New:        func() *imagev1.ImageUpdateAutomation { return &imagev1.ImageUpdateAutomation{} },
		Reconciler: a,
		Conditions: status.Table{ReadyReason: meta.SucceededReason},
		FailReason: imagev1.GitOperationFailedReason,
		Policy:     loop.Policy{WaitKeepsReconciling: true, TokensWait: true},
		Watches: []loop.Watch{
			{Object: &sourcev1.GitRepository{}, Map: a.onSource},
			{Object: &imagev1.ImagePolicy{}, Map: a.onPolicy},
		},
	}
}

// Finalize implements loop.Finalizer. Nothing is left behind (imageupdateautomation 2).
func (a *Automator) Finalize(context.Context, *imagev1.ImageUpdateAutomation, *loop.Run) error {
	return nil
}

// listTimeout bounds a look at the cache.
const listTimeout = 10 * time.Second

// onSource wakes the automations of a GitRepository whose spec has changed, and not those of a new artifact
// (imageupdateautomation 1).
func (a *Automator) onSource(before, after client.Object) []types.NamespacedName {
	if before != nil && after != nil && before.GetGeneration() == after.GetGeneration() {
		return nil
	}
	changed := after
	if changed == nil {
		changed = before
	}
	return a.automations("", func(o *imagev1.ImageUpdateAutomation) bool {
		return sourceKey(o) == client.ObjectKeyFromObject(changed)
	})
}

// onPolicy wakes the automations in the namespace of a policy that has chosen anew, or is gone (imageupdateautomation 1, 39).
func (a *Automator) onPolicy(before, after client.Object) []types.NamespacedName {
	was, is := latest(before), latest(after)
	if was == is {
		return nil
	}
	changed := after
	if changed == nil {
		changed = before
	}
	return a.automations(changed.GetNamespace(), func(*imagev1.ImageUpdateAutomation) bool { return true })
}

func latest(obj client.Object) imagev1.ImageRef {
	if policy, ok := obj.(*imagev1.ImagePolicy); ok && policy != nil && policy.Status.LatestRef != nil {
		return *policy.Status.LatestRef
	}
	return imagev1.ImageRef{}
}

func (a *Automator) automations(namespace string, concerned func(*imagev1.ImageUpdateAutomation) bool) []types.NamespacedName {
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	var all imagev1.ImageUpdateAutomationList
	if err := a.options.Objects.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		// The interval makes good what is missed.
		return nil
	}
	var keys []types.NamespacedName
	for i := range all.Items {
		if concerned(&all.Items[i]) {
			keys = append(keys, client.ObjectKeyFromObject(&all.Items[i]))
		}
	}
	return keys
}

// sourceKey names the GitRepository of an automation.
func sourceKey(obj *imagev1.ImageUpdateAutomation) types.NamespacedName {
	key := types.NamespacedName{Namespace: obj.Spec.SourceRef.Namespace, Name: obj.Spec.SourceRef.Name}
	if key.Namespace == "" {
		key.Namespace = obj.Namespace
	}
	return key
}
