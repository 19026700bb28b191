// Package source is the component source-controller: the source kinds, their artifact store and its server.
package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/source/bucket"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/source/git"
	"github.com/seed-79636ae9/flux/internal/source/helmchart"
	"github.com/seed-79636ae9/flux/internal/source/helmrepo"
	"github.com/seed-79636ae9/flux/internal/source/oci"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	registry "github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
)

// Name is the upstream name of the component.
const Name = "source-controller"

// Component describes source-controller.
func Component() component.Component {
	group := sourcev1.GroupVersion.Group
	return component.Component{
		Manifest: component.Manifest{
			Name: Name, Group: group,
			CRDs: []string{
				"buckets." + group, "externalartifacts." + group, "gitrepositories." + group,
				"helmcharts." + group, "helmrepositories." + group, "ocirepositories." + group,
			},
			Rules:     []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}}},
			Artifacts: true, Critical: true, GraceSeconds: 10, CPURequest: "50m",
		},
		Short:      "source",
		Concurrent: 2,
		Kinds:      []kind.Kind{git.Kind(), oci.Kind(), bucket.Kind(), helmrepo.Kind(), helmchart.Kind()},
		Requires: []schema.GroupVersionKind{
			sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind), sourcev1.GroupVersion.WithKind(sourcev1.OCIRepositoryKind),
			sourcev1.GroupVersion.WithKind(sourcev1.BucketKind), sourcev1.GroupVersion.WithKind(sourcev1.HelmRepositoryKind),
			sourcev1.GroupVersion.WithKind(sourcev1.HelmChartKind),
		},
		FeatureGates: map[string]bool{"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false},
		New:          func() component.Instance { return &instance{} },
	}
}

type instance struct {
	storage                component.Storage
	kexAlgos, hostKeyAlgos []string
	git                    git.Options
	buckets                storage.Limits
	helm                   helmrepo.Limits
	indexes                helmrepo.CacheOptions
	charts                 chartfile.Limits
	registry               registry.Limits
	signatures             registry.SignatureLimits
	unpack                 archive.Limits
	maxFetchTime           time.Duration
}

// AddToScheme implements component.Instance.
func (i *instance) AddToScheme(s *runtime.Scheme) error { return sourcev1.AddToScheme(s) }

// Prepare implements component.Preparer.
func (i *instance) Prepare(host *component.Host) error {
	if err := i.storage.Open(host); err != nil {
		return err
	}
	host.Store = i.storage.Store()
	return nil
}

// Release implements component.Preparer.
func (i *instance) Release() error { return i.storage.Close() }

// Serving implements component.Server.
func (i *instance) Serving() []component.Endpoint { return i.storage.Serving() }

// Setup implements component.Instance.
func (i *instance) Setup(_ context.Context, host *component.Host) error {
	indexes, err := i.indexCache(host)
	if err != nil {
		return err
	}
	hosts, pool, root := frame.NewHosts(nil), registry.NewPool(nil), cosign.NewPublicRoot(nil)
	hosts.MaxFetchTime = i.maxFetchTime
	algo := i.storage.Algo()

	repositories := i.git
	repositories.KexAlgos, repositories.HostKeyAlgos = i.kexAlgos, i.hostKeyAlgos
	repositories.Objects, repositories.Artifacts = host.Client, host.Artifacts
	repositories.Hosts, repositories.RequeueDependency = hosts, host.Common.RequeueDependency
	repositories.Identities = host.Auth
	i.helm.ChartBytes = i.charts.ArchiveBytes
	return errors.Join(
		start(host, git.Controller(Name, host.Reader, host.Store, repositories)),
		start(host, oci.Controller(Name, host.Reader, host.Store, oci.Options{
			Hosts: hosts, Auth: host.Auth, Pool: pool, PublicRoot: root, Registry: i.registry, Signatures: i.signatures, Unpack: &i.unpack,
		})),
		start(host, bucket.Controller(Name, host.Reader, host.Store, bucket.Options{
			Digest: algo, Region: os.Getenv("AWS_REGION"), Limits: i.buckets, Auth: host.Auth, Hosts: hosts,
		})),
		start(host, helmrepo.Controller(Name, host.Reader, host.Store, helmrepo.Options{
			Limits: i.helm, Digest: algo, Hosts: hosts, Cache: indexes,
		})),
		start(host, helmchart.Controller(Name, host.Store, helmchart.Options{
			Cached: host.Client, Reader: host.Reader, Artifacts: host.Artifacts, Limits: &i.charts, Auth: host.Auth, Hosts: hosts,
			Pool: pool, PublicRoot: root.Get, Registry: i.registry, Signatures: i.signatures, HTTP: helmchart.NewHTTP(host.Reader, host.Artifacts, indexes, i.helm),
		})),
	)
}

// indexCache is what HelmCharts of one repository share.
func (i *instance) indexCache(host *component.Host) (*helmrepo.Cache, error) {
	i.indexes.Limits, i.indexes.Registerer = i.helm, metrics.Registry
	indexes, err := helmrepo.NewCache(i.indexes)
	if err == nil {
		err = host.Manager.Add(indexes)
	}
	if err != nil {
		return nil, fmt.Errorf("setting up the cache of Helm indexes: %w", err)
	}
	return indexes, nil
}

func start[O loop.Object](host *component.Host, c *loop.Controller[O]) error {
	_, err := c.SetupWithManager(host.Manager, host.LoopOptions())
	return err
}
