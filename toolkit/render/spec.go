package render

import (
	"context"
	"io"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/types"
)

// Spec is what a Kustomization asks of the build. The zero value builds the root of the tree as it is.
type Spec struct {
	// Path is the directory to build, slash separated and relative to the tree. It cannot leave the tree: ".." at
	// the root stays at the root.
	Path string
	// TargetNamespace, NamePrefix and NameSuffix override the fields of the kustomization file when not empty.
	TargetNamespace string
	NamePrefix      string
	NameSuffix      string
	// Patches, PatchesStrategicMerge and PatchesJSON6902 are appended to those of the kustomization file. They are
	// inline: a path is ignored.
	Patches               []types.Patch
	PatchesStrategicMerge []string
	PatchesJSON6902       []types.Patch
	// Images are merged by name into those of the kustomization file.
	Images []types.Image
	// Components are appended. Each is a path relative to Path.
	Components []string
	// IgnoreMissingComponents leaves out the Components whose directory does not exist.
	IgnoreMissingComponents bool
	// BuildMetadata replaces that of the kustomization file when not empty.
	BuildMetadata []string
}

// Options is how a build runs: what the operator of the process decides, and the hooks of the caller.
type Options struct {
	// Limits bounds one build; zero fields take their value from DefaultLimits.
	Limits Limits
	// NoRemoteBases refuses every reference to another host before a connection is made.
	NoRemoteBases bool
	// HTTP fetches single files named by URL. Nil is a client of its own without any credentials.
	HTTP *http.Client
	// Git resolves bases in Git repositories. Nil refuses them: kustomize itself would start a git process.
	Git GitFetcher
	// Decrypt is asked before and after the build. Nil leaves everything as it is.
	Decrypt Decrypter
	// Variables are the post-build variables. Nil leaves the objects as they are.
	Variables *Substitution
	// Ignore leaves files and directories out of a generated kustomization file, by their path relative to the tree: for
	// a tree that has not gone through a source, which would have left them out. Nil leaves out nothing.
	Ignore func(name string, dir bool) bool

	parts int // objects in a part; 0 is partObjects
}

func (o Options) partSize() int {
	if o.parts == 0 {
		return partObjects
	}
	return o.parts
}

// Limits bounds what one build may cost. Zero fields mean the default, so that no limit is off by accident.
type Limits struct {
	// FileBytes is the largest file the build reads, in bytes.
	FileBytes int64
	// TotalBytes is the most it reads altogether, in bytes, a file read twice counted twice.
	TotalBytes int64
	// Files is the number of files and directories a directory without a kustomization file may hold.
	Files int
	// Kustomizations is the number of kustomization files read, a file read twice counted twice.
	Kustomizations int
	// Depth is how many kustomizations may be stacked on each other.
	Depth int
	// Documents is the number of YAML documents in one file.
	Documents int
	// Nodes is the number of YAML nodes one file may expand to through its aliases.
	Nodes int
	// Objects is the number of objects in the result.
	Objects int
	// ObjectBytes is the size of one object after variable substitution, in bytes.
	ObjectBytes int
	// Remotes is the number of remote files and repositories of one build.
	Remotes int
	// RemoteTimeout is the time for one remote file or repository.
	RemoteTimeout time.Duration
}

// DefaultLimits are generous for what people write by hand or generate, and small enough that a build which reaches
// them does not endanger its neighbours.
func DefaultLimits() Limits {
	return Limits{
		FileBytes:      16 << 20,
		TotalBytes:     128 << 20,
		Files:          50_000,
		Kustomizations: 5_000,
		Depth:          64,
		Documents:      20_000,
		Nodes:          2_000_000,
		Objects:        10_000,
		ObjectBytes:    4 << 20,
		Remotes:        100,
		RemoteTimeout:  30 * time.Second,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Files, d.Files}, {&l.Kustomizations, d.Kustomizations}, {&l.Depth, d.Depth}, {&l.Documents, d.Documents},
		{&l.Nodes, d.Nodes}, {&l.Objects, d.Objects}, {&l.ObjectBytes, d.ObjectBytes}, {&l.Remotes, d.Remotes},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	if l.FileBytes <= 0 {
		l.FileBytes = d.FileBytes
	}
	if l.TotalBytes <= 0 {
		l.TotalBytes = d.TotalBytes
	}
	if l.RemoteTimeout <= 0 {
		l.RemoteTimeout = d.RemoteTimeout
	}
	return l
}

// Result is a finished build.
type Result struct {
	// Objects are in the order of the kustomization: Lists are flattened, kustomize's own configuration kinds are left out.
	Objects []*unstructured.Unstructured
	// Digest is "sha256:<hex>" of the built YAML: the digest in status.history of a Kustomization. It covers the
	// objects as built, before owner labels and common metadata.
	Digest string
	// Remote is set when the build read from other hosts: the same input may build something else next time.
	Remote bool

	documents [][]byte
}

// WriteYAML writes the built objects as a stream of YAML documents, the bytes the Digest is taken of.
func (r *Result) WriteYAML(w io.Writer) error {
	for i, doc := range r.documents {
		if i > 0 {
			if _, err := io.WriteString(w, documentSeparator); err != nil {
				return err
			}
		}
		if _, err := w.Write(doc); err != nil {
			return err
		}
	}
	return nil
}

// FileUse says where a kustomization file names an encrypted file.
type FileUse struct {
	// Path is relative to the tree, slash separated.
	Path string
	// Key is the name the content gets in the Secret, empty for patches and env files.
	Key string
	// Env is set for env sources of a secretGenerator, whose format is dotenv unless the name says otherwise.
	Env bool
}

// Decrypter opens encrypted input (kustomization rules 40-50).
type Decrypter interface {
	// File returns the plain content of a file that a secretGenerator or a patch names, or the content as given
	// when it is not encrypted. Errors end the build with their own text.
	File(ctx context.Context, use FileUse, content []byte) ([]byte, error)
	// Object decrypts a built object in place and reports whether it changed it.
	Object(ctx context.Context, obj *unstructured.Unstructured) (bool, error)
}

// Repository names a directory in a Git repository, as a kustomization file does
// (https://github.com/kubernetes-sigs/kustomize/blob/master/examples/remoteBuild.md).
type Repository struct {
	// URL is what git would clone: an http, https, ssh or file URL, or user@host:path.
	URL string
	// Ref is a branch, tag or commit; empty is the default branch.
	Ref string
	// Path is the directory inside the repository, slash separated, empty for its root.
	Path string
	// Submodules is set unless the reference opted out.
	Submodules bool
}

// GitFetcher fetches Git repositories for remote bases.
type GitFetcher interface {
	// Fetch returns a directory that holds the tree of the repository, and a function that gives it back. It uses
	// no credentials of the process.
	Fetch(ctx context.Context, repo Repository) (dir string, release func(), err error)
}
