package v1beta3

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// ProviderKind is the kind of a Provider.
const ProviderKind string = "Provider"

// defaultProviderTimeout is used when spec.timeout is not set (provider 3).
const defaultProviderTimeout = 15 * time.Second

// ProviderSpec says who is told of events, and how.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'github' || self.type == 'gitlab' || self.type == 'gitea' || self.type == 'bitbucketserver' || self.type == 'bitbucket' || self.type == 'azuredevops' || !has(self.commitStatusExpr)",message="spec.commitStatusExpr is only supported for the 'github', 'gitlab', 'gitea', 'bitbucketserver', 'bitbucket', 'azuredevops' provider types"
type ProviderSpec struct {
	// Type of the service.
	// +kubebuilder:validation:Enum=slack;discord;msteams;rocket;generic;generic-hmac;github;gitlab;gitea;giteapullrequestcomment;bitbucketserver;bitbucket;azuredevops;googlechat;googlepubsub;webex;sentry;azureeventhub;telegram;lark;matrix;opsgenie;alertmanager;grafana;githubdispatch;githubpullrequestcomment;gitlabmergerequestcomment;pagerduty;datadog;nats;zulip;otel
	// +required
	Type string `json:"type"`

	// Interval is accepted for compatibility and has no effect.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	// +optional
	Interval meta.Duration `json:"interval,omitempty"`

	// Channel of the service: what it means is up to the type.
	// +kubebuilder:validation:MaxLength:=2048
	// +optional
	Channel string `json:"channel,omitempty"`

	// Username that messages are posted under, for types that have one.
	// +kubebuilder:validation:MaxLength:=2048
	// +optional
	Username string `json:"username,omitempty"`

	// Address of the service: what it means is up to the type. An "address" in the Secret wins.
	// +kubebuilder:validation:MaxLength:=2048
	// +optional
	Address string `json:"address,omitempty"`

	// Timeout of telling one event, retries included, like "30s". Defaults to 15s.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m))+$"
	// +optional
	Timeout meta.Duration `json:"timeout,omitempty"`

	// Proxy is the URL of a proxy. Deprecated: use proxySecretRef.
	// +kubebuilder:validation:MaxLength:=2048
	// +kubebuilder:validation:Pattern="^(http|https)://.*$"
	// +optional
	Proxy string `json:"proxy,omitempty"`

	// ProxySecretRef names a Secret in the same namespace with the "address" of a proxy and, where it wants them, "username" and
	// "password".
	// +optional
	ProxySecretRef *meta.LocalObjectReference `json:"proxySecretRef,omitempty"`

	// SecretRef names a Secret in the same namespace with the credentials of the service: "token", "username" and "password",
	// "address", "headers", and what the type needs besides.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// ServiceAccountName names a ServiceAccount in the same namespace whose cloud identity is used, for types azuredevops,
	// azureeventhub and googlepubsub. It needs the feature gate ObjectLevelWorkloadIdentity.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// CertSecretRef names a Secret in the same namespace with TLS material: "ca.crt", or "tls.crt" and "tls.key", or all of them.
	// +optional
	CertSecretRef *meta.LocalObjectReference `json:"certSecretRef,omitempty"`

	// Suspend stops all notifications through this Provider.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// CommitStatusExpr is a CEL expression of the id of a commit status, over "event", "alert" and "provider". Only for types that
	// post commit statuses.
	// +optional
	CommitStatusExpr string `json:"commitStatusExpr,omitempty"`
}

// Provider says who is told of events, and how.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:categories=all;fluxcd;fluxcd-notifications
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp",description=""
type Provider struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ProviderSpec `json:"spec,omitempty"`
}

// ProviderList is a list of Providers.
//
// +kubebuilder:object:root=true
type ProviderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Provider `json:"items"`
}

// GetTimeout returns spec.timeout, or 15s when it is not set (provider 3).
func (o *Provider) GetTimeout() time.Duration { return o.Spec.Timeout.Or(defaultProviderTimeout) }

// DurationError names the unusable durations of the spec.
func (o *Provider) DurationError() error {
	return meta.CheckDurations(meta.DurationField{Path: "spec.timeout", Value: o.Spec.Timeout})
}
