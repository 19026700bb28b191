package action

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/rest"
)

// Helm reads each new object of a release before it writes anything, to find out whose it is. Where the spec takes over what it finds, and
// applies it server-side, the answer makes no difference, but for one thing: an object that may not be read ends the action before there is
// a record of it, so that it is tried again and no attempt is counted (helmrelease 57). Who may do everything is never told so. For them,
// and nobody else, these questions are answered here.

// omnipotent asks at most once in knownVersion whether the identity of the Shared may do everything.
type omnipotent struct {
	may   bool
	asked time.Time
}

// mayAll reports whether the Shared's own identity may do everything on the cluster.
func (s *Shared) mayAll(ctx context.Context) bool {
	s.mu.Lock()
	known := s.all
	s.mu.Unlock()
	if !known.asked.IsZero() && s.clock.Since(known.asked) < knownVersion {
		return known.may
	}
	known = omnipotent{may: s.askAll(ctx), asked: s.clock.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = known
	return known.may
}

// askAll asks the API server. Without an answer, each object is read as Helm wants it.
func (s *Shared) askAll(ctx context.Context) bool {
	r, err := newRequests(s.client)
	if err != nil {
		return false
	}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "*", Group: "*", Resource: "*"},
	}}
	review.SetGroupVersionKind(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"))
	body, err := json.Marshal(review)
	if err != nil {
		return false
	}
	var answer authorizationv1.SelfSubjectAccessReview
	r = r.within(ctx)
	req := r.to(http.MethodPost, authorizationv1.SchemeGroupVersion.WithResource("selfsubjectaccessreviews"), "", "").
		SetHeader("Content-Type", runtime.ContentTypeJSON).Body(body)
	if _, err := r.once(req, &answer); err != nil {
		return false
	}
	return answer.Status.Allowed
}

// takesOver reports whether an action that applies server-side, or not, and takes over what it finds, or not, needs to know of no object
// whether it exists.
func (a *Actions) takesOver(ctx context.Context, serverSide, takeOwnership bool) bool {
	return serverSide && takeOwnership && a.o.Client == a.o.Shared.client && a.o.Shared.mayAll(ctx)
}

// unasked is the api of objects that are taken over: asked for one before anything is written, it says that there is none.
type unasked struct {
	api
	c *client
}

var _ resource.RESTClient = unasked{}

// Get begins a request that does not leave the process, unless objects are written already: then what is asked for is their state.
func (u unasked) Get() *rest.Request {
	u.c.mu.Lock()
	writes := u.c.writes
	u.c.mu.Unlock()
	if writes {
		return u.api.Get()
	}
	return rest.NewRequestWithClient(u.base, u.path, u.content, &http.Client{Transport: absence{u.c}}).Verb(http.MethodGet)
}

// absence answers that there is no such object, and notes which was meant.
type absence struct{ c *client }

const notFoundStatus = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"not asked for","reason":"NotFound","code":404}`

// RoundTrip implements http.RoundTripper.
func (a absence) RoundTrip(r *http.Request) (*http.Response, error) {
	a.c.mu.Lock()
	a.c.taken[r.URL.Path] = struct{}{}
	a.c.mu.Unlock()
	return &http.Response{
		StatusCode: http.StatusNotFound, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {runtime.ContentTypeJSON}}, Body: io.NopCloser(bytes.NewBufferString(notFoundStatus)),
	}, nil
}

// begun notes that objects are written from now on.
func (c *client) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = true
}

// takes reports whether an object is to be taken over should it exist: Helm has been told that it does not.
func (c *client) takes(info *resource.Info) bool {
	path := c.o.Requests.of(http.MethodGet, info).URL().Path
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.taken[path]
	return ok
}
