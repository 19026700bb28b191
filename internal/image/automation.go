package image

import (
	"context"

	"github.com/spf13/pflag"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/image/update"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// AutomationName is the upstream name of the component: event source and field manager.
const AutomationName = "image-automation-controller"

// Automation describes image-automation-controller.
func Automation() component.Component {
	group, sources := imagev1.GroupVersion.Group, sourcev1.GroupVersion.Group
	return component.Component{
		Manifest: component.Manifest{
			Name: AutomationName, Group: group,
			CRDs: []string{"imageupdateautomations." + group},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}},
				{APIGroups: []string{sources}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}},
			},
			GraceSeconds: 10,
		},
		Short:      "image-automation",
		Concurrent: 4,
		Kinds:      []kind.Kind{UpdateKind()},
		Requires: []schema.GroupVersionKind{
			imagev1.GroupVersion.WithKind(imagev1.ImageUpdateAutomationKind), imagev1.GroupVersion.WithKind(imagev1.ImagePolicyKind),
			sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind),
		},
		FeatureGates: map[string]bool{
			"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false,
			forcePushGate: true, shallowCloneGate: true, allBranchesGate: true, sparseCheckoutGate: false,
		},
		New: func() component.Instance { return &automation{} },
	}
}

// Feature gates of the component (wire.md 15).
const (
	forcePushGate   = "GitForcePushBranch"
	allBranchesGate = "GitAllBranchReferences"
	// shallowCloneGate is accepted and changes nothing: commits are made on one commit, and its history is never needed.
	shallowCloneGate   = "GitShallowClone"
	sparseCheckoutGate = "GitSparseCheckout"
)

type automation struct {
	kexAlgos, hostKeyAlgos []string
	maxFileBytes           int64
}

// BindFlags implements component.Instance (wire.md 14).
func (a *automation) BindFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&a.kexAlgos, "ssh-kex-algos", nil, "The key exchange algorithms SSH offers, in order of preference.")
	fs.StringSliceVar(&a.hostKeyAlgos, "ssh-hostkey-algos", nil, "The host key algorithms SSH offers, in order of preference.")
	fs.Int64Var(&a.maxFileBytes, "update-limit-file-size", update.DefaultMaxFileBytes, "The size of a file with markers of image policies, in bytes.")
}

// AddToScheme implements component.Instance.
func (a *automation) AddToScheme(s *runtime.Scheme) error {
	if err := sourcev1.AddToScheme(s); err != nil {
		return err
	}
	return imagev1.AddToScheme(s)
}

// Setup implements component.Instance.
func (a *automation) Setup(_ context.Context, host *component.Host) error {
	gates := host.Common.Gates
	automator := update.New(update.Options{
		Objects: host.Client, Reader: host.Reader, NoCrossNamespaceRefs: host.Common.NoCrossNamespaceRefs,
		ForcePushBranch: gates[forcePushGate], AllBranchReferences: gates[allBranchesGate], SparseCheckout: gates[sparseCheckoutGate],
		KexAlgos: a.kexAlgos, HostKeyAlgos: a.hostKeyAlgos, MaxFileBytes: a.maxFileBytes, Identities: host.Auth,
	})
	o := host.LoopOptions()
	// imageupdateautomation 1.
	o.JitterPercent = 0
	_, err := automator.Controller(AutomationName).SetupWithManager(host.Manager, o)
	return err
}
