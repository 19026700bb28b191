package generate

// Limits bound what an ArtifactGenerator can make of its sources, which are only read: what is counted here is the size
// of the result.
type Limits struct {
	// Artifacts is how many artifacts one object makes.
	Artifacts int
	// Files is the number of files and directories of an artifact.
	Files int64
	// Bytes is the size of the files of an artifact.
	Bytes int64
	// PathBytes is the length of a path in an artifact.
	PathBytes int
	// Depth is the number of elements of a path in an artifact.
	Depth int
	// MergeBytes is the size of a YAML file to merge.
	MergeBytes int64
}

// DefaultLimits admits every artifact that consumers would unpack. Five thousand artifacts is what the inventory has
// room for in an object of Kubernetes.
func DefaultLimits() Limits {
	return Limits{Artifacts: 5000, Files: 500_000, Bytes: 2 << 30, PathBytes: 4096, Depth: 128, MergeBytes: 10 << 20}
}
