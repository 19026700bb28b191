package action

import (
	"context"
	"net/http"
	"text/template"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// templateFuncs are functions of templates in place of Helm's: they act as the HelmRelease on shared connections, have limits, and end with
// ctx.
func (c *client) templateFuncs(ctx context.Context, g *guard) template.FuncMap {
	funcs := g.funcs()
	funcs["lookup"] = func(apiVersion, kind, namespace, name string) (map[string]any, error) {
		return c.lookup(ctx, apiVersion, kind, namespace, name)
	}
	return funcs
}

// lookup reads an object, or a list when name is empty. What is not there is an empty map.
func (c *client) lookup(ctx context.Context, apiVersion, kind, namespace, name string) (map[string]any, error) {
	res, err := c.o.Mapper.Resource(ctx, schema.FromAPIVersionAndKind(apiVersion, kind))
	if err != nil {
		return map[string]any{}, err
	}
	if !res.Namespaced {
		namespace = ""
	}
	r := c.o.Requests.within(ctx)
	found := map[string]any{}
	_, err = r.decode(r.to(http.MethodGet, res.GVR(), namespace, name), &found)
	switch {
	case apierrors.IsNotFound(err):
		return map[string]any{}, nil
	case err != nil:
		return map[string]any{}, err
	}
	return found, nil
}
