// Package source is the component source-controller: the source kinds, their artifact store and its server.
package source

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/source/git"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
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
		Short:        "source",
		Concurrent:   2,
		Kinds:        []kind.Kind{git.Kind()},
		Requires:     []schema.GroupVersionKind{sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind)},
		FeatureGates: map[string]bool{"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false},
		New:          func() component.Instance { return &instance{} },
	}
}

type instance struct {
	storagePath, storageAddr, advertised string
	retentionTTL                         time.Duration
	retentionRecords                     int
	digest                               string
	kexAlgos, hostKeyAlgos               []string
	accepted                             accepted
	store                                *artifact.Store
}

// accepted are flags of 2.9 whose subject this version does not have; a Deployment that carries them must still start.
type accepted struct {
	helmIndexBytes, helmChartBytes, helmChartFileBytes int64
	helmCacheSize                                      int
	helmCacheTTL, helmCachePurge                       time.Duration
}

// BindFlags implements component.Instance (wire.md 14). The variables of the environment are 2.9's.
func (i *instance) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&i.storagePath, "storage-path", fromEnv("STORAGE_PATH", "/data"), "The local storage path.")
	fs.StringVar(&i.storageAddr, "storage-addr", fromEnv("STORAGE_ADDRESS", ":9090"), "The address the artifact server listens on.")
	fs.StringVar(&i.advertised, "storage-adv-addr", os.Getenv("STORAGE_ADV_ADDR"), "The advertised address of the artifact server.")
	fs.DurationVar(&i.retentionTTL, "artifact-retention-ttl", time.Minute, "How long a replaced artifact is kept.")
	fs.IntVar(&i.retentionRecords, "artifact-retention-records", 2, "How many artifacts of an object are kept.")
	fs.StringVar(&i.digest, "artifact-digest-algo", string(artifact.SHA256), "The algorithm of artifact digests: sha256, sha384, sha512 or blake3.")
	fs.StringSliceVar(&i.kexAlgos, "ssh-kex-algos", nil, "The key exchange algorithms SSH offers, in order of preference.")
	fs.StringSliceVar(&i.hostKeyAlgos, "ssh-hostkey-algos", nil, "The host key algorithms SSH offers, in order of preference.")
	fs.Int64Var(&i.accepted.helmIndexBytes, "helm-index-max-size", 50<<20, "Accepted; Helm repositories are not part of this version.")
	fs.Int64Var(&i.accepted.helmChartBytes, "helm-chart-max-size", 10<<20, "Accepted; Helm charts are not part of this version.")
	fs.Int64Var(&i.accepted.helmChartFileBytes, "helm-chart-file-max-size", 5<<20, "Accepted; Helm charts are not part of this version.")
	fs.IntVar(&i.accepted.helmCacheSize, "helm-cache-max-size", 0, "Accepted; Helm repositories are not part of this version.")
	fs.DurationVar(&i.accepted.helmCacheTTL, "helm-cache-ttl", 15*time.Minute, "Accepted; Helm repositories are not part of this version.")
	fs.DurationVar(&i.accepted.helmCachePurge, "helm-cache-purge-interval", time.Minute, "Accepted; Helm repositories are not part of this version.")
}

func fromEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// AddToScheme implements component.Instance.
func (i *instance) AddToScheme(s *runtime.Scheme) error { return sourcev1.AddToScheme(s) }

// Prepare implements component.Preparer.
func (i *instance) Prepare(host *component.Host) error {
	algo, err := artifact.ParseAlgo(i.digest)
	if err != nil {
		return fmt.Errorf("--artifact-digest-algo: %w", err)
	}
	if i.advertised == "" {
		hostname := os.Getenv("HOSTNAME")
		if hostname == "" {
			if hostname, err = os.Hostname(); err != nil {
				return fmt.Errorf("finding the advertised address of artifacts: %w", err)
			}
		}
		if i.advertised, err = artifact.AdvertisedAddr(i.storageAddr, hostname); err != nil {
			return fmt.Errorf("--storage-addr: %w", err)
		}
	}
	i.store, err = artifact.OpenStore(i.storagePath, artifact.StoreOptions{
		AdvertisedAddr: i.advertised, Digest: algo, RetentionTTL: i.retentionTTL, RetentionRecords: i.retentionRecords,
		LockWait: lockWait,
	})
	if err != nil {
		return fmt.Errorf("opening the artifact storage: %w", err)
	}
	host.Store = i.store
	return nil
}

// lockWait is how long a starting process waits for the one it replaces to leave the storage.
const lockWait = 30 * time.Second

// Release implements component.Preparer.
func (i *instance) Release() error {
	if i.store == nil {
		return nil
	}
	return i.store.Close()
}

// Serving implements component.Server.
func (i *instance) Serving() (string, http.Handler) { return i.storageAddr, i.store.Handler() }

// Setup implements component.Instance.
func (i *instance) Setup(_ context.Context, host *component.Host) error {
	o := host.LoopOptions()
	repositories := git.Controller(Name, host.Reader, host.Store, git.Options{KexAlgos: i.kexAlgos, HostKeyAlgos: i.hostKeyAlgos})
	_, err := repositories.SetupWithManager(host.Manager, o)
	return err
}
