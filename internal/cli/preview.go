package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
	"github.com/seed-79636ae9/flux/internal/preview"
)

// maxKustomizationFile bounds what --kustomization-file names, in bytes.
const maxKustomizationFile = 4 << 20

// previewOptions are the flags that build and diff have in common.
type previewOptions struct {
	*Factory
	path, file                  string
	ignore                      []string
	local                       map[string]string
	recursive, strict, inMemory bool
	skipRemote                  bool // not a flag: what sets build and diff apart
}

func (o *previewOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.path, "path", "", "path to the manifests location")
	flags.StringVar(&o.file, "kustomization-file", "", "path to the Flux Kustomization YAML file")
	flags.StringSliceVar(&o.ignore, "ignore-paths", nil, "set paths to ignore in .gitignore format")
	flags.BoolVar(&o.strict, "strict-substitute", false, "when enabled, the post build substitutions will fail if a var without a default value is declared in files but is missing from the input vars")
	flags.BoolVarP(&o.recursive, "recursive", "r", false, "recursively follow the Kustomizations among the built objects")
	flags.StringToStringVar(&o.local, "local-sources", nil, "comma-separated list of repositories in format: Kind/namespace/name=path")
	flags.BoolVar(&o.inMemory, "in-memory-build", false, "build in memory; builds always do, and leave the directory alone")
}

// described is the Kustomization of the file, whose name must match, and its namespace if the file has one (cli 39).
func (o *previewOptions) described(name string) (*kustomizev1.Kustomization, error) {
	f, err := os.Open(o.file)
	if err != nil {
		return nil, fmt.Errorf("--kustomization-file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxKustomizationFile+1))
	if err != nil {
		return nil, fmt.Errorf("--kustomization-file: %w", err)
	}
	if len(content) > maxKustomizationFile {
		return nil, fmt.Errorf("--kustomization-file: '%s' has more than the limit of %d bytes", o.file, maxKustomizationFile)
	}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := documents.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("--kustomization-file: '%s' holds no %s %s/%s", o.file, kustomizev1.KustomizationKind, o.Namespace(), name)
		}
		if err != nil {
			return nil, fmt.Errorf("--kustomization-file: '%s': %w", o.file, err)
		}
		gvk := u.GroupVersionKind()
		if gvk.Group != kustomizev1.GroupVersion.Group || gvk.Kind != kustomizev1.KustomizationKind || u.GetName() != name ||
			u.GetNamespace() != "" && u.GetNamespace() != o.Namespace() {
			continue
		}
		u.SetNamespace(o.Namespace())
		return preview.Decode(u)
	}
}

// kustomization reads a Kustomization from the cluster.
func (f *Factory) kustomization(ctx context.Context, k kind.Kind, namespace, name string) (*kustomizev1.Kustomization, error) {
	client, err := f.Ops()
	if err != nil {
		return nil, err
	}
	obj, err := client.Get(ctx, k, namespace, name)
	if err != nil {
		return nil, err
	}
	return preview.Decode(obj.Unstructured)
}

// subject is what to preview: the spec is that of the file if one is given, the status that of the cluster. A file whose object does
// not exist yet has no status, if absent allows that (cli 39, 44).
func (o *previewOptions) subject(ctx context.Context, k kind.Kind, name string, absent bool) (*kustomizev1.Kustomization, error) {
	if o.file == "" {
		return o.kustomization(ctx, k, o.Namespace(), name)
	}
	described, err := o.described(name)
	if err != nil {
		return nil, err
	}
	status, err := o.status(k)(ctx, described.Namespace, name)
	switch {
	case err != nil:
		return nil, err
	case status != nil:
		described.Status = *status
	case !absent:
		return nil, &ops.NotFoundError{Kind: k, Namespace: described.Namespace, Name: name}
	}
	return described, nil
}

// status reads the status of a Kustomization, nil if there is none.
func (f *Factory) status(k kind.Kind) func(ctx context.Context, namespace, name string) (*kustomizev1.KustomizationStatus, error) {
	return func(ctx context.Context, namespace, name string) (*kustomizev1.KustomizationStatus, error) {
		live, err := f.kustomization(ctx, k, namespace, name)
		var missing *ops.NotFoundError
		if errors.As(err, &missing) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return &live.Status, nil
	}
}

// build builds the sets; a nil reader leaves out what the cluster holds.
func (o *previewOptions) build(ctx context.Context, obj *kustomizev1.Kustomization, reader client.Reader, progress func(string)) (*preview.Preview, error) {
	return preview.Build(ctx, obj, preview.Options{
		Path: o.path, Ignore: o.ignore, Strict: o.strict, Recursive: o.recursive, LocalSources: o.local,
		SkipRemote: o.skipRemote, Reader: reader, Progress: progress,
	})
}

// reader reads ConfigMaps and Secrets.
func (f *Factory) reader() (client.Reader, error) {
	config, err := f.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, &connectError{err}
	}
	return c, nil
}
