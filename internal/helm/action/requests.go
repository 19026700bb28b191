package action

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// acceptMetadata asks the API server to answer with the metadata alone. That is all that is needed after a write.
const acceptMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

// secrets is the resource of records.
var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// acceptMetadataList is acceptMetadata for lists.
const acceptMetadataList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

// requestTimeout bounds a request that nothing else does: a server that does not answer must not keep an action for ever. The API server
// itself gives up after one minute.
const requestTimeout = 2 * time.Minute

// requests makes requests under the identity of a client. They belong to one context, since Helm has none to pass on.
type requests struct {
	ctx     context.Context
	base    *url.URL
	next    *http.Client // of the identity
	client  *http.Client // next, for ctx
	content rest.ClientContentConfig
}

func newRequests(c *kube.Client) (*requests, error) {
	base, _, err := rest.DefaultServerUrlFor(c.Config())
	if err != nil {
		return nil, fmt.Errorf("failed to find the address of the API server: %w", err)
	}
	r := &requests{
		base: base, next: c.HTTP(),
		content: rest.ClientContentConfig{
			ContentType: runtime.ContentTypeJSON, AcceptContentTypes: runtime.ContentTypeJSON,
			Negotiator: runtime.NewClientNegotiator(resource.UnstructuredPlusDefaultContentConfig().NegotiatedSerializer, schema.GroupVersion{}),
		},
	}
	return r.within(context.Background()), nil
}

// within returns the same requests for another context.
func (r *requests) within(ctx context.Context) *requests {
	other := *r
	other.ctx = ctx
	client := *r.next
	client.Transport = bound{ctx, cmp.Or(r.next.Transport, http.DefaultTransport)}
	other.client = &client
	return &other
}

// to returns a request on a resource, or on its collection when the name is empty.
func (r *requests) to(verb string, gvr schema.GroupVersionResource, namespace, name string) *rest.Request {
	req := r.api(gvr.GroupVersion()).request(verb).Resource(gvr.Resource)
	if namespace != "" {
		req = req.Namespace(namespace)
	}
	if name != "" {
		req = req.Name(name)
	}
	return req
}

// of is to for an object of Helm.
func (r *requests) of(verb string, info *resource.Info) *rest.Request {
	namespace := info.Namespace
	if info.Mapping.Scope.Name() == meta.RESTScopeNameRoot {
		namespace = ""
	}
	return r.to(verb, info.Mapping.Resource, namespace, info.Name)
}

// metadata sends a request and decodes the metadata of the answer, and its status code.
func (r *requests) metadata(req *rest.Request) (*metav1.PartialObjectMetadata, int, error) {
	m := &metav1.PartialObjectMetadata{}
	code, err := r.decode(req.SetHeader("Accept", acceptMetadata), m)
	return m, code, err
}

// decode sends a request and decodes the answer, if there is something to decode it into. It returns the status code. What passes by itself
// does not make an action fail, which would have to be repeated, or remedied, as a whole.
func (r *requests) decode(req *rest.Request, into any) (code int, err error) {
	for _, wait := range transientWaits {
		if code, err = r.once(req, into); !transient(err) {
			return code, err
		}
		select {
		case <-r.ctx.Done():
			return code, err
		case <-time.After(wait):
		}
	}
	return r.once(req, into)
}

// transientWaits are the waits between the tries of a request.
var transientWaits = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}

// transient reports whether a request that failed may succeed when it is repeated: the connection broke, the server is busy or restarts, or
// somebody else has written at the same moment. All requests of actions may be made twice: applies, replacements, deletions, and the
// creation of a record, which knows its own.
func transient(err error) bool {
	switch {
	case err == nil:
		return false
	case utilnet.IsConnectionReset(err), utilnet.IsProbableEOF(err), utilnet.IsConnectionRefused(err):
		return true
	case apierrors.IsConflict(err):
		return !apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict)
	}
	return apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsInternalError(err)
}

func (r *requests) once(req *rest.Request, into any) (int, error) {
	var code int
	ctx, cancel := context.WithTimeout(r.ctx, requestTimeout)
	defer cancel()
	res := req.Do(ctx).StatusCode(&code)
	// Error, unlike Raw, reads the server's words from the body.
	if err := res.Error(); err != nil {
		return code, err
	}
	data, err := res.Raw()
	if err != nil || into == nil {
		return code, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return code, fmt.Errorf("failed to decode an answer of the API server: %w", err)
	}
	return code, nil
}

// api makes requests to one version of one group. Helm uses it to ask who owns an object, for which the metadata is enough.
type api struct {
	*requests
	path string
}

var _ resource.RESTClient = api{}

func (r *requests) api(gv schema.GroupVersion) api {
	if gv.Group == "" {
		return api{r, "/api/" + gv.Version}
	}
	return api{r, "/apis/" + gv.Group + "/" + gv.Version}
}

func (a api) request(verb string) *rest.Request {
	return rest.NewRequestWithClient(a.base, a.path, a.content, a.client).Verb(verb).WarningHandler(rest.NoWarnings{})
}

// Get begins a request for metadata.
func (a api) Get() *rest.Request {
	return a.request(http.MethodGet).SetHeader("Accept", acceptMetadata)
}

// Post begins a request that creates.
func (a api) Post() *rest.Request { return a.request(http.MethodPost) }

// Put begins a request that replaces.
func (a api) Put() *rest.Request { return a.request(http.MethodPut) }

// Delete begins a request that deletes.
func (a api) Delete() *rest.Request { return a.request(http.MethodDelete) }

// Patch begins a request that changes.
func (a api) Patch(t types.PatchType) *rest.Request {
	return a.request(http.MethodPatch).SetHeader("Content-Type", string(t))
}

// bound makes requests of Helm, which have no context, end with one and see its values.
type bound struct {
	ctx  context.Context
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bound) RoundTrip(req *http.Request) (*http.Response, error) {
	return b.next.RoundTrip(req.WithContext(merged{req.Context(), b.ctx}))
}

// merged ends with one context and has the values of two.
type merged struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (m merged) Value(key any) any {
	if v := m.Context.Value(key); v != nil {
		return v
	}
	return m.values.Value(key)
}

// get reads a path that belongs to no resource.
func (r *requests) get(path string, into any) (int, error) {
	return r.decode(rest.NewRequestWithClient(r.base, path, r.content, r.client).Verb(http.MethodGet).WarningHandler(rest.NoWarnings{}), into)
}
