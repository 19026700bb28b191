package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/receiver"
)

// selectable are the kinds that Alerts and Receivers may refer to, in the order of the API's enumeration.
func selectable() []string {
	return []string{
		"Bucket", "GitRepository", "Kustomization", "HelmRelease", "HelmChart", "HelmRepository",
		"ImageRepository", "ImagePolicy", "ImageUpdateAutomation", "OCIRepository", "ArtifactGenerator", "ExternalArtifact",
	}
}

// apiVersionOf returns the apiVersion that a Receiver has to be told, empty for the kinds that it knows by themselves
// (receiver 15, 35).
func apiVersionOf(name string) string {
	switch name {
	case "Kustomization":
		return kustomizev1.GroupVersion.String()
	case "HelmRelease":
		return helmv2.GroupVersion.String()
	case "ExternalArtifact":
		return sourcev1.GroupVersion.String()
	case "ImagePolicy", "ImageUpdateAutomation":
		return imagev1.GroupVersion.String()
	}
	return ""
}

// selectors reads the values of a flag, each of the form <kind>/<name>[.<namespace>] (cli 28).
func selectors(flag string, values []string) ([]notificationv1.ObjectSelector, error) {
	if len(values) == 0 {
		return nil, fmt.Errorf("--%s is required, as <kind>/<name>[.<namespace>]", flag)
	}
	out := make([]notificationv1.ObjectSelector, 0, len(values))
	for _, value := range values {
		ref, err := kind.ParseSource(flag, value, "", selectable())
		if err != nil {
			return nil, err
		}
		out = append(out, notificationv1.ObjectSelector{Kind: ref.Kind, Name: ref.Name, Namespace: ref.Namespace})
	}
	return out, nil
}

// alertOptions are the flags of `flux create alert`.
type alertOptions struct {
	providerRef, severity string
	sources               []string
}

func severities() []string {
	return []string{notificationv1beta3.SeverityInfo, notificationv1beta3.SeverityError}
}

func bindAlert(flags *pflag.FlagSet) kind.Build {
	o := &alertOptions{}
	flags.StringVar(&o.providerRef, "provider-ref", "", "the name of the Provider, in the namespace of the alert, that is told of the events")
	flags.StringVar(&o.severity, "event-severity", "", "the least severity that counts, one of: info, error; info is the default of the API")
	flags.StringSliceVar(&o.sources, "event-source", nil, "objects whose events count, in the format '<kind>/<name>[.<namespace>]', where the name '*' stands for all; also accepts comma-separated values")
	return o.build
}

func (o *alertOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if o.providerRef == "" {
		return nil, errors.New("--provider-ref is required")
	}
	if o.severity != "" && !slices.Contains(severities(), o.severity) {
		return nil, fmt.Errorf("--event-severity '%s' is not supported, must be one of: %s", o.severity, strings.Join(severities(), ", "))
	}
	sources, err := selectors("event-source", o.sources)
	if err != nil {
		return nil, err
	}
	return &kind.Created{Object: &notificationv1beta3.Alert{
		TypeMeta:   metav1.TypeMeta{APIVersion: notificationv1beta3.GroupVersion.String(), Kind: notificationv1beta3.AlertKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: notificationv1beta3.AlertSpec{
			ProviderRef: meta.LocalObjectReference{Name: o.providerRef}, EventSeverity: o.severity, EventSources: sources,
		},
	}}, nil
}

// providerOptions are the flags of `flux create alert-provider`.
type providerOptions struct {
	of, address, channel, username, secretRef string
}

// providerTypes are the values of spec.type.
func providerTypes() []string {
	var names []string
	for _, t := range provider.Types() {
		names = append(names, t.Name)
	}
	return names
}

func bindProvider(flags *pflag.FlagSet) kind.Build {
	o := &providerOptions{}
	flags.StringVar(&o.of, "type", "", "the type of the service, one of: "+strings.Join(providerTypes(), ", "))
	flags.StringVar(&o.address, "address", "", "the address of the service; what it means is up to the type, and an address in the secret wins")
	flags.StringVar(&o.channel, "channel", "", "the channel of the service that messages are posted to; what it means is up to the type")
	flags.StringVar(&o.username, "username", "", "the name that messages are posted under, for types that have one")
	flags.StringVar(&o.secretRef, "secret-ref", "", "the name of an existing secret containing the credentials of the service")
	return o.build
}

func (o *providerOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	if o.of == "" {
		return nil, errors.New("--type is required")
	}
	if !slices.Contains(providerTypes(), o.of) {
		return nil, fmt.Errorf("--type '%s' is not supported, must be one of: %s", o.of, strings.Join(providerTypes(), ", "))
	}
	p := &notificationv1beta3.Provider{
		TypeMeta:   metav1.TypeMeta{APIVersion: notificationv1beta3.GroupVersion.String(), Kind: notificationv1beta3.ProviderKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec:       notificationv1beta3.ProviderSpec{Type: o.of, Address: o.address, Channel: o.channel, Username: o.username},
	}
	if o.secretRef != "" {
		p.Spec.SecretRef = &meta.LocalObjectReference{Name: o.secretRef}
	}
	return &kind.Created{Object: p}, nil
}

// receiverOptions are the flags of `flux create receiver`.
type receiverOptions struct {
	of                kind.Enum
	secretRef         string
	events, resources []string
}

func bindReceiver(flags *pflag.FlagSet) kind.Build {
	o := &receiverOptions{of: ReceiverType()}
	flags.Var(&o.of, "type", "the type of the sender, one of: "+strings.Join(o.of.Allowed, ", "))
	flags.StringVar(&o.secretRef, "secret-ref", "", "the name of an existing secret containing the token that calls are checked with")
	flags.StringSliceVar(&o.events, "event", nil, "the events that count, for types whose calls name one; also accepts comma-separated values")
	flags.StringSliceVar(&o.resources, "resource", nil, "objects that a call reconciles, in the format '<kind>/<name>[.<namespace>]'; also accepts comma-separated values")
	return o.build
}

// ReceiverType is the flag --type of what creates a Receiver or its Secret. Types with OIDC are missing: their issuers cannot be given by
// flags, and they have no Secret.
func ReceiverType() kind.Enum {
	of := kind.Enum{Noun: "receiver type"}
	for _, t := range receiver.Types() {
		if !t.OIDC {
			of.Allowed = append(of.Allowed, t.Name)
		}
	}
	return of
}

func (o *receiverOptions) build(_ context.Context, in kind.CreateInput) (*kind.Created, error) {
	switch {
	case o.of.Value == "":
		return nil, errors.New("--type is required")
	case o.secretRef == "":
		return nil, errors.New("--secret-ref is required: 'flux create secret receiver' makes such a secret")
	}
	selected, err := selectors("resource", o.resources)
	if err != nil {
		return nil, err
	}
	var resources []notificationv1.ReceiverResource
	for _, s := range selected {
		if s.Name == notificationv1.AnyName && !in.Export {
			// Every call would be answered by 500 (receiver 33).
			return nil, fmt.Errorf("--resource '%s/*' needs labels, which no flag gives: print the manifest with --export and add matchLabels", s.Kind)
		}
		s.APIVersion = apiVersionOf(s.Kind)
		resources = append(resources, notificationv1.ReceiverResource{ObjectSelector: s})
	}
	return &kind.Created{Object: &notificationv1.Receiver{
		TypeMeta:   metav1.TypeMeta{APIVersion: notificationv1.GroupVersion.String(), Kind: notificationv1.ReceiverKind},
		ObjectMeta: metav1.ObjectMeta{Name: in.Name, Namespace: in.Namespace, Labels: in.Labels},
		Spec: notificationv1.ReceiverSpec{
			Type: o.of.Value, Events: o.events, Resources: resources, SecretRef: &meta.LocalObjectReference{Name: o.secretRef},
		},
	}}, nil
}
