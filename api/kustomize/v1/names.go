package v1

// Labels a Kustomization puts on every object it applies; together they name its owner (contract wire.md 3).
const (
	// OwnerNameLabel holds the name of the Kustomization.
	OwnerNameLabel string = GroupName + "/name"
	// OwnerNamespaceLabel holds the namespace of the Kustomization.
	OwnerNamespaceLabel string = GroupName + "/namespace"
)

// Annotations by which a single manifest or object steers how it is treated (contract wire.md 2).
const (
	// ReconcileAnnotation with DisabledValue keeps an object from being applied and from being pruned.
	ReconcileAnnotation string = GroupName + "/reconcile"
	// PruneAnnotation with DisabledValue keeps an object from being pruned.
	PruneAnnotation string = GroupName + "/prune"
	// SSAAnnotation holds how an object is applied: one of the SSA values below.
	SSAAnnotation string = GroupName + "/ssa"
	// ForceAnnotation with EnabledValue recreates an object when an immutable field has to change.
	ForceAnnotation string = GroupName + "/force"
	// SubstituteAnnotation with DisabledValue, as annotation or label, keeps variables in a manifest as they are.
	SubstituteAnnotation string = GroupName + "/substitute"
	// DecryptAnnotation with DisabledValue keeps a manifest from being decrypted.
	DecryptAnnotation string = GroupName + "/decrypt"
	// ChecksumAnnotation was set by early versions and is removed on apply.
	ChecksumAnnotation string = GroupName + "/checksum"
)

// Annotations by which a Kustomization is kept from accidents. They are not part of Flux 2.9.
const (
	// PruneLimitAnnotation holds how much one revision may delete without approval: a number of objects, a percentage of the
	// inventory, both, or "none". It wins over --prune-limit.
	PruneLimitAnnotation string = GroupName + "/prune-limit"
	// PruneProtectAnnotation lists kinds of which nothing is deleted without approval, or is "none". It wins over
	// --prune-protect.
	PruneProtectAnnotation string = GroupName + "/prune-protect"
	// ApproveAnnotation approves the deletions of a held revision: "<revision>/<digest of what was built>".
	ApproveAnnotation string = GroupName + "/approve"
	// DriftAnnotation with ReportValue keeps drift from being corrected; it is told instead.
	DriftAnnotation string = GroupName + "/drift"
)

// HeldReason of Ready: the revision waits for approval.
const HeldReason string = "Held"

// Values of the annotations above.
const (
	DisabledValue string = "disabled"
	EnabledValue  string = "enabled"
	ReportValue   string = "report"
	NoneValue     string = "none"

	// SSAOverride owns all fields of the manifest and drops what others left behind. It is the default.
	SSAOverride string = "Override"
	// SSAMerge owns all fields of the manifest and keeps the fields of others.
	SSAMerge string = "Merge"
	// SSAIfNotPresent creates the object and never changes it.
	SSAIfNotPresent string = "IfNotPresent"
	// SSAIgnore does not touch the object.
	SSAIgnore string = "Ignore"
)

// Values of spec.deletionPolicy.
const (
	// DeletionPolicyMirrorPrune deletes the managed objects if spec.prune is true, and leaves them otherwise.
	DeletionPolicyMirrorPrune string = "MirrorPrune"
	// DeletionPolicyDelete deletes the managed objects.
	DeletionPolicyDelete string = "Delete"
	// DeletionPolicyWaitForTermination deletes the managed objects and waits until they are gone.
	DeletionPolicyWaitForTermination string = "WaitForTermination"
	// DeletionPolicyOrphan leaves the managed objects.
	DeletionPolicyOrphan string = "Orphan"
)

// Values of spec.postBuild.substituteStrategy.
const (
	// SubstituteWithVariables looks at manifests only if there is at least one variable.
	SubstituteWithVariables string = "WithVariables"
	// SubstituteAlways looks at manifests also without any variable, so that defaults take effect.
	SubstituteAlways string = "Always"
)

// Values of spec.buildMetadata.
const (
	// BuildMetadataOrigin notes on each object the file it comes from.
	BuildMetadataOrigin string = "originAnnotations"
	// BuildMetadataTransformer notes on each object what has changed it during the build.
	BuildMetadataTransformer string = "transformerAnnotations"
)

// DecryptionProviderSOPS is the one provider of spec.decryption.
const DecryptionProviderSOPS string = "sops"

// Keys of the metadata of a history entry.
const (
	// HistoryRevisionKey holds the revision of the artifact.
	HistoryRevisionKey string = "revision"
	// HistoryOriginRevisionKey holds the revision the artifact was made from.
	HistoryOriginRevisionKey string = "originRevision"
)
