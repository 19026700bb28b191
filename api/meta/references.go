package meta

// LocalObjectReference names an object in the namespace of the object that refers to it. The field says which kind.
type LocalObjectReference struct {
	// Name of the object.
	// +required
	Name string `json:"name"`
}

// NamespacedObjectReference names an object, maybe in another namespace. The field says which kind.
type NamespacedObjectReference struct {
	// Name of the object.
	// +required
	Name string `json:"name"`

	// Namespace of the object. Defaults to the namespace of the object that refers to it.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// NamespacedObjectKindReference names an object of any kind, maybe in another namespace.
type NamespacedObjectKindReference struct {
	// APIVersion of the object, as "group/version" or "version". What an empty one stands for is told by the field.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`

	// Kind of the object.
	// +required
	Kind string `json:"kind"`

	// Name of the object.
	// +required
	Name string `json:"name"`

	// Namespace of the object. Defaults to the namespace of the object that refers to it.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// SecretKeyReference names a Secret in the same namespace and one key of its data.
type SecretKeyReference struct {
	// Name of the Secret.
	// +required
	Name string `json:"name"`

	// Key in the data of the Secret. What an empty one stands for is told by the field that holds the reference.
	// +optional
	Key string `json:"key,omitempty"`
}

// KubeConfigReference says how to reach another cluster. Exactly one of its fields is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapRef) || has(self.secretRef)",message="exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified"
// +kubebuilder:validation:XValidation:rule="!has(self.configMapRef) || !has(self.secretRef)",message="exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified"
type KubeConfigReference struct {
	// ConfigMapRef names a ConfigMap in the same namespace that describes access by workload identity. Its keys: "provider"
	// (aws, azure, gcp or generic), "cluster", "address", "ca.crt", "serviceAccountName" and "audiences", one per line.
	// +optional
	ConfigMapRef *LocalObjectReference `json:"configMapRef,omitempty"`

	// SecretRef names a Secret in the same namespace that holds a kubeconfig. Without a key, "value" is tried first and then
	// "value.yaml".
	// +optional
	SecretRef *SecretKeyReference `json:"secretRef,omitempty"`
}

// DependencyReference names an object of the same kind that must be ready first.
type DependencyReference struct {
	// Name of the object this one waits for.
	// +required
	Name string `json:"name"`

	// Namespace of the object. Defaults to the namespace of the object that waits.
	// +optional
	Namespace string `json:"namespace,omitempty"`

	// ReadyExpr is a CEL expression that decides whether the dependency is ready, in place of the built-in check. It sees
	// the dependency as "dep" and the waiting object as "self", and must return a boolean.
	// +optional
	ReadyExpr string `json:"readyExpr,omitempty"`
}

// AccessFrom lists the namespaces whose objects may refer to the object that carries it, besides its own namespace.
type AccessFrom struct {
	// NamespaceSelectors admit every namespace that at least one of them matches.
	// +required
	NamespaceSelectors []NamespaceSelector `json:"namespaceSelectors"`
}

// NamespaceSelector matches namespaces by label.
type NamespaceSelector struct {
	// MatchLabels must all be on the namespace with these values. An empty map matches every namespace.
	// +optional
	MatchLabels map[string]string `json:"matchLabels,omitzero"`
}
