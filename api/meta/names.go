package meta

// Annotations users and tools put on reconciled objects (contract wire.md 2).
const (
	// ReconcileRequestAnnotation asks for a run now. Its value is an opaque token; every new value asks once.
	ReconcileRequestAnnotation string = "reconcile.fluxcd.io/requestedAt"
	// ForceRequestAnnotation asks the run requested with the same token to force its action.
	ForceRequestAnnotation string = "reconcile.fluxcd.io/forceAt"
	// ResetRequestAnnotation asks the run requested with the same token to forget its failure counts first.
	ResetRequestAnnotation string = "reconcile.fluxcd.io/resetAt"
	// EventAnnotationPrefix marks annotations whose remainder is copied, as a key, into the metadata of the object's events.
	EventAnnotationPrefix string = "event.toolkit.fluxcd.io/"
)

// OCI manifest annotations that say where an artifact comes from. They travel in Artifact.Metadata.
const (
	// OriginSourceKey names the repository the content was built from.
	OriginSourceKey string = "org.opencontainers.image.source"
	// OriginRevisionKey names the revision of that repository.
	OriginRevisionKey string = "org.opencontainers.image.revision"
	// OriginCreatedKey is the time the content was built, RFC 3339.
	OriginCreatedKey string = "org.opencontainers.image.created"
)

// Labels with a meaning for all controllers (contract wire.md 3).
const (
	// WatchLabel on a Secret or ConfigMap makes a change of it trigger the objects that refer to it.
	WatchLabel string = "reconcile.fluxcd.io/watch"
	// WatchLabelEnabled is the value of WatchLabel the default selector asks for.
	WatchLabelEnabled string = "Enabled"
	// ShardLabel is the conventional label by which objects are spread over several instances of a controller.
	ShardLabel string = "sharding.fluxcd.io/key"
	// TenantLabel names the tenant an object was created for.
	TenantLabel string = "toolkit.fluxcd.io/tenant"
)

// Finalizer is set on every reconciled object before any work, and removed when its traces are gone.
const Finalizer string = "finalizers.fluxcd.io"
