package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// clients is how many plain clients the floor has, and how many slots the process gets.
const clients = 20

// floor is the least that a set of objects costs: each is sent once, by plain clients, and nobody looks after it.
type floor struct {
	mapper  meta.RESTMapper
	clients []rest.Interface
}

func newFloor(l *lab) (*floor, error) {
	f := &floor{mapper: l.client.RESTMapper()}
	for range clients {
		config := rest.CopyConfig(l.plane.Config)
		// With a dialer of its own a client has a connection of its own: client-go shares those of equal configurations.
		config.Dial = (&net.Dialer{}).DialContext
		config.GroupVersion, config.NegotiatedSerializer = &schema.GroupVersion{}, scheme.Codecs.WithoutConversion()
		client, err := rest.UnversionedRESTClientFor(config)
		if err != nil {
			return nil, err
		}
		f.clients = append(f.clients, client)
	}
	return f, nil
}

// object is a manifest with the path that it is applied to.
type object struct {
	path string
	json []byte
}

// objects reads manifests. Those of a kind with namespaces that name none are put into the one that is given.
func (f *floor) objects(namespace, manifests string) ([]object, error) {
	var out []object
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(&u.Object); err != nil {
			if errors.Is(err, io.EOF) {
				return out, nil
			}
			return nil, fmt.Errorf("reading manifests: %w", err)
		}
		if len(u.Object) == 0 {
			continue
		}
		gvk := u.GroupVersionKind()
		mapping, err := f.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return nil, err
		}
		prefix := path.Join("/apis", gvk.Group, gvk.Version)
		if gvk.Group == "" {
			prefix = "/api/" + gvk.Version
		}
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			if u.GetNamespace() == "" {
				u.SetNamespace(namespace)
			}
			prefix = path.Join(prefix, "namespaces", u.GetNamespace())
		}
		body, err := json.Marshal(u)
		if err != nil {
			return nil, err
		}
		out = append(out, object{path: path.Join(prefix, mapping.Resource.Resource, url.PathEscape(u.GetName())), json: body})
	}
}

// apply applies all objects once, those of an application in order.
func (f *floor) apply(ctx context.Context, applications [][]object) error {
	return f.each(ctx, applications, func(client rest.Interface, o object) *rest.Request {
		return client.Patch(types.ApplyPatchType).AbsPath(o.path).Param("fieldManager", "floor").Param("force", "true").Body(o.json)
	})
}

// remove deletes all objects.
func (f *floor) remove(ctx context.Context, applications [][]object) error {
	return f.each(ctx, applications, func(client rest.Interface, o object) *rest.Request {
		return client.Delete().AbsPath(o.path).Param("propagationPolicy", "Background")
	})
}

func (f *floor) each(ctx context.Context, applications [][]object, request func(rest.Interface, object) *rest.Request) error {
	return spread(len(applications), func(worker, i int) error {
		for _, o := range applications[i] {
			if err := request(f.clients[worker], o).Do(ctx).Error(); err != nil {
				return fmt.Errorf("%s: %w", o.path, err)
			}
		}
		return nil
	})
}

// spread calls do for 0 to n-1, by as many workers as there are clients, and returns what has failed first.
func spread(n int, do func(worker, i int) error) error {
	work := make(chan int)
	failed := make(chan error, clients)
	var working sync.WaitGroup
	for worker := range clients {
		working.Go(func() {
			for i := range work {
				if err := do(worker, i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < n && err == nil; i++ {
		select {
		case work <- i:
		case err = <-failed:
		}
	}
	close(work)
	working.Wait()
	close(failed)
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// changed are the objects of after that are not the same in before.
func changed(before, after []object) []object {
	var out []object
	for _, o := range after {
		same := false
		for _, b := range before {
			same = same || b.path == o.path && bytes.Equal(b.json, o.json)
		}
		if !same {
			out = append(out, o)
		}
	}
	return out
}
