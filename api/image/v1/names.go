package v1

// Reasons of ImageRepository and ImagePolicy (contract wire.md 6).
const (
	// ImageURLInvalidReason says that spec.image of the ImageRepository is not the address of an image.
	ImageURLInvalidReason string = "ImageURLInvalid"
	// AuthenticationFailedReason says that what is needed to speak to the registry could not be put together.
	AuthenticationFailedReason string = "AuthenticationFailed"
	// ReadOperationFailedReason says that the tags could not be listed.
	ReadOperationFailedReason string = "ReadOperationFailed"
	// FailureReason says that a run failed and no other reason fits.
	FailureReason string = "Failure"
	// InvalidPolicyReason says that spec.policy or spec.filterTags of an ImagePolicy cannot be used.
	InvalidPolicyReason string = "InvalidPolicy"
	// IntervalNotConfiguredReason says that an ImagePolicy is to look for digests periodically and does not say how often.
	IntervalNotConfiguredReason string = "IntervalNotConfigured"
)

// Reasons of ImageUpdateAutomation (contract wire.md 6).
const (
	// InvalidUpdateStrategyReason says that spec.update names no known way of updating.
	InvalidUpdateStrategyReason string = "InvalidUpdateStrategy"
	// InvalidSourceConfigurationReason says that spec.sourceRef, spec.git or the GitRepository they lead to cannot be used.
	InvalidSourceConfigurationReason string = "InvalidSourceConfiguration"
	// SourceManagerFailedReason says that the way to the repository could not be prepared.
	SourceManagerFailedReason string = "SourceManagerFailed"
	// GitOperationFailedReason says that the repository could not be read, committed to or pushed to.
	GitOperationFailedReason string = "GitOperationFailed"
	// UpdateFailedReason says that the files could not be edited.
	UpdateFailedReason string = "UpdateFailed"
	// InvalidPolicySelectorReason says that spec.policySelector cannot be used.
	InvalidPolicySelectorReason string = "InvalidPolicySelector"
	// RemovedTemplateFieldReason says that the template of the commit message uses data that no longer exists.
	RemovedTemplateFieldReason string = "RemovedTemplateField"
)
