package replay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// Lab is what recordings play in: a control plane, and the servers that their placeholders name.
// One Lab serves any number of recordings at once; namespaces keep them apart.
type Lab struct {
	config  *rest.Config
	dynamic dynamic.Interface
	core    kubernetes.Interface
	mapper  meta.RESTMapper
	kinds   map[string]schema.GroupVersionKind
	toolkit []toolkitResource

	ca       *testkit.CA
	git      *gitHost
	registry *testkit.Registry
	shown    *http.Server // the registry, at the address of the recorder's
	files    *testkit.Files
	sink     *testkit.Sink
	events   *testkit.EventEndpoint
	system   System
}

// System is where the binary under test can be found.
type System struct {
	// StorageAddr is the host:port it serves artifacts at.
	StorageAddr string
	// WatcherAddr is where its source-watcher serves artifacts; empty when it runs without one.
	WatcherAddr string
	// HookAddr and EventsAddr are those of its notification component; empty when it runs without one.
	HookAddr, EventsAddr string
	// TempDir and StorageDir are its folders, which error texts may name.
	TempDir, StorageDir string
}

// toolkitResource is a resource of the toolkit that the cluster knows.
type toolkitResource struct {
	gvr  schema.GroupVersionResource
	kind string
}

// NewLab starts the servers. The toolkit's CRDs must be installed. dir is scratch space.
func NewLab(config *rest.Config, dir string) (*Lab, error) {
	l := &Lab{config: config, registry: testkit.NewRegistry(), files: testkit.NewFiles(), events: testkit.NewEventEndpoint()}
	var err error
	if l.shown, err = showRegistry(l.registry.Host()); err != nil {
		return nil, err
	}
	if l.ca, err = testkit.NewCA(); err != nil {
		return nil, err
	}
	if l.git, err = newGitHost(filepath.Join(dir, "git"), l.ca); err != nil {
		return nil, err
	}
	if l.sink, err = testkit.NewSink(l.ca); err != nil {
		return nil, err
	}
	return l, l.connect()
}

// connect creates the clients and learns which kinds there are.
func (l *Lab) connect() error {
	var err error
	if l.dynamic, err = dynamic.NewForConfig(l.config); err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	if l.core, err = kubernetes.NewForConfig(l.config); err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	found, err := discovery.NewDiscoveryClientForConfig(l.config)
	if err != nil {
		return fmt.Errorf("creating a discovery client: %w", err)
	}
	l.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	lists, err := found.ServerPreferredResources()
	if err != nil {
		return fmt.Errorf("discovering the kinds of the cluster: %w", err)
	}
	l.kinds = map[string]schema.GroupVersionKind{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return fmt.Errorf("discovering the kinds of the cluster: %w", err)
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue
			}
			gvk := gv.WithKind(r.Kind)
			if old, taken := l.kinds[r.Kind]; !taken || rank(gvk.Group) < rank(old.Group) {
				l.kinds[r.Kind] = gvk
			}
			if isToolkit(gv.Group) {
				l.toolkit = append(l.toolkit, toolkitResource{gvr: gv.WithResource(r.Name), kind: r.Kind})
			}
		}
	}
	if len(l.toolkit) == 0 {
		return errors.New("discovering the kinds of the cluster: it has no toolkit kind; install the CRDs first")
	}
	return nil
}

// isToolkit tells the API groups whose objects a snapshot shows in full.
func isToolkit(group string) bool { return strings.HasSuffix(group, ".fluxcd.io") }

// rank orders groups for a kind that several have: steps name kinds without a group.
func rank(group string) int {
	switch {
	case isToolkit(group):
		return 0
	case group == "":
		return 1
	default:
		return 2
	}
}

// Use says which binary the lab plays against. Call it before Play.
func (l *Lab) Use(s System) {
	l.system = s
	if s.EventsAddr != "" {
		l.events.Forward("http://" + s.EventsAddr + "/")
	}
}

// EventsURL is the address for --events-addr.
func (l *Lab) EventsURL() string { return l.events.URL }

// Close ends the servers.
func (l *Lab) Close() {
	l.git.close()
	_ = l.shown.Close()
	l.registry.Close()
	l.files.Close()
	l.sink.Close()
	l.events.Close()
}

// vars are the placeholders as seen by one recording.
func (l *Lab) vars(r *Recording) Vars {
	v := Vars{
		"NS": r.Namespace, "GIT": l.git.plain.URL, "GITS": l.git.secure.URL, "LAB_CA": string(l.ca.PEM), "STATIC": l.files.URL,
		"SINK": l.sink.URL, "SINKS": l.sink.TLSURL, "REGISTRY": recordedRegistry, "STORE": "http://" + l.system.StorageAddr,
		"EVENTS": l.events.URL,
	}
	if l.system.WatcherAddr != "" {
		v["WATCHER_STORE"] = "http://" + l.system.WatcherAddr
	}
	if l.system.HookAddr != "" {
		v["HOOK"] = "http://" + l.system.HookAddr
	}
	if l.system.EventsAddr != "" {
		v["EVENTS"] = "http://" + l.system.EventsAddr
	}
	for _, key := range []string{"GIT", "GITS", "STATIC", "SINK", "SINKS", "STORE", "WATCHER_STORE", "HOOK", "EVENTS"} {
		if _, host, ok := strings.Cut(v[key], "://"); ok {
			v[key+"_HOST"] = host
		}
	}
	return v
}

// resource finds the client of a kind; the namespace is ignored for a cluster-scoped one.
func (l *Lab) resource(gvk schema.GroupVersionKind, namespace string) (client dynamic.ResourceInterface, namespaced bool, err error) {
	mapping, err := l.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, false, fmt.Errorf("finding the resource of %s: %w", gvk.Kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return l.dynamic.Resource(mapping.Resource), false, nil
	}
	return l.dynamic.Resource(mapping.Resource).Namespace(namespace), true, nil
}

// target parses "Kind/name" or "Kind/name/namespace".
func (l *Lab) target(ref, defaultNamespace string) (client dynamic.ResourceInterface, name string, err error) {
	parts := strings.Split(ref, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, "", fmt.Errorf("%q is not Kind/name[/namespace]", ref)
	}
	gvk, ok := l.kinds[parts[0]]
	if !ok {
		return nil, "", fmt.Errorf("the cluster has no kind %q", parts[0])
	}
	namespace := defaultNamespace
	if len(parts) == 3 {
		namespace = parts[2]
	}
	client, _, err = l.resource(gvk, namespace)
	return client, parts[1], err
}

// objectGone deletes an object that an earlier run left behind, and waits for its end.
func (l *Lab) objectGone(ctx context.Context, id objectID) error {
	client, _, err := l.resource(id.GroupVersionKind, id.namespace)
	if err != nil {
		return err
	}
	if err := client.Delete(ctx, id.name, metav1.DeleteOptions{}); err != nil {
		return ignoreNotFound(err)
	}
	return await(ctx, client, id.name, gone)
}
