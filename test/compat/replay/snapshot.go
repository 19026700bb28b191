package replay

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// snapshot is everything an observer sees now, in the form of the recordings. want says which
// objects the recorder looked for; objects that the system touched and that it did not see are
// found as well, through the kinds that the inputs and the inventories name.
func (p *player) snapshot(ctx context.Context, want map[string]any) (map[string]any, error) {
	live, err := p.toolkitObjects(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	objects := []any{}
	for i := range live {
		objects = append(objects, p.showObject(&live[i]))
	}
	out["objects"] = objects
	artifacts, err := p.artifacts(ctx, live)
	if err != nil {
		return nil, err
	}
	if len(artifacts) > 0 {
		out["artifacts"] = artifacts
	}
	if out["cluster"], err = p.cluster(ctx, want, live); err != nil {
		return nil, err
	}
	if out["events"], err = p.kubernetesEvents(ctx); err != nil {
		return nil, err
	}
	out["posted"] = p.posted()
	if requests := p.requests(); len(requests) > 0 || want["requests"] != nil {
		out["requests"] = requests
	}
	return asJSON(p.clean.tree(out))
}

// asJSON brings a tree to the types that a decoded recording has.
func asJSON(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a snapshot: %w", err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("decoding a snapshot: %w", err)
	}
	return out, nil
}

// toolkitObjects lists every toolkit object of the recording's namespaces.
func (p *player) toolkitObjects(ctx context.Context) ([]unstructured.Unstructured, error) {
	var all []unstructured.Unstructured
	for _, resource := range p.lab.toolkit {
		for _, ns := range p.r.AllNamespaces() {
			list, err := p.lab.dynamic.Resource(resource.gvr).Namespace(ns).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("listing %s: %w", resource.gvr.Resource, err)
			}
			all = append(all, list.Items...)
		}
	}
	sort.SliceStable(all, func(i, j int) bool {
		a, b := &all[i], &all[j]
		if a.GetKind() != b.GetKind() {
			return a.GetKind() < b.GetKind()
		}
		return a.GetName() < b.GetName()
	})
	return all, nil
}

func (p *player) showObject(o *unstructured.Unstructured) map[string]any {
	shown := map[string]any{
		"kind": o.GetKind(), "name": o.GetName(), "generation": o.GetGeneration(), "managers": managers(o),
		"labels": o.GetLabels(), "annotations": o.GetAnnotations(), "finalizers": o.GetFinalizers(), "status": o.Object["status"],
	}
	if !p.writtenByTest(o) {
		shown["spec"] = o.Object["spec"]
	}
	shown = withoutEmpty(shown)
	// An empty status is something else than none: somebody emptied it.
	if emptied, ok := o.Object["status"].(map[string]any); ok && len(emptied) == 0 {
		shown["status"] = emptied
	}
	// The recorder shows an empty status of the kinds that have none.
	if kind := o.GetKind(); kind == "Alert" || kind == "Provider" {
		shown["status"] = map[string]any{}
	}
	return shown
}

// writtenByTest tells objects that a step applied from those that the system created.
func (p *player) writtenByTest(o *unstructured.Unstructured) bool {
	for _, f := range o.GetManagedFields() {
		if f.Manager == manager && f.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}

// withoutEmpty drops what a recording would leave out.
func withoutEmpty(m map[string]any) map[string]any {
	for key, value := range m {
		b, err := json.Marshal(value)
		if err == nil && (string(b) == "null" || string(b) == "{}" || string(b) == "[]") {
			delete(m, key)
		}
	}
	return m
}

// artifacts fetches what every status.artifact points at.
func (p *player) artifacts(ctx context.Context, live []unstructured.Unstructured) ([]any, error) {
	var all []any
	for i := range live {
		o := &live[i]
		artifact, found, _ := unstructured.NestedMap(o.Object, "status", "artifact")
		if !found {
			continue
		}
		shown, err := fetchArtifact(ctx, artifact)
		if err != nil {
			return nil, fmt.Errorf("fetching the artifact of %s/%s: %w", o.GetKind(), o.GetName(), err)
		}
		shown["of"] = o.GetKind() + "/" + o.GetName()
		all = append(all, shown)
	}
	return all, nil
}

func fetchArtifact(ctx context.Context, artifact map[string]any) (map[string]any, error) {
	url := fmt.Sprint(artifact["url"])
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	size, _ := artifact["size"].(int64)
	shown := map[string]any{
		"url": url, "http": resp.StatusCode,
		"digestMatches": artifact["digest"] == "sha256:"+hex.EncodeToString(sum[:]),
		"sizeMatches":   size == int64(len(body)),
	}
	entries, files, err := tarEntries(body)
	if err != nil {
		shown["text"] = string(body)
		return shown, nil
	}
	shown["entries"], shown["files"] = entries, files
	return shown, nil
}

// errNotTar is returned for content that is no gzipped tar.
var errNotTar = errors.New("not a gzipped tar")

// tarEntries lists an archive, "type mode uid:gid mtime name size", and what its files hold.
func tarEntries(content []byte) (entries []string, files map[string]any, err error) {
	zr, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, nil, errNotTar
	}
	entries, files = []string{}, map[string]any{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return entries, files, nil
		}
		if err != nil {
			return nil, nil, errNotTar
		}
		entries = append(entries, tarEntry(h))
		if h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			return nil, nil, errNotTar
		}
		files[h.Name] = string(text)
	}
}

func tarEntry(h *tar.Header) string {
	kind, size := string(h.Typeflag), ""
	switch h.Typeflag {
	case tar.TypeReg:
		kind, size = "-", fmt.Sprintf(" size=%d", h.Size)
	case tar.TypeDir:
		kind = "d"
	}
	name := strings.TrimSuffix(h.Name, "/")
	return fmt.Sprintf("%s %o %d:%d mtime=%d %s%s", kind, h.Mode, h.Uid, h.Gid, max(0, h.ModTime.Unix()), name, size)
}

// objectID names an object of the cluster.
type objectID struct {
	schema.GroupVersionKind
	namespace, name string
}

// cluster shows the objects that the recorder looked at and any other that the system touched.
func (p *player) cluster(ctx context.Context, want map[string]any, live []unstructured.Unstructured) ([]any, error) {
	expected := map[objectID]map[string]any{}
	found := map[objectID]*unstructured.Unstructured{}
	list, _ := want["cluster"].([]any)
	for _, item := range list {
		o, _ := item.(map[string]any)
		u := unstructured.Unstructured{Object: map[string]any{"apiVersion": o["apiVersion"], "kind": o["kind"]}}
		namespace, _ := o["namespace"].(string)
		id := objectID{u.GroupVersionKind(), namespace, fmt.Sprint(o["name"])}
		expected[id] = o
		obj, err := p.getObject(ctx, id)
		if err != nil {
			return nil, err
		}
		found[id] = obj
	}
	if err := p.findTouched(ctx, live, found); err != nil {
		return nil, err
	}
	shown := []any{}
	for id, obj := range found {
		if obj == nil {
			if expected[id]["absent"] == true {
				shown = append(shown, expected[id])
			}
			continue
		}
		o, err := showClusterObject(obj)
		if err != nil {
			return nil, err
		}
		shown = append(shown, o)
	}
	return shown, nil
}

// getObject returns nil for an object, or a kind, that is not there.
func (p *player) getObject(ctx context.Context, id objectID) (*unstructured.Unstructured, error) {
	client, _, err := p.lab.resource(id.GroupVersionKind, id.namespace)
	if meta.IsNoMatchError(errors.Unwrap(err)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	obj, err := client.Get(ctx, id.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for %s/%s: %w", id.Kind, id.name, err)
	}
	return obj, nil
}

// findTouched adds objects that carry a field manager of the system: those the inventories name,
// and those of the recording's namespaces whose kind appears in an input.
func (p *player) findTouched(ctx context.Context, live []unstructured.Unstructured, found map[objectID]*unstructured.Unstructured) error {
	for i := range live {
		for _, id := range inventory(&live[i]) {
			// The recorder listed its own namespaces; in others it saw what it asked for.
			elsewhere := id.namespace != "" && !slices.Contains(p.r.AllNamespaces(), id.namespace)
			if _, known := found[id]; known || elsewhere || isToolkit(id.Group) {
				continue
			}
			obj, err := p.getObject(ctx, id)
			if err != nil {
				return err
			}
			if obj != nil {
				found[id] = obj
			}
		}
	}
	for _, gvk := range p.r.inputKinds() {
		mapping, err := p.lab.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil || isToolkit(gvk.Group) || mapping.Scope.Name() == meta.RESTScopeNameRoot {
			continue // an input may well name a kind that does not exist
		}
		for _, ns := range p.r.AllNamespaces() {
			list, err := p.lab.dynamic.Resource(mapping.Resource).Namespace(ns).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) {
				continue // a List kind maps to a resource, but none that can be listed
			}
			if err != nil {
				return fmt.Errorf("listing %s: %w", mapping.Resource.Resource, err)
			}
			for i := range list.Items {
				if o := &list.Items[i]; touchedBySystem(o) {
					found[objectID{gvk, ns, o.GetName()}] = o
				}
			}
		}
	}
	return nil
}

// touchedBySystem tells objects on which a controller of the toolkit owns fields.
func touchedBySystem(o *unstructured.Unstructured) bool {
	for _, f := range o.GetManagedFields() {
		switch f.Manager {
		case "kustomize-controller", "gotk-kustomize-controller", "source-controller", "helm-controller", "notification-controller",
			"image-reflector-controller", "image-automation-controller", "source-watcher", "flux":
			return true
		}
	}
	return false
}

// inventory reads the ids <namespace>_<name>_<group>_<kind> of status.inventory.
func inventory(o *unstructured.Unstructured) []objectID {
	entries, _, _ := unstructured.NestedSlice(o.Object, "status", "inventory", "entries")
	var ids []objectID
	for _, item := range entries {
		entry, _ := item.(map[string]any)
		parts := strings.Split(fmt.Sprint(entry["id"]), "_")
		if len(parts) < 4 {
			continue
		}
		// Names hold no "_" but for the "__" that stands for the colon of RBAC names.
		name := strings.ReplaceAll(strings.Join(parts[1:len(parts)-2], "_"), "__", ":")
		gvk := schema.GroupVersionKind{Group: parts[len(parts)-2], Version: fmt.Sprint(entry["v"]), Kind: parts[len(parts)-1]}
		ids = append(ids, objectID{gvk, parts[0], name})
	}
	return ids
}

// inputKinds lists the kinds that manifests and committed files mention.
func (r *Recording) inputKinds() []schema.GroupVersionKind {
	mention := regexp.MustCompile(`(?m)^apiVersion:\s*['"]?([\w./-]+)['"]?\s*\n(?:.*\n)?kind:\s*['"]?(\w+)`)
	seen := map[schema.GroupVersionKind]bool{}
	for key, raw := range r.Input {
		for _, text := range texts(key, raw) {
			for _, m := range mention.FindAllStringSubmatch(text, -1) {
				if gv, err := schema.ParseGroupVersion(m[1]); err == nil {
					seen[gv.WithKind(m[2])] = true
				}
			}
		}
	}
	if slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(gvk schema.GroupVersionKind) bool { return gvk.Kind == "HelmRelease" }) {
		seen[secrets()] = true // Helm's storage, which no input names
	}
	kinds := make([]schema.GroupVersionKind, 0, len(seen))
	for gvk := range seen {
		kinds = append(kinds, gvk)
	}
	sort.Slice(kinds, func(i, j int) bool { return kinds[i].String() < kinds[j].String() })
	return kinds
}

// texts collects the strings of an input, at any depth.
func texts(key string, raw json.RawMessage) []string {
	var v any
	if strings.HasPrefix(key, "bundle-") || json.Unmarshal(raw, &v) != nil {
		return nil
	}
	var out []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(v)
	return out
}

// showClusterObject renders an object as the recorder did: data for what holds data, otherwise
// the fields owned from outside the control plane.
func showClusterObject(o *unstructured.Unstructured) (map[string]any, error) {
	shown := map[string]any{
		"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "name": o.GetName(), "namespace": o.GetNamespace(),
		"labels": o.GetLabels(), "annotations": o.GetAnnotations(), "managers": managers(o),
	}
	if o.GetNamespace() == "" {
		delete(shown, "namespace")
	}
	switch o.GetKind() {
	case "ConfigMap":
		shown["data"] = o.Object["data"]
	case "Secret":
		shown["type"] = o.Object["type"]
		if isHelmStorage(o) {
			release, err := decodeRelease(o)
			if err != nil {
				return nil, err
			}
			shown["release"] = showRelease(release)
			break
		}
		data, err := decodedData(o)
		if err != nil {
			return nil, err
		}
		shown["data"] = data
	case "Namespace":
		// Of a Namespace the recorder showed no fields.
	case "Pod":
		showPod(shown, o)
	default:
		fields, err := ownedFields(o)
		if err != nil {
			return nil, err
		}
		shown["fields"] = fields
	}
	shown = withoutEmpty(shown)
	return shown, nil
}

// showPod renders a Pod as the recorder did: of what it holds the phase alone, which the stand-in for the kubelet sets. The
// recorder's was called replayer; here there may be two, that of this run and that of the embedded cluster.
func showPod(shown map[string]any, pod *unstructured.Unstructured) {
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	shown["fields"] = map[string]any{"phase": phase}
	var by []string
	for _, m := range managers(pod) {
		by = append(by, regexp.MustCompile(`^pod-(stand-in|simulator) `).ReplaceAllString(m, manager+" "))
	}
	slices.Sort(by)
	shown["managers"] = slices.Compact(by)
	labels := maps.Clone(pod.GetLabels())
	delete(labels, "flux-cluster/simulated")
	shown["labels"] = labels
}

func decodedData(o *unstructured.Unstructured) (map[string]any, error) {
	data, _, _ := unstructured.NestedStringMap(o.Object, "data")
	out := map[string]any{}
	for key, value := range data {
		plain, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, fmt.Errorf("decoding %s of Secret %s: %w", key, o.GetName(), err)
		}
		out[key] = string(plain)
	}
	return out, nil
}
