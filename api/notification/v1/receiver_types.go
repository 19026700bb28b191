package v1

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// ReceiverKind is the kind of a Receiver.
const ReceiverKind string = "Receiver"

// Reasons of conditions of a Receiver (contract wire.md 6).
const (
	// TokenNotFoundReason says that the Secret, or its token, is missing.
	TokenNotFoundReason string = "TokenNotFound"
	// ValidationFailedReason says that the spec contradicts itself.
	ValidationFailedReason string = "ValidationFailed"
)

// WebhookPathPrefix begins every webhook path (wire.md 12).
const WebhookPathPrefix string = "/hook/"

// defaultReceiverInterval is used when spec.interval is not set (receiver 7).
const defaultReceiverInterval = 10 * time.Minute

// ReceiverSpec says who may call the webhook and what a call does.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'generic-oidc' || (has(self.oidcProviders) && size(self.oidcProviders) > 0)",message="generic-oidc receivers must define at least one oidcProvider"
// +kubebuilder:validation:XValidation:rule="self.type == 'generic-oidc' || !has(self.oidcProviders) || size(self.oidcProviders) == 0",message="oidcProviders can only be set when type is generic-oidc"
// +kubebuilder:validation:XValidation:rule="self.type != 'generic-oidc' || !has(self.secretRef)",message="secretRef cannot be set when type is generic-oidc"
// +kubebuilder:validation:XValidation:rule="self.type == 'generic-oidc' || has(self.secretRef)",message="secretRef is required when type is not generic-oidc"
type ReceiverSpec struct {
	// Type of the sender: how a call proves where it comes from, and how its event is read.
	// +kubebuilder:validation:Enum=generic;generic-hmac;generic-oidc;github;gitlab;bitbucket;harbor;dockerhub;quay;gcr;nexus;acr;cdevents
	// +required
	Type string `json:"type"`

	// Interval between two looks at the Secret, like "10m".
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern="^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"
	// +kubebuilder:default="10m"
	// +optional
	Interval meta.Duration `json:"interval,omitempty"`

	// Events are the events that count, like "push", for types whose calls name one: github, gitlab, bitbucket and cdevents.
	// Empty means all.
	// +optional
	Events []string `json:"events,omitempty"`

	// Resources are the objects that a call asks to reconcile.
	// +required
	Resources []ReceiverResource `json:"resources"`

	// ResourceFilter is a CEL expression that decides for each selected object whether it is asked. It sees the metadata of the
	// object as "res", the body of the call as "req" and, with type generic-oidc, the claims of the token as "claims".
	// +optional
	ResourceFilter string `json:"resourceFilter,omitempty"`

	// SecretRef names a Secret in the same namespace whose "token" authenticates calls and makes the path of the webhook hard to
	// guess. Type gcr also needs "email" and "audience". Required, but for type generic-oidc.
	// +optional
	SecretRef *meta.LocalObjectReference `json:"secretRef,omitempty"`

	// OIDCProviders are the issuers whose tokens a call may present. Only for type generic-oidc, which needs one.
	// +listType=map
	// +listMapKey=issuerURL
	// +optional
	OIDCProviders []OIDCProvider `json:"oidcProviders,omitempty"`

	// Suspend lets the webhook answer 503.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// ReceiverResource selects objects to reconcile.
type ReceiverResource struct {
	ObjectSelector `json:",inline"`

	// Filter is a CEL expression like resourceFilter, for the objects selected here; both must hold.
	// +optional
	Filter string `json:"filter,omitempty"`
}

// OIDCProvider is an issuer of tokens, and what its tokens must say.
type OIDCProvider struct {
	// IssuerURL is the "iss" of the tokens; the keys are found from there by OpenID Connect Discovery.
	// +kubebuilder:validation:Pattern="^https?://"
	// +required
	IssuerURL string `json:"issuerURL"`

	// Audience that the tokens must be for. Defaults to "notification-controller".
	// +optional
	Audience string `json:"audience,omitempty"`

	// Variables are CEL expressions over "claims" and the variables before them, for the use of validations, as "vars.<name>".
	// +optional
	Variables []OIDCVariable `json:"variables,omitempty"`

	// Validations are CEL expressions over "claims" and "vars" that must all be true.
	// +kubebuilder:validation:MinItems=1
	// +required
	Validations []OIDCValidation `json:"validations"`
}

// OIDCVariable is a named CEL expression.
type OIDCVariable struct {
	// Name of the variable.
	// +required
	Name string `json:"name"`

	// Expression of its value.
	// +required
	Expression string `json:"expression"`
}

// OIDCValidation is a condition on a token.
type OIDCValidation struct {
	// Expression that must be true.
	// +required
	Expression string `json:"expression"`

	// Message says what is wrong when it is not.
	// +required
	Message string `json:"message"`
}

// ReceiverStatus is what was observed of a Receiver.
type ReceiverStatus struct {
	meta.ReconcileRequestStatus `json:",inline"`

	// Conditions of the Receiver: Ready, Reconciling, Stalled.
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// WebhookPath is where calls go to, below the address of the webhook service.
	// +optional
	WebhookPath string `json:"webhookPath,omitempty"`

	// ObservedGeneration is the generation of the spec the last completed run was about. -1 before the first.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// Receiver is a webhook that asks other objects to reconcile at once.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=all;fluxcd;fluxcd-notifications
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp",description=""
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].status",description=""
// +kubebuilder:printcolumn:name="Status",type="string",JSONPath=".status.conditions[?(@.type==\"Ready\")].message",description=""
type Receiver struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ReceiverSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"observedGeneration":-1}
	Status ReceiverStatus `json:"status,omitempty"`
}

// ReceiverList is a list of Receivers.
//
// +kubebuilder:object:root=true
type ReceiverList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Receiver `json:"items"`
}

// GetConditions returns status.conditions.
func (o *Receiver) GetConditions() []metav1.Condition { return o.Status.Conditions }

// SetConditions replaces status.conditions.
func (o *Receiver) SetConditions(c []metav1.Condition) { o.Status.Conditions = c }

// GetObservedGeneration returns status.observedGeneration.
func (o *Receiver) GetObservedGeneration() int64 { return o.Status.ObservedGeneration }

// SetObservedGeneration replaces status.observedGeneration.
func (o *Receiver) SetObservedGeneration(g int64) { o.Status.ObservedGeneration = g }

// GetLastHandledReconcileRequest returns status.lastHandledReconcileAt.
func (o *Receiver) GetLastHandledReconcileRequest() string {
	return o.Status.GetLastHandledReconcileRequest()
}

// SetLastHandledReconcileRequest replaces status.lastHandledReconcileAt.
func (o *Receiver) SetLastHandledReconcileRequest(token string) {
	o.Status.SetLastHandledReconcileRequest(token)
}

// IsSuspended tells whether spec.suspend is set.
func (o *Receiver) IsSuspended() bool { return o.Spec.Suspend }

// GetInterval returns spec.interval, or 10m when it is not set (receiver 7).
func (o *Receiver) GetInterval() time.Duration {
	if !o.Spec.Interval.IsSet() {
		return defaultReceiverInterval
	}
	return o.Spec.Interval.Value()
}

// DurationError names the unusable durations of the spec.
func (o *Receiver) DurationError() error {
	return meta.CheckDurations(meta.DurationField{Path: "spec.interval", Value: o.Spec.Interval})
}

// GetWebhookPath returns the path of the webhook for a token, which is empty for type generic-oidc (receiver 6).
func (o *Receiver) GetWebhookPath(token string) string {
	sum := sha256.Sum256([]byte(token + o.Name + o.Namespace))
	return WebhookPathPrefix + hex.EncodeToString(sum[:])
}
