package kube

import (
	"context"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ListQuery bounds and selects what List reads.
type ListQuery struct {
	// Labels and Fields are selectors as the API server writes them. Optional.
	Labels, Fields string
	// Limit is the largest number of objects; what is beyond it is not read.
	Limit int
}

// List reads objects of a kind in a namespace, in one request. The Name of ref has no meaning.
func (c *Client) List(ctx context.Context, ref Ref, q ListQuery) ([]unstructured.Unstructured, error) {
	ref.Name = ""
	req := c.rest.Get().Param("limit", strconv.Itoa(q.Limit))
	if q.Labels != "" {
		req = req.Param("labelSelector", q.Labels)
	}
	if q.Fields != "" {
		req = req.Param("fieldSelector", q.Fields)
	}
	data, err := c.send(ctx, req, ref)
	if err != nil {
		return nil, err
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("failed to decode a list of %s from the API server: %w", ref.Kind, err)
	}
	return list.Items, nil
}
