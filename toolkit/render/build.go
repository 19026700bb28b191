package render

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
)

const documentSeparator = "---\n"

// ErrPathNotFound is the error of a Build whose Spec.Path does not exist in the tree (kustomization 25).
var ErrPathNotFound = errors.New("kustomization path not found")

// PanicError is a panic of kustomize or a YAML library, caused by its input (kustomization 37).
type PanicError struct {
	Value any
	Stack []byte // for the log; not part of the message
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// decryptError keeps the text of a Decrypter free of prefixes.
type decryptError struct{ error }

func (e decryptError) Unwrap() error { return e.error }

// Build builds spec.Path of a tree and returns its objects, decrypted and with variables substituted. The tree is that of
// an unpacked artifact, which may be shared with other builds, or of os.Root, which lets no link out.
//
// Errors are ErrPathNotFound, the cause of a cancelled context, a *PanicError, or say what is wrong with the input in
// the words of Flux 2.9 (kustomization 28-39, 51-60).
func Build(ctx context.Context, tree fs.FS, spec Spec, opts Options) (*Result, error) {
	b := newBuild(ctx, tree, opts)
	defer b.close()
	var res *Result
	err := contain(func() error {
		m, err := b.resources(spec)
		if err != nil {
			return err
		}
		res, err = b.finish(m)
		return err
	})
	if err != nil {
		return nil, b.describe(err)
	}
	return res, nil
}

// build is one run of Build.
type build struct {
	ctx     context.Context
	opts    Options
	limits  Limits
	fs      *fileSystem
	factory *resource.Factory

	depth    map[string]int      // how many kustomizations stand on a directory
	children map[string][]string // what a kustomization directory refers to
	visited  map[string]bool
	uses     map[string]FileUse // files that may be encrypted
	schemas  map[string]bool    // files used as OpenAPI schema
	openAPI  bool               // a kustomization file chose its schema
	hasTurn  bool               // kustomize may run
	alone    bool               // and no other build does

	http     *http.Client
	remotes  int               // places taken below remoteDir
	fetched  map[string]string // remote reference -> path
	names    map[string]string // path as kustomize reports it -> remote reference
	releases []func()
}

func newBuild(ctx context.Context, tree fs.FS, opts Options) *build {
	b := &build{
		ctx: ctx, opts: opts, limits: opts.Limits.withDefaults(),
		factory:  provider.NewDefaultDepProvider().GetResourceFactory(),
		depth:    map[string]int{},
		children: map[string][]string{},
		visited:  map[string]bool{},
		uses:     map[string]FileUse{},
		schemas:  map[string]bool{},
		names:    map[string]string{},
		fetched:  map[string]string{},
	}
	b.fs = newFileSystem(ctx, tree, b.limits)
	b.fs.transform, b.fs.ignore = b.transform, opts.Ignore
	return b
}

func (b *build) close() {
	for _, release := range slices.Backward(b.releases) {
		release()
	}
}

// contain turns panics into errors.
func contain(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}

// describe words an error for the user.
func (b *build) describe(err error) error {
	for rel, remote := range b.names {
		if text := err.Error(); strings.Contains(text, rel) {
			err = errors.New(strings.ReplaceAll(text, rel, remote))
		}
	}
	return err
}

// resources builds the kustomization of the spec.
func (b *build) resources(spec Spec) ([]*resource.Resource, error) {
	dir := clampPath(spec.Path)
	if _, err := b.fs.stat(dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPathNotFound, err)
	}
	dir, err := b.fs.resolve(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPathNotFound, err)
	}
	var listed []string
	if b.fs.IsDir(dir) {
		if listed, err = b.fs.prepare(dir, spec); err == nil {
			err = b.visit(dir)
		}
		if err != nil {
			return nil, b.failed(err)
		}
	}
	m, err := b.kustomize(dir)
	if b.fs.failure != nil {
		return nil, b.failed(b.fs.failure)
	}
	if err == nil {
		return m, nil
	}
	if cause := b.undecodable(listed); cause != nil {
		return nil, cause
	}
	return nil, b.failed(err)
}

// failed prefixes an error of the build itself.
func (b *build) failed(err error) error {
	var d decryptError
	if errors.As(err, &d) {
		return d.error
	}
	if cause := context.Cause(b.ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("kustomize build failed: %w", err)
}

// undecodable finds the first listed file that does not hold Kubernetes objects (kustomization 29). Such a file always
// fails the build, so looking for it only afterwards saves parsing every file twice.
func (b *build) undecodable(listed []string) error {
	for _, name := range listed {
		if b.fs.IsDir(name) {
			continue
		}
		content, err := b.fs.ReadFile(name)
		if err == nil {
			_, err = b.factory.SliceFromBytes(content)
		}
		if err != nil {
			return fmt.Errorf("failed to decode Kubernetes YAML from %s: %w", name, err)
		}
	}
	return nil
}

// kustomize runs kustomize on a directory, when it is this build's turn.
func (b *build) kustomize(dir string) ([]*resource.Resource, error) {
	if b.hasTurn {
		return b.run(dir)
	}
	var m []*resource.Resource
	var err error
	turn := func() {
		b.hasTurn = true
		m, err = b.run(dir)
		b.hasTurn = false
	}
	if !b.openAPI {
		if refused := turns.shared(b.ctx, turn); refused != nil {
			return nil, refused
		}
		if !errors.Is(b.fs.failure, errSchemaLate) {
			return m, err
		}
		b.fs.failure = nil
	}
	b.alone = true
	defer func() { b.alone = false }()
	if refused := turns.alone(b.ctx, turn); refused != nil {
		return nil, refused
	}
	return m, err
}

func (b *build) run(dir string) (all []*resource.Resource, err error) {
	err = contain(func() error {
		if all, err = b.inParts(dir, b.opts.partSize()); err == nil {
			return nil
		}
		m, err := newKustomizer().Run(b.fs, dir)
		if err == nil {
			all = m.Resources()
		}
		return err
	})
	return all, err
}

func newKustomizer() *krusty.Kustomizer {
	return krusty.MakeKustomizer(&krusty.Options{
		Reorder:          krusty.ReorderOptionNone,
		LoadRestrictions: types.LoadRestrictionsNone,
		PluginConfig:     types.DisabledPluginConfig(),
	})
}

// finish decrypts, substitutes and serialises the built resources.
func (b *build) finish(resources []*resource.Resource) (*Result, error) {
	if len(resources) > b.limits.Objects {
		return nil, b.failed(fmt.Errorf("the build has %d objects, the limit is %d", len(resources), b.limits.Objects))
	}
	var vars *expander
	res := &Result{}
	sum := sha256.New()
	for i, r := range resources {
		if err := context.Cause(b.ctx); err != nil {
			return nil, err
		}
		obj, doc, err := b.object(r)
		if err != nil {
			return nil, err
		}
		if b.opts.Variables != nil && !substitutionDisabled(obj) {
			if vars == nil {
				vars, err = b.opts.Variables.expander(b.ctx, b.limits)
			}
			if err == nil {
				obj, doc, err = vars.object(obj, doc)
			}
			if err != nil {
				return nil, fmt.Errorf("post build failed for '%s': %w", resourceID(r), err)
			}
		}
		res.add(sum, i, doc)
		if err := res.flatten(obj); err != nil {
			return nil, b.failed(err)
		}
	}
	res.Remote = len(b.fetched) > 0
	res.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return res, nil
}

// object converts a resource, decrypts it, and serialises it.
func (b *build) object(r *resource.Resource) (*unstructured.Unstructured, []byte, error) {
	obj, exact, err := toObject(r)
	if err != nil {
		return nil, nil, b.failed(fmt.Errorf("%s: %w", resourceID(r), err))
	}
	if b.opts.Decrypt != nil {
		changed, err := b.opts.Decrypt.Object(b.ctx, obj)
		if err != nil {
			return nil, nil, fmt.Errorf("decryption failed for '%s': %w", resourceID(r), err)
		}
		exact = exact || changed
	}
	var doc []byte
	if exact {
		doc, err = encode(obj.Object)
	} else {
		doc, err = r.AsYAML()
	}
	if err != nil {
		return nil, nil, b.failed(fmt.Errorf("%s: %w", resourceID(r), err))
	}
	return obj, doc, nil
}

func (r *Result) add(sum hash.Hash, i int, doc []byte) {
	if i > 0 {
		sum.Write([]byte(documentSeparator))
	}
	sum.Write(doc)
	r.documents = append(r.documents, doc)
}

// resourceID names a resource in errors: kind, version and group, then its name.
func resourceID(r *resource.Resource) string {
	return path.Join(r.GetGvk().String(), r.GetName())
}
