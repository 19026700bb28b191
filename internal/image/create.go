package image

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// repositoryOptions are the flags of `flux create image repository`.
type repositoryOptions struct {
	image, secretRef, certRef string
	timeout                   time.Duration
}

func bindRepository(flags *pflag.FlagSet) kind.Build {
	o := &repositoryOptions{}
	flags.StringVar(&o.image, "image", "", "the image to list the tags of, without tag, e.g. registry.example.com/org/app")
	flags.StringVar(&o.secretRef, "secret-ref", "", "the name of the Kubernetes image pull secret (type 'kubernetes.io/dockerconfigjson')")
	flags.StringVar(&o.certRef, "cert-ref", "", "the name of a secret to use for TLS certificates")
	flags.DurationVar(&o.timeout, "scan-timeout", 0, "how long a scan may take, --interval if it is not set")
	return o.build
}

func (o *repositoryOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if o.image == "" {
		return nil, errors.New("--image is required")
	}
	if _, err := name.NewRepository(o.image); err != nil || strings.Contains(o.image, "://") {
		return nil, fmt.Errorf("--image '%s' is not the address of an image without scheme, tag and digest, like registry.example.com/org/app", o.image)
	}
	repository := &imagev1.ImageRepository{
		TypeMeta:   metav1.TypeMeta{APIVersion: imagev1.GroupVersion.String(), Kind: imagev1.ImageRepositoryKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: imagev1.ImageRepositorySpec{
			Image: o.image, Interval: meta.DurationOf(in.Interval), SecretRef: local(o.secretRef), CertSecretRef: local(o.certRef),
		},
	}
	if o.timeout > 0 {
		repository.Spec.Timeout = meta.DurationOf(o.timeout)
	}
	return &kind.Created{Object: repository}, nil
}

func local(name string) *meta.LocalObjectReference {
	if name == "" {
		return nil
	}
	return &meta.LocalObjectReference{Name: name}
}

// policyOptions are the flags of `flux create image policy`.
type policyOptions struct {
	repository                 string
	semver, alpha, numeric     string
	filter, extract, reflected string
	interval                   time.Duration
}

func bindPolicy(flags *pflag.FlagSet) kind.Build {
	o := &policyOptions{}
	flags.StringVar(&o.repository, "image-ref", "", "the name of the ImageRepository whose tags to choose from")
	flags.StringVar(&o.semver, "select-semver", "", "choose the highest version of this range, e.g. '>=1.0.0 <2.0.0'")
	flags.StringVar(&o.alpha, "select-alpha", "", "compare the characters of the tags: 'asc' chooses the last one, 'desc' the first")
	flags.StringVar(&o.numeric, "select-numeric", "", "compare the tags as numbers: 'asc' chooses the largest one, 'desc' the smallest")
	flags.StringVar(&o.filter, "filter-regex", "", "regular expression that tags must match to be considered")
	flags.StringVar(&o.extract, "filter-extract", "", "what of a tag to compare, in terms of the groups of --filter-regex, e.g. '$timestamp'")
	flags.StringVar(&o.reflected, "reflect-digest", "", "when to look up the digest of the tag, one of: "+strings.Join(reflections(), ", "))
	flags.DurationVar(&o.interval, "interval", 0, "how often to look up the digest, with --reflect-digest="+imagev1.ReflectAlways)
	return o.build
}

func reflections() []string {
	return []string{imagev1.ReflectAlways, imagev1.ReflectIfNotPresent, imagev1.ReflectNever}
}

// build makes the ImagePolicy (cli 27).
func (o *policyOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if o.repository == "" {
		return nil, errors.New("--image-ref is required")
	}
	choice, err := o.choice()
	if err != nil {
		return nil, err
	}
	filter, err := o.tagFilter()
	if err != nil {
		return nil, err
	}
	policy := &imagev1.ImagePolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: imagev1.GroupVersion.String(), Kind: imagev1.ImagePolicyKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: imagev1.ImagePolicySpec{
			ImageRepositoryRef: meta.NamespacedObjectReference{Name: o.repository}, Policy: choice, FilterTags: filter,
			DigestReflectionPolicy: o.reflected,
		},
	}
	switch {
	case o.reflected != "" && !slices.Contains(reflections(), o.reflected):
		return nil, fmt.Errorf("--reflect-digest '%s' is not supported, must be one of: %s", o.reflected, strings.Join(reflections(), ", "))
	case o.reflected == imagev1.ReflectAlways && o.interval <= 0:
		return nil, fmt.Errorf("--reflect-digest=%s needs --interval", imagev1.ReflectAlways)
	case o.reflected != imagev1.ReflectAlways && o.interval != 0:
		return nil, fmt.Errorf("--interval is for --reflect-digest=%s: tags are compared whenever a scan finds others", imagev1.ReflectAlways)
	case o.interval > 0:
		policy.Spec.Interval = meta.DurationOf(o.interval)
	}
	return &kind.Created{Object: policy}, nil
}

func (o *policyOptions) choice() (choice imagev1.ImagePolicyChoice, err error) {
	given := slices.DeleteFunc([]string{o.semver, o.alpha, o.numeric}, func(s string) bool { return s == "" })
	if len(given) != 1 {
		return choice, errors.New("exactly one of --select-semver, --select-alpha and --select-numeric is required")
	}
	order := func(flag, value string) error {
		if value != imagev1.OrderAscending && value != imagev1.OrderDescending {
			return fmt.Errorf("--%s '%s' is not supported, must be one of: %s, %s", flag, value, imagev1.OrderAscending, imagev1.OrderDescending)
		}
		return nil
	}
	switch {
	case o.semver != "":
		choice.SemVer = &imagev1.SemVerPolicy{Range: o.semver}
		if _, err := semver.NewConstraint(o.semver); err != nil {
			return choice, fmt.Errorf("--select-semver '%s' is not a range of versions: %w", o.semver, err)
		}
		return choice, nil
	case o.alpha != "":
		choice.Alphabetical = &imagev1.AlphabeticalPolicy{Order: o.alpha}
		return choice, order("select-alpha", o.alpha)
	default:
		choice.Numerical = &imagev1.NumericalPolicy{Order: o.numeric}
		return choice, order("select-numeric", o.numeric)
	}
}

// tagFilter reads --filter-regex and --filter-extract.
func (o *policyOptions) tagFilter() (*imagev1.TagFilter, error) {
	if o.filter == "" {
		if o.extract != "" {
			return nil, errors.New("--filter-extract needs --filter-regex, whose groups it names")
		}
		return nil, nil
	}
	pattern, err := regexp.Compile(o.filter)
	if err != nil {
		return nil, fmt.Errorf("--filter-regex: %w", err)
	}
	// An unknown group stands for nothing, so that all tags would be equal (imagepolicy 25).
	for _, reference := range regexp.MustCompile(`\$(?:\$|\{(\w+)\}|(\w+))`).FindAllStringSubmatch(o.extract, -1) {
		group := reference[1] + reference[2]
		index, err := strconv.Atoi(group)
		numbered := err == nil && index <= pattern.NumSubexp()
		if group != "" && !numbered && !slices.Contains(pattern.SubexpNames(), group) {
			return nil, fmt.Errorf("--filter-extract names the group '%s', which --filter-regex does not have", group)
		}
	}
	return &imagev1.TagFilter{Pattern: o.filter, Extract: o.extract}, nil
}

// updateOptions are the flags of `flux create image update`.
type updateOptions struct {
	repository, namespace, path       string
	checkout, push                    string
	template, authorName, authorEmail string
	signingSecret, signingType        string
}

func bindUpdate(flags *pflag.FlagSet) kind.Build {
	o := &updateOptions{}
	flags.StringVar(&o.repository, "git-repo-ref", "", "the name of the GitRepository that says how to reach the repository")
	flags.StringVar(&o.namespace, "git-repo-namespace", "", "the namespace of the GitRepository, that of the automation if it is not set")
	flags.StringVar(&o.path, "git-repo-path", "", "the path of the repository that holds the manifests to update, the root if it is not set")
	flags.StringVar(&o.checkout, "checkout-branch", "", "the branch to check out, what the GitRepository follows if it is not set")
	flags.StringVar(&o.push, "push-branch", "", "the branch to push to, the one checked out if it is not set; created when it does not exist")
	flags.StringVar(&o.template, "commit-template", "", "the template of commit messages")
	flags.StringVar(&o.authorName, "author-name", "", "the name of the author of commits")
	flags.StringVar(&o.authorEmail, "author-email", "", "the email address of the author of commits")
	flags.StringVar(&o.signingSecret, "signing-key-secret", "", "the name of a secret with the key that signs commits")
	flags.StringVar(&o.signingType, "signing-key-type", "", "the type of the key that signs commits, one of: "+strings.Join(signingTypes(), ", ")+"; gpg is the default of the API")
	return o.build
}

func signingTypes() []string { return []string{imagev1.SigningKeyGPG, imagev1.SigningKeySSH} }

func (o *updateOptions) validate() error {
	switch {
	case o.repository == "":
		return errors.New("--git-repo-ref is required")
	case o.authorEmail == "":
		return errors.New("--author-email is required")
	case o.signingType != "" && !slices.Contains(signingTypes(), o.signingType):
		return fmt.Errorf("--signing-key-type '%s' is not supported, must be one of: %s", o.signingType, strings.Join(signingTypes(), ", "))
	case o.signingType != "" && o.signingSecret == "":
		return errors.New("--signing-key-type needs --signing-key-secret")
	}
	return nil
}

func (o *updateOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	git := &imagev1.GitSpec{Commit: imagev1.CommitSpec{
		Author: imagev1.CommitUser{Name: o.authorName, Email: o.authorEmail}, MessageTemplate: o.template,
	}}
	if o.signingSecret != "" {
		git.Commit.SigningKey = &imagev1.SigningKey{Type: o.signingType, SecretRef: meta.LocalObjectReference{Name: o.signingSecret}}
	}
	if o.checkout != "" {
		git.Checkout = &imagev1.GitCheckoutSpec{Reference: sourcev1.GitRepositoryRef{Branch: o.checkout}}
	}
	if o.push != "" {
		git.Push = &imagev1.PushSpec{Branch: o.push}
	}
	update := &imagev1.ImageUpdateAutomation{
		TypeMeta:   metav1.TypeMeta{APIVersion: imagev1.GroupVersion.String(), Kind: imagev1.ImageUpdateAutomationKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: imagev1.ImageUpdateAutomationSpec{
			Interval: meta.DurationOf(in.Interval), Git: git,
			SourceRef: imagev1.ImageUpdateSourceReference{Kind: sourcev1.GitRepositoryKind, Name: o.repository, Namespace: o.namespace},
		},
	}
	if o.path != "" {
		update.Spec.Update = &imagev1.UpdateStrategy{Strategy: imagev1.UpdateStrategySetters, Path: o.path}
	}
	return &kind.Created{Object: update}, nil
}
