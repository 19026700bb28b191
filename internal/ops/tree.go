package ops

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// Node is an object and what it manages.
type Node struct {
	kind.Entry
	Children []*Node
}

// maxTreeDepth bounds the descent; nesting beyond it has no reader.
const maxTreeDepth = 32

// TreeOptions say what a tree shows.
type TreeOptions struct {
	// Compact leaves out everything but toolkit kinds.
	Compact bool
}

// Tree lists what an object manages, and what that manages in turn (cli 65). Objects of other clusters are listed
// but not followed.
func (c *Client) Tree(ctx context.Context, kinds kind.Set, k kind.Kind, obj kind.Object, o TreeOptions) (*Node, error) {
	t := &tree{client: c, kinds: kinds, options: o, path: map[kind.Ref]bool{}}
	return t.node(ctx, k, obj, 0)
}

type tree struct {
	client  *Client
	kinds   kind.Set
	options TreeOptions
	// path holds the objects above the present one: a Kustomization may list itself.
	path map[kind.Ref]bool
}

func (t *tree) node(ctx context.Context, k kind.Kind, obj kind.Object, depth int) (*Node, error) {
	n := &Node{Entry: kind.Entry{GroupKind: k.GroupKind(), Version: k.Version, Namespace: obj.GetNamespace(), Name: obj.GetName()}}
	if k.Children == nil || depth == maxTreeDepth {
		return n, nil
	}
	remote := obj.Field("spec", "kubeConfig", "secretRef", "name") != "" || obj.Field("spec", "kubeConfig", "configMapRef", "name") != ""
	entries := k.Children(obj)
	if len(entries) == 0 && !remote {
		var err error
		if entries, err = t.client.release(ctx, k, obj); err != nil {
			return nil, err
		}
	}
	t.path[obj.Ref()] = true
	defer delete(t.path, obj.Ref())
	for _, e := range entries {
		child, err := t.child(ctx, e, remote, depth)
		if err != nil {
			return nil, err
		}
		if child != nil {
			n.Children = append(n.Children, child)
		}
	}
	return n, nil
}

// child is the node of an inventory entry, nil when it is not shown.
func (t *tree) child(ctx context.Context, e kind.Entry, remote bool, depth int) (*Node, error) {
	ck, known := t.kinds.ForGroupKind(e.GroupKind)
	if !known {
		if t.options.Compact {
			return nil, nil
		}
		return &Node{Entry: e}, nil
	}
	ref := kind.Ref{Kind: e.Kind, Namespace: e.Namespace, Name: e.Name}
	if t.path[ref] || remote || ck.Children == nil {
		return &Node{Entry: e}, nil
	}
	obj, err := t.client.Get(ctx, ck, e.Namespace, e.Name)
	var absent *NotFoundError
	var unserved *NotInstalledError
	if errors.As(err, &absent) || errors.As(err, &unserved) {
		return &Node{Entry: e}, nil
	}
	if err != nil {
		return nil, err
	}
	return t.node(ctx, ck, obj, depth+1)
}

// maxReleaseBytes bounds an unpacked release. A Secret holds 1 MiB, which compresses repetitive YAML well.
const maxReleaseBytes = 64 << 20

// release reads the objects of a Helm release from its storage (wire 9), which serves those of controllers that keep
// no inventory. A release that was uninstalled has no storage, and no objects.
func (c *Client) release(ctx context.Context, k kind.Kind, obj kind.Object) ([]kind.Entry, error) {
	history, _, _ := unstructured.NestedSlice(obj.Object, "status", "history")
	if !k.HelmStorage || len(history) == 0 {
		return nil, nil
	}
	newest, _ := history[0].(map[string]any)
	name, _ := newest["name"].(string)
	namespace, _ := newest["namespace"].(string)
	storage := obj.Field("status", "storageNamespace")
	if storage == "" {
		storage = obj.GetNamespace()
	}
	secret, err := c.Secret(ctx, storage, fmt.Sprintf("sh.helm.release.v1.%s.v%v", name, newest["version"]))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, _, _ := unstructured.NestedString(secret.Object, "data", "release")
	manifests, err := decodeRelease(data)
	if err != nil {
		return nil, fmt.Errorf("read the release of %s: %w", obj.Ref(), err)
	}
	var out []kind.Entry
	for _, m := range manifests {
		if out, err = appendEntries(out, m, namespace); err != nil {
			return nil, fmt.Errorf("read the release of %s: %w", obj.Ref(), err)
		}
	}
	return out, nil
}

// decodeRelease returns the manifest of a stored release and the CRDs of its chart.
func decodeRelease(data string) ([]string, error) {
	// The API's base64 wraps Helm's own.
	outer, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, err
	}
	inner, err := base64.StdEncoding.DecodeString(string(outer))
	if err != nil {
		return nil, err
	}
	zr, err := gzip.NewReader(bytes.NewReader(inner))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(zr, maxReleaseBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxReleaseBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxReleaseBytes)
	}
	var release struct {
		Manifest string `json:"manifest"`
		Chart    struct {
			Files []struct {
				Name string `json:"name"`
				Data []byte `json:"data"`
			} `json:"files"`
		} `json:"chart"`
	}
	if err := json.Unmarshal(text, &release); err != nil {
		return nil, err
	}
	out := []string{release.Manifest}
	for _, f := range release.Chart.Files {
		if strings.HasPrefix(f.Name, "crds/") {
			out = append(out, string(f.Data))
		}
	}
	return out, nil
}

// clusterScoped are built-in kinds without a namespace that charts hold; the manifest does not tell.
func clusterScoped(gk schema.GroupKind) bool {
	return slices.Contains([]string{
		"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass",
		"IngressClass", "PriorityClass", "RuntimeClass", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "APIService", "CSIDriver", "GatewayClass",
	}, gk.Kind)
}

func appendEntries(out []kind.Entry, manifest, namespace string) ([]kind.Entry, error) {
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := decoder.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if u.GetKind() == "" || u.GetName() == "" {
			continue
		}
		gvk := u.GroupVersionKind()
		e := kind.Entry{GroupKind: gvk.GroupKind(), Version: gvk.Version, Namespace: u.GetNamespace(), Name: u.GetName()}
		if e.Namespace == "" && !clusterScoped(e.GroupKind) {
			e.Namespace = namespace
		}
		out = append(out, e)
	}
}
