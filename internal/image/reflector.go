// Package image is the components image-reflector-controller, with the kinds ImageRepository and ImagePolicy, and
// image-automation-controller, with the kind ImageUpdateAutomation.
package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/image/policy"
	"github.com/seed-79636ae9/flux/internal/image/repository"
	"github.com/seed-79636ae9/flux/internal/image/tags"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// ReflectorName is the upstream name of the component: event source and field manager.
const ReflectorName = "image-reflector-controller"

// Reflector describes image-reflector-controller.
func Reflector() component.Component {
	group := imagev1.GroupVersion.Group
	return component.Component{
		Manifest: component.Manifest{
			Name: ReflectorName, Group: group,
			CRDs:  []string{"imagepolicies." + group, "imagerepositories." + group},
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}}},

			Data: true, GraceSeconds: 10,
		},
		Short:      "image-reflector",
		Concurrent: 4,
		Kinds:      []kind.Kind{RepositoryKind(), PolicyKind()},
		Requires: []schema.GroupVersionKind{
			imagev1.GroupVersion.WithKind(imagev1.ImageRepositoryKind), imagev1.GroupVersion.WithKind(imagev1.ImagePolicyKind),
		},
		FeatureGates: map[string]bool{fluxStorageGate: false, objectLevelGate: false, "CacheSecretsAndConfigMaps": false},
		New:          func() component.Instance { return &reflector{} },
	}
}

// Feature gates of the component (wire.md 15).
const (
	fluxStorageGate = "FluxStorage"
	objectLevelGate = "ObjectLevelWorkloadIdentity"
)

// subdirectory of an artifact store that has the tags in a process that has both.
const subdirectory = "image-reflector"

type reflector struct {
	path *pflag.Flag
	dir  string
	// compressFrom is in KiB, collectEvery in minutes: flags of 2.9.
	compressFrom int64
	collectEvery int
	limits       oci.Limits
}

// BindFlags implements component.Instance (wire.md 14).
func (r *reflector) BindFlags(fs *pflag.FlagSet) {
	fs.String("storage-path", "/data", "Where the tags of images are kept; unless given, beside the artifacts of a process that has some.")
	r.path = fs.Lookup("storage-path")
	fs.Int64("storage-value-log-file-size", 256<<20, "Accepted; the database of image tags has no log.")
	fs.Int64Var(&r.compressFrom, "storage-compression-threshold", 64, "The size of a list of tags from which on it is stored compressed, in KiB.")
	fs.IntVar(&r.collectEvery, "gc-interval", 10, "How often the tags of images that are gone are removed, in minutes; 0 turns it off.")
	l, d := &r.limits, oci.DefaultLimits()
	fs.IntVar(&l.Tags, "oci-limit-tags", d.Tags, "How many tags a repository of a registry may have.")
	fs.Int64Var(&l.TagBytes, "oci-limit-tags-size", d.TagBytes, "The size of one page of the list of tags, in bytes.")
	fs.Int64Var(&l.ManifestBytes, "oci-limit-manifest-size", d.ManifestBytes, "The size of a manifest or an index of a registry, in bytes.")
}

// AddToScheme implements component.Instance.
func (r *reflector) AddToScheme(s *runtime.Scheme) error { return imagev1.AddToScheme(s) }

// Prepare implements component.Preparer.
func (r *reflector) Prepare(host *component.Host) (err error) {
	if r.compressFrom < 0 {
		return fmt.Errorf("--storage-compression-threshold=%d: want at least 0", r.compressFrom)
	}
	if r.collectEvery < 0 {
		return fmt.Errorf("--gc-interval=%d: want at least 0", r.collectEvery)
	}
	r.dir = r.path.Value.String()
	if !r.path.Changed && len(host.Storages) > 0 {
		r.dir = filepath.Join(host.Storages[0].Dir(), subdirectory)
	}
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return fmt.Errorf("--%s: %w", r.path.Name, err)
	}
	return nil
}

// Release implements component.Preparer. The database belongs to who holds the lease, and is opened with it.
func (r *reflector) Release() error { return nil }

// Setup implements component.Instance.
func (r *reflector) Setup(_ context.Context, host *component.Host) error {
	gates := host.Common.Gates
	database, err := tags.Open(tags.Options{Dir: r.dir, Digests: gates[fluxStorageGate], CompressFrom: r.compressFrom << 10})
	if err != nil {
		return fmt.Errorf("--%s: %w", r.path.Name, err)
	}
	registries := repository.NewRegistries(repository.Options{
		Reader: host.Reader, Auth: host.Auth, ObjectLevel: gates[objectLevelGate], Limits: r.limits,
	})
	scanner := &repository.Scanner{Registries: registries, Tags: database, Clock: clock.RealClock{}}
	picker := &policy.Picker{
		Client: host.Client, Reader: host.Reader, Registries: registries, Tags: database, Graph: depend.NewGraph(),
		NoCrossNamespaceRefs: host.Common.NoCrossNamespaceRefs, RequeueDependency: host.Common.RequeueDependency, Clock: clock.RealClock{},
	}
	_, scanErr := scanner.Controller(ReflectorName).SetupWithManager(host.Manager, host.LoopOptions())
	_, pickErr := picker.Controller(ReflectorName).SetupWithManager(host.Manager, host.LoopOptions())
	if err := errors.Join(scanErr, pickErr); err != nil || r.collectEvery == 0 {
		return err
	}
	c := collector{database: database, reader: host.Reader, every: time.Duration(r.collectEvery) * time.Minute, log: host.Log.WithName("image-tags")}
	return host.Manager.Add(manager.RunnableFunc(c.run))
}

// collector removes the tags of ImageRepositories that went away while nobody was looking (imagerepository 20, 31).
type collector struct {
	database *tags.Database
	reader   client.Reader
	every    time.Duration
	log      logr.Logger
}

func (c *collector) run(ctx context.Context) error {
	ticker := time.NewTicker(c.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			c.collect(ctx)
		}
	}
}

func (c *collector) collect(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, c.every)
	defer cancel()
	removed, err := c.database.Collect(bounded, c.living)
	switch {
	case err != nil:
		c.log.Error(err, "unable to remove the tags of images that are gone")
	case removed > 0:
		c.log.Info("removed the tags of images that are gone", "images", removed)
	}
}

// living asks the API server: the cache may be restricted to some of the objects.
func (c *collector) living(ctx context.Context, namespace string) (map[string]bool, error) {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(imagev1.GroupVersion.WithKind(imagev1.ImageRepositoryKind + "List"))
	if err := c.reader.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the objects in namespace '%s': %w", namespace, err)
	}
	names := map[string]bool{}
	for _, item := range list.Items {
		names[item.Name] = true
	}
	return names, nil
}
