package action

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	helmkube "helm.sh/helm/v4/pkg/kube"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/csaupgrade"
	"k8s.io/client-go/util/retry"
)

// takeOvers bounds how often fields are taken over again that somebody else changes meanwhile.
const takeOvers = 3

// apply applies an object server-side and reports whether it did not exist. Fields that were ours by client-side apply become ours by
// server-side apply; nothing else would ever remove them.
func (c *client) apply(info *resource.Info, force bool) (created bool, err error) {
	subject := info.Namespace + "/" + info.Name + " " + info.Mapping.GroupVersionKind.String()
	body, err := json.Marshal(info.Object)
	if err != nil {
		return false, fmt.Errorf("failed to encode object %s: %w", subject, err)
	}
	live, code, err := c.send(body, force, info)
	created = code == http.StatusCreated
	for range takeOvers {
		if err != nil || created {
			break
		}
		var ours bool
		if ours, err = c.takeOver(info, live); err == nil && !ours {
			break
		}
		if err == nil {
			live, code, err = c.send(body, force, info)
		}
	}
	switch {
	case err == nil:
		refresh(info, live)
		c.log.Debug("applied resource", "namespace", info.Namespace, "name", info.Name, "gvk", info.Mapping.GroupVersionKind.String())
		return created, nil
	case code == http.StatusUnsupportedMediaType:
		err = fmt.Errorf("server-side apply not available on the server: %w", err)
	case apierrors.IsConflict(err):
		err = fmt.Errorf("conflict occurred while applying object %s: %w", subject, err)
	default:
		err = fmt.Errorf("server-side apply failed for object %s: %w", subject, err)
	}
	c.log.Debug("error applying resource", "error", err)
	return created, err
}

// send makes the request of apply. A conflict about the usage of a ResourceQuota passes.
func (c *client) send(body []byte, force bool, info *resource.Info) (live *metav1.PartialObjectMetadata, code int, err error) {
	validation := metav1.FieldValidationStrict
	if c.o.Method.lenient {
		validation = metav1.FieldValidationIgnore
	}
	err = retry.OnError(retry.DefaultRetry, quotaConflict, func() error {
		req := c.patchRequest(info, types.ApplyPatchType).Param("force", strconv.FormatBool(force)).Param("fieldValidation", validation).Body(body)
		live, code, err = c.o.Requests.metadata(req)
		return err
	})
	return live, code, err
}

func (c *client) patchRequest(info *resource.Info, t types.PatchType) *rest.Request {
	return c.o.Requests.of(http.MethodPatch, info).SetHeader("Content-Type", string(t)).Param("fieldManager", Manager)
}

func quotaConflict(err error) bool {
	return apierrors.IsConflict(err) && strings.Contains(err.Error(), "Operation cannot be fulfilled on resourcequotas")
}

// takeOver moves fields of our client-side applies to our server-side ones and reports whether there were any.
func (c *client) takeOver(info *resource.Info, live *metav1.PartialObjectMetadata) (bool, error) {
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(Manager), Manager)
	if err != nil {
		return false, fmt.Errorf("failed to upgrade managed fields: %w", err)
	}
	if len(patch) == 0 {
		return false, nil
	}
	_, _, err = c.o.Requests.metadata(c.patchRequest(info, types.JSONPatchType).Body(patch))
	if apierrors.IsConflict(err) {
		// The object has changed meanwhile: what is applied next shows how it is now.
		return true, nil
	}
	return true, err
}

// create creates an object.
func (c *client) create(info *resource.Info) error {
	body, err := json.Marshal(info.Object)
	if err != nil {
		return fmt.Errorf("failed to encode %s %s: %w", info.Mapping.GroupVersionKind.Kind, info.Name, err)
	}
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		named := *info
		named.Name = ""
		req := c.o.Requests.of(http.MethodPost, &named).SetHeader("Content-Type", runtime.ContentTypeJSON).Param("fieldManager", Manager).Body(body)
		live, _, err := c.o.Requests.metadata(req)
		if err == nil {
			refresh(info, live)
		}
		return err
	})
}

// replace puts an object in the place of one that exists.
func (c *client) replace(info *resource.Info, resourceVersion string) error {
	o := info.Object.(*unstructured.Unstructured).DeepCopy()
	o.SetResourceVersion(resourceVersion)
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("failed to encode %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	req := c.o.Requests.of(http.MethodPut, info).SetHeader("Content-Type", runtime.ContentTypeJSON).Param("fieldManager", Manager)
	if c.o.Method.lenient {
		req = req.Param("fieldValidation", metav1.FieldValidationIgnore)
	}
	live, _, err := c.o.Requests.metadata(req.Body(body))
	if err != nil {
		return fmt.Errorf("failed to replace object: %w", err)
	}
	refresh(info, live)
	return nil
}

// patch changes a live object by what differs between before and target, the client-side apply of Helm.
func (c *client) patch(before, live runtime.Object, target *resource.Info) error {
	patch, patchType, err := c.mergePatch(before, live, target)
	if err != nil {
		return fmt.Errorf("failed to create patch: %w", err)
	}
	if len(patch) == 0 || string(patch) == "{}" {
		c.log.Debug("no changes detected", "kind", target.Mapping.GroupVersionKind.Kind, "name", target.Name)
		return nil
	}
	m, _, err := c.o.Requests.metadata(c.patchRequest(target, patchType).Body(patch))
	if err != nil {
		return fmt.Errorf("cannot patch %q with kind %s: %w", target.Name, target.Mapping.GroupVersionKind.Kind, err)
	}
	refresh(target, m)
	return nil
}

func (c *client) mergePatch(before, live runtime.Object, target *resource.Info) ([]byte, types.PatchType, error) {
	old, err := json.Marshal(before)
	if err != nil {
		return nil, "", fmt.Errorf("serializing current configuration: %w", err)
	}
	wanted, err := json.Marshal(target.Object)
	if err != nil {
		return nil, "", fmt.Errorf("serializing target configuration: %w", err)
	}
	current, err := json.Marshal(live)
	if err != nil {
		return nil, "", fmt.Errorf("serializing live configuration: %w", err)
	}
	versioned := helmkube.AsVersioned(target)
	_, custom := versioned.(runtime.Unstructured)
	if _, old := versioned.(*apiextensionsv1beta1.CustomResourceDefinition); old {
		custom = true
	}
	switch {
	case custom && c.o.Method.merge:
		patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(old, wanted, current,
			mergepatch.RequireKeyUnchanged("apiVersion"), mergepatch.RequireKeyUnchanged("kind"), mergepatch.RequireMetadataKeyUnchanged("name"))
		if mergepatch.IsPreconditionFailed(err) {
			err = fmt.Errorf("%w: at least one field was changed: apiVersion, kind or name", err)
		}
		return patch, types.MergePatchType, err
	case custom:
		patch, err := jsonpatch.CreateMergePatch(old, wanted)
		return patch, types.MergePatchType, err
	}
	keys, err := strategicpatch.NewPatchMetaFromStruct(versioned)
	if err != nil {
		return nil, "", fmt.Errorf("unable to create patch metadata from object: %w", err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(old, wanted, current, keys, true)
	return patch, types.StrategicMergePatchType, err
}

// refresh notes what a write has made of an object.
func refresh(info *resource.Info, live *metav1.PartialObjectMetadata) {
	info.Name, info.Namespace, info.ResourceVersion = live.Name, live.Namespace, live.ResourceVersion
}
