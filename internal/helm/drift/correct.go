package drift

import (
	"context"
	"encoding/json"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// maxTries bounds how often an object is compared anew that somebody else changes meanwhile.
const maxTries = 5

// Correct puts right what Detect has found: it creates what is missing, and then changes what differs (helmrelease 85). It returns a
// line for each object it has put right, "Kind/namespace/name created" or "configured". What fails does not keep the rest from being
// put right; the error then names each object, one per line.
func Correct(ctx context.Context, r Request, found *Result) ([]string, error) {
	d, err := newDetection(r)
	if err != nil {
		return nil, err
	}
	var lines []string
	var failed []error
	for _, missing := range []bool{true, false} {
		for _, c := range found.Changes {
			if c.Missing != missing {
				continue
			}
			action, err := d.correct(ctx, c)
			switch {
			case ctx.Err() != nil:
				return lines, context.Cause(ctx)
			case err != nil:
				failed = append(failed, err)
			case action != ssa.Unchanged:
				lines = append(lines, ssa.Change{ID: c.ID, Action: action}.String())
			}
		}
	}
	found.Contested = d.contested
	return lines, errors.Join(failed...)
}

// correct puts one object right. Whatever happens to it meanwhile starts the comparison anew.
func (d *detection) correct(ctx context.Context, c *Change) (ssa.Action, error) {
	for try := 1; ; try++ {
		if c.Refused != nil {
			return "", c.Refused
		}
		action, err := d.write(ctx, c)
		if err == nil {
			return action, nil
		}
		if raced := apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) && !c.Missing; !raced || try == maxTries {
			return "", ssa.NewObjectError(c.object.desired, "correction failed", err)
		}
		again, err := d.compare(ctx, c.object)
		switch {
		case err != nil:
			return "", err
		case again == nil:
			return ssa.Unchanged, nil
		}
		c = again
	}
}

// write creates or patches an object.
func (d *detection) write(ctx context.Context, c *Change) (ssa.Action, error) {
	if c.Missing {
		return ssa.Created, d.remembering(c, func() (*metav1.PartialObjectMetadata, error) {
			return d.Client.Create(ctx, c.object.ref, c.object.desired, d.Manager)
		})
	}
	body, err := d.body(c)
	if err != nil {
		return "", err
	}
	return ssa.Configured, d.remembering(c, func() (*metav1.PartialObjectMetadata, error) {
		return d.Client.JSONPatch(ctx, c.object.ref, body, d.Manager)
	})
}

// remembering runs a write so that nobody takes its events for somebody else's doing.
func (d *detection) remembering(c *Change, write func() (*metav1.PartialObjectMetadata, error)) error {
	if d.Memory == nil {
		_, err := write()
		return err
	}
	// The digest 0 has the next run look at the object once more: a webhook may have had other ideas.
	contested, err := d.Memory.Write(d.Owner, c.ID, 0, func() (kube.State, error) {
		stored, err := write()
		if err != nil {
			return kube.State{}, err
		}
		return d.Lens.Metadata(stored), nil
	})
	if contested {
		d.contested = append(d.contested, c.ID)
	}
	return err
}

// body is the patch that puts an object right. It holds for the state that was compared only: the places in lists mean nothing in
// another one.
func (d *detection) body(c *Change) ([]byte, error) {
	operations := []operation{{opReplace, "/metadata/resourceVersion", c.Live.GetResourceVersion()}}
	entries, taken, err := ssa.TakeOver(d.Manager, c.Live.GetManagedFields(), c.Live.GetAPIVersion(), d.overridden)
	if err != nil {
		return nil, err
	}
	if taken {
		operations = append(operations, operation{opReplace, "/metadata/managedFields", entries})
	}
	return json.Marshal(append(operations, c.patch...))
}
