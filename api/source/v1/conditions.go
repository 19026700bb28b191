package v1

import "time"

// Condition types of sources. Those of every kind are in package meta.
const (
	// ArtifactInStorageCondition is True while the artifact the status tells of is stored.
	ArtifactInStorageCondition string = "ArtifactInStorage"
	// SourceVerifiedCondition tells whether the signature of the content was checked, and how that ended.
	SourceVerifiedCondition string = "SourceVerified"
	// ArtifactOutdatedCondition is True while a newer revision is known than the one that is stored.
	ArtifactOutdatedCondition string = "ArtifactOutdated"
	// FetchFailedCondition is True when the content could not be looked up or fetched.
	FetchFailedCondition string = "FetchFailed"
	// StorageOperationFailedCondition is True when an artifact could not be stored or read back.
	StorageOperationFailedCondition string = "StorageOperationFailed"
	// BuildFailedCondition is True when a chart could not be built from what was fetched.
	BuildFailedCondition string = "BuildFailed"
	// IncludeUnavailableCondition is True when an included GitRepository is missing or has no artifact.
	IncludeUnavailableCondition string = "IncludeUnavailable"
)

// Reasons all sources share (contract wire.md 6).
const (
	URLInvalidReason                   string = "URLInvalid"
	AuthenticationFailedReason         string = "AuthenticationFailed"
	VerificationErrorReason            string = "VerificationError"
	DirectoryCreationFailedReason      string = "DirectoryCreationFailed"
	StatOperationFailedReason          string = "StatOperationFailed"
	ReadOperationFailedReason          string = "ReadOperationFailed"
	AcquireLockFailedReason            string = "AcquireLockFailed"
	ArchiveOperationFailedReason       string = "ArchiveOperationFailed"
	SymlinkUpdateFailedReason          string = "SymlinkUpdateFailed"
	ArtifactUpToDateReason             string = "ArtifactUpToDate"
	CacheOperationFailedReason         string = "CacheOperationFailed"
	PatchOperationFailedReason         string = "PatchOperationFailed"
	InvalidSTSConfigurationReason      string = "InvalidSTSConfiguration"
	InvalidProviderConfigurationReason string = "InvalidProviderConfiguration"
	NewRevisionReason                  string = "NewRevision"
	NoArtifactReason                   string = "NoArtifact"
	NotFoundReason                     string = "NotFound"
	UnknownReason                      string = "Unknown"
)

// Reasons of GitRepository.
const (
	GitOperationSucceededReason   string = "GitOperationSucceeded"
	GitOperationFailedReason      string = "GitOperationFailed"
	IncludeChangeReason           string = "IncludeChange"
	InvalidVerificationModeReason string = "InvalidVerificationMode"
	InvalidGitObjectReason        string = "InvalidGitObject"
	InvalidTagSignatureReason     string = "InvalidTagSignature"
	InvalidCommitSignatureReason  string = "InvalidCommitSignature"
	SourceIgnoreErrorReason       string = "SourceIgnoreError"
	IllegalPathReason             string = "IllegalPath"
	CopyFailureReason             string = "CopyFailure"
	EmptyGitRepositoryReason      string = "EmptyGitRepository"
)

// Reasons of OCIRepository.
const (
	OCIArtifactPullFailedReason           string = "OCIArtifactPullFailed"
	OCIArtifactLayerOperationFailedReason string = "OCIArtifactLayerOperationFailed"
)

// IndexationFailedReason of HelmRepository says that the index could not be read.
const IndexationFailedReason string = "IndexationFailed"

// Reasons of Bucket.
const (
	BucketOperationSucceededReason string = "BucketOperationSucceeded"
	BucketOperationFailedReason    string = "BucketOperationFailed"
)

// Reasons of HelmChart.
const (
	ChartPullSucceededReason     string = "ChartPullSucceeded"
	ChartPackageSucceededReason  string = "ChartPackageSucceeded"
	SourceUnavailableReason      string = "SourceUnavailable"
	UnsupportedSourceKindReason  string = "UnsupportedSourceKind"
	NoSourceArtifactReason       string = "NoSourceArtifact"
	NewChartReason               string = "NewChart"
	InvalidChartReferenceReason  string = "InvalidChartReference"
	ChartPullErrorReason         string = "ChartPullError"
	MetadataPatchErrorReason     string = "MetadataPatchError"
	ValuesFilesErrorReason       string = "ValuesFilesError"
	DependencyBuildErrorReason   string = "DependencyBuildError"
	ChartPackageErrorReason      string = "ChartPackageError"
	ChartVerificationErrorReason string = "ChartVerificationError"
)

// Reasons that occur in events of sources only.
const (
	NewArtifactReason                string = "NewArtifact"
	GarbageCollectionSucceededReason string = "GarbageCollectionSucceeded"
	GarbageCollectionFailedReason    string = "GarbageCollectionFailed"
	ArtifactVerificationFailedReason string = "ArtifactVerificationFailed"
	ResolvedDependenciesReason       string = "ResolvedDependencies"
)

// defaultTimeout limits the remote operations of a source that does not say how long they may take.
const defaultTimeout = 60 * time.Second

// positiveOr returns d, or def when d would not let any work be done.
func positiveOr(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
