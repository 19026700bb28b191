package v1

// ObjectSelector selects objects of one kind: one by its name, or many by "*" and their labels.
type ObjectSelector struct {
	// APIVersion of the object, as "group/version". Defaults to the one of the kind where the kind is unmistakable.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind of the object.
	// +kubebuilder:validation:Enum=Bucket;GitRepository;Kustomization;HelmRelease;HelmChart;HelmRepository;ImageRepository;ImagePolicy;ImageUpdateAutomation;OCIRepository;ArtifactGenerator;ExternalArtifact
	// +required
	Kind string `json:"kind"`

	// Name of the object; "*" selects by matchLabels alone.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`

	// Namespace of the object. Defaults to the namespace of the object that refers to it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// MatchLabels are labels the object must have, all of them.
	// +optional
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// AnyName is the name that selects objects by their labels alone.
const AnyName string = "*"
