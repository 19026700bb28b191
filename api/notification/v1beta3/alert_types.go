package v1beta3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// AlertKind is the kind of an Alert.
const AlertKind string = "Alert"

// Values of spec.eventSeverity (alert 9).
const (
	// SeverityInfo accepts all events.
	SeverityInfo string = "info"
	// SeverityError accepts errors alone.
	SeverityError string = "error"
)

// AlertSpec says which events go to which Provider.
type AlertSpec struct {
	// ProviderRef names the Provider in the same namespace that is told.
	// +required
	ProviderRef meta.LocalObjectReference `json:"providerRef"`

	// EventSeverity is the least severity that counts: "info" takes all events, "error" errors alone.
	// +kubebuilder:validation:Enum=info;error
	// +kubebuilder:default:=info
	// +optional
	EventSeverity string `json:"eventSeverity,omitempty"`

	// EventSources are the objects whose events count.
	// +required
	EventSources []notificationv1.ObjectSelector `json:"eventSources"`

	// InclusionList are regular expressions, in the syntax of Go. When there are any, the message of an event must match one.
	// +optional
	InclusionList []string `json:"inclusionList,omitempty"`

	// EventMetadata is added to the metadata of the events. Metadata of the event itself wins.
	// +optional
	EventMetadata map[string]string `json:"eventMetadata,omitempty"`

	// ExclusionList are regular expressions, in the syntax of Go. An event whose message matches one does not count.
	// +optional
	ExclusionList []string `json:"exclusionList,omitempty"`

	// Summary is added to the metadata of the events as "summary". Deprecated: use eventMetadata.
	// +kubebuilder:validation:MaxLength:=255
	// +optional
	Summary string `json:"summary,omitempty"`

	// Suspend stops all notifications of this Alert.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
}

// Alert says which events go to which Provider.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:categories=all;fluxcd;fluxcd-notifications
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp",description=""
type Alert struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AlertSpec `json:"spec,omitempty"`
}

// AlertList is a list of Alerts.
//
// +kubebuilder:object:root=true
type AlertList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Alert `json:"items"`
}
