// Package v1beta3 holds the kinds Alert and Provider of the API group notification.toolkit.fluxcd.io/v1beta3: what of the events is
// told, and to whom.
//
// Go fields carry the name of their JSON field. Methods are accessors; neither kind has a status.
//
// +kubebuilder:object:generate=true
// +groupName=notification.toolkit.fluxcd.io
package v1beta3
