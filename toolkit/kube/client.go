package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// acceptMetadata asks the API server to answer with the metadata alone: after a write that is all a caller wants to remember,
// and it saves the encoding of the object on both sides.
const acceptMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// Ref names one object of one served kind. Namespace is empty for cluster-scoped kinds.
type Ref struct {
	Resource
	Namespace, Name string
}

// Client reads and writes objects of any kind under one identity. Its errors are the API server's, unwrapped, so that
// callers can ask apierrors and show the server's own words. It is safe for concurrent use.
type Client struct {
	// Mapper is shared by all clients of the same cluster.
	Mapper *Mapper

	config *rest.Config
	http   *http.Client
	rest   rest.Interface
}

// NewClient makes a client for a config that went through Config. The transport is shared by client-go between configs that
// differ only in identity, so a client costs little.
func NewClient(config *rest.Config, mapper *Mapper) (*Client, error) {
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("failed to build the HTTP client of the API server: %w", err)
	}
	c := rest.CopyConfig(config)
	c.ContentType, c.AcceptContentTypes = "application/json", "application/json"
	c.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	rc, err := rest.UnversionedRESTClientForConfigAndClient(c, h)
	if err != nil {
		return nil, fmt.Errorf("failed to build the client of the API server: %w", err)
	}
	return &Client{Mapper: mapper, config: config, http: h, rest: rc}, nil
}

// Config is the configuration the client was built from, for libraries that build their own (Helm). Do not change it.
func (c *Client) Config() *rest.Config { return c.config }

// HTTP is the client's authenticated HTTP client.
func (c *Client) HTTP() *http.Client { return c.http }

// Get reads an object.
func (c *Client) Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	return c.object(ctx, c.rest.Get(), ref)
}

// GetMetadata reads an object's metadata.
func (c *Client) GetMetadata(ctx context.Context, ref Ref) (*metav1.PartialObjectMetadata, error) {
	return c.metadata(ctx, c.rest.Get(), ref)
}

// DryRunApply asks what a forced server-side apply of obj would make of it, without storing anything.
// The answer to what would be a create has no resourceVersion.
func (c *Client) DryRunApply(ctx context.Context, ref Ref, obj *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	req, err := c.apply(obj, manager)
	if err != nil {
		return nil, err
	}
	return c.object(ctx, req.Param("dryRun", metav1.DryRunAll), ref)
}

// Apply is a forced server-side apply of obj. It returns what was stored, metadata alone.
func (c *Client) Apply(ctx context.Context, ref Ref, obj *unstructured.Unstructured, manager string) (*metav1.PartialObjectMetadata, error) {
	req, err := c.apply(obj, manager)
	if err != nil {
		return nil, err
	}
	return c.metadata(ctx, req, ref)
}

func (c *Client) apply(obj *unstructured.Unstructured, manager string) (*rest.Request, error) {
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, fmt.Errorf("failed to encode %s %s: %w", obj.GetKind(), obj.GetName(), err)
	}
	return c.rest.Patch(types.ApplyPatchType).Param("fieldManager", manager).Param("force", "true").Body(body), nil
}

// Create creates obj, which must not exist. It returns what was stored, metadata alone.
func (c *Client) Create(ctx context.Context, ref Ref, obj *unstructured.Unstructured, manager string) (*metav1.PartialObjectMetadata, error) {
	req, err := c.create(obj, manager)
	if err != nil {
		return nil, err
	}
	ref.Name = ""
	return c.metadata(ctx, req, ref)
}

// DryRunCreate asks whether obj could be created; AlreadyExists is an answer the caller may well expect.
func (c *Client) DryRunCreate(ctx context.Context, ref Ref, obj *unstructured.Unstructured, manager string) error {
	req, err := c.create(obj, manager)
	if err != nil {
		return err
	}
	ref.Name = ""
	_, err = c.metadata(ctx, req.Param("dryRun", metav1.DryRunAll), ref)
	return err
}

func (c *Client) create(obj *unstructured.Unstructured, manager string) (*rest.Request, error) {
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, fmt.Errorf("failed to encode %s %s: %w", obj.GetKind(), obj.GetName(), err)
	}
	return c.rest.Post().SetHeader("Content-Type", "application/json").Param("fieldManager", manager).Body(body), nil
}

// JSONPatch applies an RFC 6902 patch.
func (c *Client) JSONPatch(ctx context.Context, ref Ref, patch []byte, manager string) (*metav1.PartialObjectMetadata, error) {
	return c.metadata(ctx, c.rest.Patch(types.JSONPatchType).Param("fieldManager", manager).Body(patch), ref)
}

// Delete deletes an object if it still is the one the preconditions name.
func (c *Client) Delete(ctx context.Context, ref Ref, uid types.UID, resourceVersion string, propagation metav1.DeletionPropagation) error {
	o := metav1.DeleteOptions{PropagationPolicy: &propagation, Preconditions: &metav1.Preconditions{UID: &uid}}
	if resourceVersion != "" {
		o.Preconditions.ResourceVersion = &resourceVersion
	}
	o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("failed to encode delete options: %w", err)
	}
	_, err = c.send(ctx, c.rest.Delete().SetHeader("Content-Type", "application/json").Body(body), ref)
	return err
}

func (c *Client) object(ctx context.Context, req *rest.Request, ref Ref) (*unstructured.Unstructured, error) {
	data, err := c.send(ctx, req, ref)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("failed to decode %s %s from the API server: %w", ref.Kind, ref.Name, err)
	}
	return u, nil
}

func (c *Client) metadata(ctx context.Context, req *rest.Request, ref Ref) (*metav1.PartialObjectMetadata, error) {
	data, err := c.send(ctx, req.SetHeader("Accept", acceptMetadata, "application/json"), ref)
	if err != nil {
		return nil, err
	}
	m := &metav1.PartialObjectMetadata{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("failed to decode the metadata of %s %s from the API server: %w", ref.Kind, ref.Name, err)
	}
	return m, nil
}

func (c *Client) send(ctx context.Context, req *rest.Request, ref Ref) ([]byte, error) {
	p, err := ref.path()
	if err != nil {
		return nil, err
	}
	res := req.AbsPath(p).Do(ctx)
	// Error, unlike Raw, reads the server's words from the body.
	if err := res.Error(); err != nil {
		return nil, err
	}
	return res.Raw()
}

// path is the object's URL path, or its collection's when the name is empty. Names come from users' files: each must be one
// path segment, or "../" in it would reach another resource.
func (r Ref) path() (string, error) {
	var b strings.Builder
	if r.Group == "" {
		b.WriteString("/api/")
	} else {
		b.WriteString("/apis/" + r.Group + "/")
	}
	b.WriteString(r.Version)
	if r.Namespaced {
		if r.Namespace == "" {
			return "", fmt.Errorf("%s %q needs a namespace", r.Kind, r.Name)
		}
		b.WriteString("/namespaces/" + r.Namespace)
	}
	b.WriteString("/" + r.Plural)
	if r.Name != "" {
		b.WriteString("/" + r.Name)
	}
	for _, segment := range []string{r.Namespace, r.Name} {
		if segment == "" {
			continue
		}
		if msgs := path.IsValidPathSegmentName(segment); len(msgs) > 0 {
			return "", fmt.Errorf("invalid name %q of a %s: %w", segment, r.Kind, errors.New(strings.Join(msgs, ", ")))
		}
	}
	return b.String(), nil
}
