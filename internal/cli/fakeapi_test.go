package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// fakeAPI speaks enough of the Kubernetes API over HTTP for the commands: objects, watches, discovery and pod logs.
// What controllers would do is told by reactions.
type fakeAPI struct {
	*httptest.Server
	clock func() time.Time

	// mu guards everything below.
	mu        sync.Mutex
	resources []metav1.APIResource
	objects   map[string]*unstructured.Unstructured
	version   int
	watchers  map[chan metav1.WatchEvent]func(*unstructured.Unstructured) bool
	reactions []reaction
	podLogs   map[string]string
	writes    []string
}

// reaction is what a controller writes into the status of an object after somebody wrote the object. The name "*" stands for all objects.
type reaction struct {
	Object string         `json:"object"`
	When   string         `json:"when"`
	Status map[string]any `json:"status"`
	Gone   bool           `json:"gone"`
}

func newFakeAPI(t *testing.T, clock func() time.Time) *fakeAPI {
	t.Helper()
	a := &fakeAPI{
		clock: clock, objects: map[string]*unstructured.Unstructured{}, podLogs: map[string]string{},
		watchers: map[chan metav1.WatchEvent]func(*unstructured.Unstructured) bool{}, version: 100,
	}
	for _, k := range Kinds() {
		a.serve(k.GVR(), k.Kind, true, k.Short...)
	}
	core := func(group, version, plural, kind string, namespaced bool, short ...string) {
		a.serve(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}, kind, namespaced, short...)
	}
	core("", "v1", "namespaces", "Namespace", false, "ns")
	core("", "v1", "pods", "Pod", true, "po")
	core("", "v1", "secrets", "Secret", true)
	core("", "v1", "configmaps", "ConfigMap", true, "cm")
	core("", "v1", "services", "Service", true, "svc")
	core("", "v1", "serviceaccounts", "ServiceAccount", true, "sa")
	core("", "v1", "resourcequotas", "ResourceQuota", true)
	core("", "v1", "events", "Event", true)
	core("apps", "v1", "deployments", "Deployment", true, "deploy")
	core("apps", "v1", "replicasets", "ReplicaSet", true, "rs")
	core("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true)
	core("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false)
	core("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false)
	core("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false, "crd")
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

func (a *fakeAPI) serve(r schema.GroupVersionResource, kind string, namespaced bool, short ...string) {
	a.resources = append(a.resources, metav1.APIResource{
		Name: r.Resource, SingularName: strings.ToLower(kind), Kind: kind, Group: r.Group, Version: r.Version,
		Namespaced: namespaced, ShortNames: short, Verbs: metav1.Verbs{"get", "list", "watch", "create", "update", "patch", "delete"},
	})
}

// unserve takes kinds of a group away, as if their CRDs were not installed.
func (a *fakeAPI) unserve(group string) {
	a.resources = slices.DeleteFunc(a.resources, func(r metav1.APIResource) bool { return r.Group == group })
}

func (a *fakeAPI) resourceOf(group, kind string) (metav1.APIResource, bool) {
	i := slices.IndexFunc(a.resources, func(r metav1.APIResource) bool { return r.Group == group && r.Kind == kind })
	if i < 0 {
		return metav1.APIResource{}, false
	}
	return a.resources[i], true
}

func key(r metav1.APIResource, namespace, name string) string {
	return r.Group + "/" + r.Name + "/" + namespace + "/" + name
}

// add puts the documents of a YAML stream into the cluster.
func (a *fakeAPI) add(t *testing.T, stream string) {
	t.Helper()
	for _, doc := range strings.Split(stream, "\n---\n") {
		data, err := yaml.YAMLToJSONStrict([]byte(doc))
		if err != nil {
			t.Fatalf("cluster.yaml: %v\n%s", err, doc)
		}
		var m map[string]any
		if err := utiljson.Unmarshal(data, &m); err != nil {
			t.Fatalf("cluster.yaml: %v\n%s", err, doc)
		}
		if len(m) == 0 {
			continue
		}
		u := &unstructured.Unstructured{Object: m}
		r, ok := a.resourceOf(u.GroupVersionKind().Group, u.GetKind())
		if !ok {
			t.Fatalf("cluster.yaml: kind %s is not served", u.GetKind())
		}
		if u.GetGeneration() == 0 {
			u.SetGeneration(1)
		}
		u.SetUID(types.UID("uid-" + uid(u)))
		a.store(r, u)
	}
}

func uid(u *unstructured.Unstructured) string { return u.GetNamespace() + "-" + u.GetName() }

// store keeps an object under a new resource version.
func (a *fakeAPI) store(r metav1.APIResource, u *unstructured.Unstructured) {
	a.version++
	u.SetResourceVersion(strconv.Itoa(a.version))
	a.objects[key(r, u.GetNamespace(), u.GetName())] = u
	a.notify("MODIFIED", u)
}

func (a *fakeAPI) notify(event string, u *unstructured.Unstructured) {
	raw, err := u.MarshalJSON()
	if err != nil {
		panic(err)
	}
	for ch, match := range a.watchers {
		if match(u) {
			e := metav1.WatchEvent{Type: event}
			e.Object.Raw = raw
			ch <- e
		}
	}
}

// react does what the controller of the object would do.
func (a *fakeAPI) react(r metav1.APIResource, u *unstructured.Unstructured) {
	ref := u.GetKind() + "/" + u.GetNamespace() + "/" + u.GetName()
	for _, re := range a.reactions {
		if kinds, all := strings.CutSuffix(re.Object, "*"); re.Object != ref && !(all && strings.HasPrefix(ref, kinds)) {
			continue
		}
		token := u.GetAnnotations()["reconcile.fluxcd.io/requestedAt"]
		if re.When == "requested" && token == "" || re.When == "resumed" && u.Object["spec"].(map[string]any)["suspend"] == true {
			continue
		}
		if re.Gone {
			delete(a.objects, key(r, u.GetNamespace(), u.GetName()))
			a.notify("DELETED", u)
			return
		}
		raw, err := json.Marshal(re.Status)
		if err != nil {
			panic(err)
		}
		text := strings.NewReplacer("${token}", token, `"${generation}"`, strconv.FormatInt(u.GetGeneration(), 10)).Replace(string(raw))
		var status map[string]any
		if err := utiljson.Unmarshal([]byte(text), &status); err != nil {
			panic(err)
		}
		next := u.DeepCopy()
		next.Object["status"] = status
		a.store(r, next)
		u = next
	}
}

// ServeHTTP implements http.Handler.
func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	switch {
	case req.URL.Path == "/version":
		reply(w, 200, map[string]any{"major": "1", "minor": "36", "gitVersion": "v1.36.3"})
		return
	case req.URL.Path == "/api":
		reply(w, 200, metav1.APIVersions{Versions: []string{"v1"}})
		return
	case req.URL.Path == "/apis":
		reply(w, 200, a.groups())
		return
	}
	var group string
	var rest []string
	switch {
	case parts[0] == "api" && len(parts) >= 2:
		rest = parts[2:]
	case parts[0] == "apis" && len(parts) >= 3:
		group, rest = parts[1], parts[3:]
	default:
		http.NotFound(w, req)
		return
	}
	if len(rest) == 0 {
		a.discover(w, req, group)
		return
	}
	var namespace, name, sub string
	if rest[0] == "namespaces" && len(rest) > 2 {
		namespace, rest = rest[1], rest[2:]
	}
	plural := rest[0]
	if len(rest) > 1 {
		name = rest[1]
	}
	if len(rest) > 2 {
		sub = rest[2]
	}
	i := slices.IndexFunc(a.resources, func(r metav1.APIResource) bool { return r.Group == group && r.Name == plural })
	if i < 0 {
		http.NotFound(w, req)
		return
	}
	r := a.resources[i]
	if sub == "log" {
		text, ok := a.podLogs[name]
		if !ok {
			a.notFound(w, r, name)
			return
		}
		_, _ = io.WriteString(w, text)
		return
	}
	if req.Method == http.MethodGet && name == "" {
		a.list(w, req, r, namespace)
		return
	}
	a.object(w, req, r, namespace, name)
}

func (a *fakeAPI) groups() metav1.APIGroupList {
	var list metav1.APIGroupList
	seen := map[string]bool{"": true}
	for _, r := range a.resources {
		if seen[r.Group] {
			continue
		}
		seen[r.Group] = true
		v := metav1.GroupVersionForDiscovery{GroupVersion: r.Group + "/" + r.Version, Version: r.Version}
		list.Groups = append(list.Groups, metav1.APIGroup{Name: r.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
	}
	return list
}

func (a *fakeAPI) discover(w http.ResponseWriter, req *http.Request, group string) {
	list := metav1.APIResourceList{GroupVersion: strings.TrimPrefix(strings.TrimPrefix(req.URL.Path, "/apis/"), "/api/")}
	for _, r := range a.resources {
		if r.Group == group {
			list.APIResources = append(list.APIResources, r)
		}
	}
	if len(list.APIResources) == 0 {
		http.NotFound(w, req)
		return
	}
	reply(w, 200, list)
}

func (a *fakeAPI) notFound(w http.ResponseWriter, r metav1.APIResource, name string) {
	reply(w, 404, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: 404, Reason: metav1.StatusReasonNotFound,
		Message: fmt.Sprintf("%s.%s %q not found", r.Name, r.Group, name), Details: &metav1.StatusDetails{Name: name, Group: r.Group, Kind: r.Name},
	})
}

func (a *fakeAPI) list(w http.ResponseWriter, req *http.Request, r metav1.APIResource, namespace string) {
	q := req.URL.Query()
	selector, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	name := strings.TrimPrefix(q.Get("fieldSelector"), "metadata.name=")
	match := func(u *unstructured.Unstructured) bool {
		gvk := u.GroupVersionKind()
		return gvk.Group == r.Group && gvk.Kind == r.Kind && (namespace == "" || u.GetNamespace() == namespace) &&
			(name == "" || u.GetName() == name) && selector.Matches(labels.Set(u.GetLabels()))
	}
	if q.Get("watch") != "" && q.Get("watch") != "false" {
		a.watch(w, req, match)
		return
	}
	items := []any{}
	for _, k := range slices.Sorted(maps.Keys(a.objects)) {
		if match(a.objects[k]) {
			items = append(items, a.objects[k].Object)
		}
	}
	reply(w, 200, map[string]any{
		"apiVersion": gv(r), "kind": r.Kind + "List", "metadata": map[string]any{"resourceVersion": strconv.Itoa(a.version)}, "items": items,
	})
}

func gv(r metav1.APIResource) string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// watch streams what changed after the asked version, then what changes.
func (a *fakeAPI) watch(w http.ResponseWriter, req *http.Request, match func(*unstructured.Unstructured) bool) {
	since, _ := strconv.Atoi(req.URL.Query().Get("resourceVersion"))
	ch := make(chan metav1.WatchEvent, 1000)
	a.watchers[ch] = match
	for _, k := range slices.Sorted(maps.Keys(a.objects)) {
		u := a.objects[k]
		if v, _ := strconv.Atoi(u.GetResourceVersion()); v > since && match(u) {
			raw, _ := u.MarshalJSON()
			e := metav1.WatchEvent{Type: "MODIFIED"}
			e.Object.Raw = raw
			ch <- e
		}
	}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.watchers, ch)
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(200)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-req.Context().Done():
			return
		case e := <-ch:
			if json.NewEncoder(w).Encode(e) != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

func (a *fakeAPI) object(w http.ResponseWriter, req *http.Request, r metav1.APIResource, namespace, name string) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	live, exists := a.objects[key(r, namespace, name)]
	apply := req.Header.Get("Content-Type") == "application/apply-patch+yaml"
	if !exists && req.Method != http.MethodPost && !apply {
		a.notFound(w, r, name)
		return
	}
	switch req.Method {
	case http.MethodGet:
		reply(w, 200, live.Object)
		return
	case http.MethodDelete:
		a.writes = append(a.writes, "delete "+r.Kind+"/"+namespace+"/"+name)
		if len(live.GetFinalizers()) > 0 {
			next := live.DeepCopy()
			now := metav1.NewTime(a.clock())
			next.SetDeletionTimestamp(&now)
			a.store(r, next)
		} else {
			delete(a.objects, key(r, namespace, name))
			a.notify("DELETED", live)
		}
		reply(w, 200, live.Object)
		return
	}
	next := &unstructured.Unstructured{}
	switch {
	case req.Method == http.MethodPatch && exists:
		was, _ := live.MarshalJSON()
		if apply {
			if body, err = yaml.YAMLToJSON(body); err != nil {
				http.Error(w, err.Error(), 400)
				return
			}
		}
		body, err = jsonpatch.MergePatch(was, body)
	case apply:
		body, err = yaml.YAMLToJSON(body)
	}
	if err == nil {
		err = next.UnmarshalJSON(body)
	}
	if err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	if req.URL.Query().Get("dryRun") == "All" {
		reply(w, 200, next.Object)
		return
	}
	a.write(r, live, next, req)
	reply(w, 200, next.Object)
	a.react(r, next)
}

// write stores an object the way the API server would, counting its generation.
func (a *fakeAPI) write(r metav1.APIResource, live, next *unstructured.Unstructured, req *http.Request) {
	verb := "create"
	if live == nil {
		next.SetGeneration(1)
		next.SetUID(types.UID("uid-" + uid(next)))
		next.SetCreationTimestamp(metav1.NewTime(a.clock()))
	} else {
		verb = strings.ToLower(req.Method)
		was, _ := json.Marshal(live.Object["spec"])
		is, _ := json.Marshal(next.Object["spec"])
		if string(was) != string(is) {
			next.SetGeneration(live.GetGeneration() + 1)
		}
	}
	a.writes = append(a.writes, fmt.Sprintf("%s %s/%s/%s by %s", verb, r.Kind, next.GetNamespace(), next.GetName(), req.URL.Query().Get("fieldManager")))
	if next.GetDeletionTimestamp() != nil && len(next.GetFinalizers()) == 0 {
		delete(a.objects, key(r, next.GetNamespace(), next.GetName()))
		a.notify("DELETED", next)
		return
	}
	a.store(r, next)
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
