package meta

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Artifact describes a packaged file a source offers to its consumers (contract wire.md 8).
type Artifact struct {
	// Path of the file below the root of the artifact server: "<lower-case kind>/<namespace>/<name>/<file>".
	// +required
	Path string `json:"path"`

	// URL the file can be fetched from over HTTP.
	// +required
	URL string `json:"url"`

	// Revision of the content in the terms of its origin, for example "main@sha1:<hash>" for Git or "1.2.3" for a chart.
	// +required
	Revision string `json:"revision"`

	// Digest of the file as "<algorithm>:<hex>". Consumers check it before they use the content.
	// +required
	// +kubebuilder:validation:Pattern="^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$"
	Digest string `json:"digest"`

	// LastUpdateTime is when this file was stored.
	// +required
	LastUpdateTime metav1.Time `json:"lastUpdateTime"`

	// Size of the file in bytes.
	// +optional
	Size *int64 `json:"size,omitempty"`

	// Metadata handed on from the origin, such as the annotations of an OCI manifest.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}
