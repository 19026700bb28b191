package kustomize

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// Kind describes Kustomization to the generic verbs.
func Kind() kind.Kind {
	source := func(o kind.Object) *kind.Ref { return o.SourceRef("spec", "sourceRef") }
	revision := func(o kind.Object) string { return o.Field("status", "lastAppliedRevision") }
	return kind.Kind{
		GroupVersionKind: v1.GroupVersion.WithKind(v1.KustomizationKind), Resource: "kustomizations", Short: []string{"ks"},
		Words: []string{"kustomization"}, Aliases: []string{"ks"},
		ListWords: []string{"kustomizations"}, ListAliases: []string{"ks", "kustomization"},
		Verbs: kind.AllVerbs | kind.Tree | kind.Approve, ShortenHashes: true,
		Columns: []kind.Column{
			kind.SourceColumn(source), kind.RevisionColumn(revision), kind.SuspendedColumn(), kind.WideField("PATH", "spec", "path"),
		},
		Source: source, WithSource: true,
		Owner:    &kind.OwnerLabels{Name: "kustomize.toolkit.fluxcd.io/name", Namespace: "kustomize.toolkit.fluxcd.io/namespace"},
		Children: kind.Inventory,
		Done:     kind.AppliedRevision,
		Approval: heldApproval,
		Describe: func(o kind.Object) []kind.Line {
			return []kind.Line{{Title: "Path", Value: o.Field("spec", "path")}, {Title: "Revision", Value: revision(o)}}
		},
		Create: &kind.Create{
			Short: "Create or update a Kustomization resource",
			Long:  "The create command generates a Kustomization resource for a given source.",
			Example: `  # Apply what a path of a Git repository holds
  flux create kustomization kyverno \
    --source=GitRepository/kyverno \
    --path="./config/release" \
    --prune=true \
    --interval=60m \
    --wait=true \
    --health-check-timeout=3m

  # Apply it after others are ready, into another namespace
  flux create kustomization podinfo \
    --depends-on=kyverno \
    --source=OCIRepository/podinfo.flux-system \
    --target-namespace=apps \
    --path="./kustomize" \
    --prune=true \
    --interval=5m`,
			Bind: bindCreate,
			Done: func(o kind.Object) string { return "Kustomization " + o.GetName() + " is ready" },
		},
	}
}

// heldApproval reads what a held Kustomization waits for from its condition and the newest entry of its history.
func heldApproval(o kind.Object) (kind.Approval, bool) {
	c, ok := o.Condition(meta.ReadyCondition)
	history, _, _ := unstructured.NestedSlice(o.Object, "status", "history")
	if !ok || c.Reason != v1.HeldReason || len(history) == 0 {
		return kind.Approval{}, false
	}
	newest, _ := history[0].(map[string]any)
	status, _, _ := unstructured.NestedString(newest, "lastReconciledStatus")
	digest, _, _ := unstructured.NestedString(newest, "digest")
	revision, _, _ := unstructured.NestedString(newest, "metadata", "revision")
	if status != v1.HeldReason || digest == "" || revision == "" {
		return kind.Approval{}, false
	}
	return kind.Approval{Annotation: v1.ApproveAnnotation, Value: approval(revision, digest)}, true
}

// createOptions are the flags of `flux create kustomization`.
type createOptions struct {
	source                          string
	path                            kind.RelativePath
	prune, wait                     bool
	dependsOn, healthChecks         []string
	healthTimeout, retry            time.Duration
	serviceAccount, targetNamespace string
	kubeConfig, decryptionSecret    string
	validation                      string
	decryption                      kind.Enum
}

func bindCreate(flags *pflag.FlagSet) kind.Build {
	o := &createOptions{
		path:       "./",
		decryption: kind.Enum{Allowed: []string{"sops"}, TypeName: "decryptionProvider", Noun: "decryption provider"},
	}
	flags.StringVar(&o.source, "source", "", "source that contains the Kubernetes manifests in the format '[<kind>/]<name>.<namespace>', where kind must be one of: (OCIRepository, GitRepository, Bucket, ExternalArtifact), if kind is not specified it defaults to GitRepository")
	flags.Var(&o.path, "path", "path to the directory containing a kustomization.yaml file")
	flags.BoolVar(&o.prune, "prune", false, "enable garbage collection")
	flags.BoolVar(&o.wait, "wait", false, "enable health checking of all the applied resources")
	flags.StringSliceVar(&o.healthChecks, "health-check", nil, "workload to be included in the health assessment, in the format '<kind>/<name>.<namespace>'")
	flags.DurationVar(&o.healthTimeout, "health-check-timeout", 2*time.Minute, "timeout of health checking operations")
	flags.StringSliceVar(&o.dependsOn, "depends-on", nil, "Kustomization that must be ready before this Kustomization can be applied, supported formats '<name>' and '<namespace>/<name>', also supports comma-separated values")
	flags.StringVar(&o.serviceAccount, "service-account", "", "the name of the service account to impersonate when reconciling this Kustomization")
	flags.Var(&o.decryption, "decryption-provider", "decryption provider, one of: sops")
	flags.StringVar(&o.decryptionSecret, "decryption-secret", "", "set the Kubernetes secret name that contains the OpenPGP private keys used for sops decryption")
	flags.StringVar(&o.targetNamespace, "target-namespace", "", "overrides the namespace of all Kustomization objects reconciled by this Kustomization")
	flags.StringVar(&o.kubeConfig, "kubeconfig-secret-ref", "", "the name of the Kubernetes Secret that contains a key with the kubeconfig file for connecting to a remote cluster")
	flags.DurationVar(&o.retry, "retry-interval", 0, "the interval at which to retry a previously failed reconciliation")
	flags.StringVar(&o.validation, "validation", "", "")
	validation := flags.Lookup("validation")
	validation.Hidden = true
	validation.Deprecated = "this arg is no longer used, all resources are validated using server-side apply dry-run"
	return o.build
}

func (o *createOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	source, err := o.sourceReference()
	if err != nil {
		return nil, err
	}
	k := &v1.Kustomization{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1.GroupVersion.String(), Kind: v1.KustomizationKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: v1.KustomizationSpec{
			SourceRef: *source, Path: string(o.path), Prune: o.prune, Wait: o.wait,
			Interval: meta.DurationOf(in.Interval), TargetNamespace: o.targetNamespace, ServiceAccountName: o.serviceAccount,
		},
	}
	if o.retry > 0 {
		k.Spec.RetryInterval = meta.DurationOf(o.retry)
	}
	if o.kubeConfig != "" {
		k.Spec.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: o.kubeConfig}}
	}
	if k.Spec.DependsOn, err = kind.ParseDependencies(o.dependsOn); err != nil {
		return nil, err
	}
	switch {
	case o.wait && len(o.healthChecks) > 0:
		return nil, errors.New("--wait checks every applied object: it cannot be combined with --health-check")
	case o.wait:
		k.Spec.Timeout = meta.DurationOf(o.healthTimeout)
	case len(o.healthChecks) > 0:
		k.Spec.Timeout = meta.DurationOf(o.healthTimeout)
		if k.Spec.HealthChecks, err = parseHealthChecks(o.healthChecks); err != nil {
			return nil, err
		}
	}
	switch {
	case o.decryption.Value != "":
		k.Spec.Decryption = &v1.Decryption{Provider: o.decryption.Value}
		if o.decryptionSecret != "" {
			k.Spec.Decryption.SecretRef = &meta.LocalObjectReference{Name: o.decryptionSecret}
		}
	case o.decryptionSecret != "":
		return nil, errors.New("--decryption-secret needs --decryption-provider=sops")
	}
	return &kind.Created{Object: k}, nil
}

// sourceReference reads [Kind/]name[.namespace] (cli 25).
func (o *createOptions) sourceReference() (*v1.SourceReference, error) {
	if o.source == "" {
		return nil, errors.New("--source is required")
	}
	ref, err := kind.ParseSource("source", o.source, "GitRepository",
		[]string{"OCIRepository", "GitRepository", "Bucket", "ExternalArtifact"})
	if err != nil {
		return nil, err
	}
	return &v1.SourceReference{Kind: ref.Kind, Name: ref.Name, Namespace: ref.Namespace}, nil
}

// parseHealthChecks reads Kind/name.namespace (cli 25).
func parseHealthChecks(list []string) ([]meta.NamespacedObjectKindReference, error) {
	versions := map[string]string{
		"Deployment": "apps/v1", "DaemonSet": "apps/v1", "StatefulSet": "apps/v1", "HelmRelease": "helm.toolkit.fluxcd.io/v2",
	}
	var out []meta.NamespacedObjectKindReference
	for _, s := range list {
		k, rest, _ := strings.Cut(s, "/")
		name, namespace, ok := strings.Cut(rest, ".")
		if !ok || name == "" || namespace == "" {
			return nil, fmt.Errorf("--health-check '%s' is not of the form <kind>/<name>.<namespace>", s)
		}
		version, known := versions[k]
		if !known {
			return nil, fmt.Errorf("--health-check '%s' has kind '%s', use Deployment, DaemonSet, StatefulSet or HelmRelease", s, k)
		}
		out = append(out, meta.NamespacedObjectKindReference{APIVersion: version, Kind: k, Name: name, Namespace: namespace})
	}
	return out, nil
}
