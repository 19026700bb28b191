package meta

// Selector picks objects among those an applier manages. Fields that are not set match everything; the others must all
// match. Group, version, kind, namespace and name are regular expressions that have to match the whole value.
type Selector struct {
	// Group of the API of the objects.
	// +optional
	Group string `json:"group,omitempty"`

	// Version of the API of the objects.
	// +optional
	Version string `json:"version,omitempty"`

	// Kind of the objects.
	// +optional
	Kind string `json:"kind,omitempty"`

	// Namespace of the objects.
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// Name of the objects.
	// +optional
	Name string `json:"name,omitempty"`

	// AnnotationSelector in the syntax of a Kubernetes label selector, matched against annotations.
	// +optional
	AnnotationSelector string `json:"annotationSelector,omitempty"`

	// LabelSelector in the syntax of a Kubernetes label selector.
	// +optional
	LabelSelector string `json:"labelSelector,omitempty"`
}

// Patch changes objects before they are applied.
type Patch struct {
	// Patch as YAML or JSON text: a strategic merge patch, or a list of JSON patch operations (RFC 6902).
	// +required
	Patch string `json:"patch"`

	// Target of the patch. A strategic merge patch without one patches the object it names itself.
	// +optional
	Target *Selector `json:"target,omitempty"`
}

// Image changes a container image before objects are applied.
type Image struct {
	// Name of the image as it stands in the manifests, without tag or digest.
	// +required
	Name string `json:"name"`

	// NewName replaces the name.
	// +optional
	NewName string `json:"newName,omitempty"`

	// NewTag replaces the tag.
	// +optional
	NewTag string `json:"newTag,omitempty"`

	// Digest replaces the tag by a digest. It wins over NewTag.
	// +optional
	Digest string `json:"digest,omitempty"`
}

// IgnoreRule keeps parts of live objects from being seen, and corrected, as drift.
type IgnoreRule struct {
	// Paths to leave alone, as JSON pointers (RFC 6901).
	// +required
	Paths []string `json:"paths"`

	// Target objects of the rule. Without one the rule holds for all objects.
	// +optional
	Target *Selector `json:"target,omitempty"`
}

// CommonMetadata is put on every applied object, over what the manifests say.
type CommonMetadata struct {
	// Annotations to set.
	// +optional
	Annotations map[string]string `json:"annotations,omitzero"`

	// Labels to set.
	// +optional
	Labels map[string]string `json:"labels,omitzero"`
}

// HealthCheckExpr tells the health of a kind by CEL expressions over its objects. They are tried in the order inProgress,
// failed, current; the first that is true decides, and an object none of them is true for is in progress.
type HealthCheckExpr struct {
	// APIVersion of the kind. Only its group counts.
	// +required
	APIVersion string `json:"apiVersion"`

	// Kind the expressions are for. Without one they are for all kinds of the group.
	// +optional
	Kind string `json:"kind,omitempty"`

	// InProgress is true while the object is on its way to what its spec asks for.
	// +optional
	InProgress string `json:"inProgress,omitempty"`

	// Failed is true when the object will not get there by itself.
	// +optional
	Failed string `json:"failed,omitempty"`

	// Current is true when the object is what its spec asks for.
	// +required
	Current string `json:"current"`
}
