package ssa

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// maxListDepth bounds lists within lists.
const maxListDepth = 8

// Normalise brings rendered objects into the form in which they are applied (kustomization 60, 61, 68): lists become their items,
// kustomize's own configuration is dropped, built-in workloads get the shape of their Go types, and what only a server writes
// (status, creation time, ...) is removed. It changes the given objects.
func Normalise(objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, o := range objects {
		var err error
		if out, err = flatten(out, o, 0); err != nil {
			return nil, err
		}
	}
	for _, o := range out {
		if err := retype(o); err != nil {
			return nil, err
		}
		clean(o)
	}
	return out, nil
}

func flatten(out []*unstructured.Unstructured, o *unstructured.Unstructured, depth int) ([]*unstructured.Unstructured, error) {
	if depth > maxListDepth {
		return nil, fmt.Errorf("%s/%s nests lists deeper than %d", o.GetKind(), o.GetName(), maxListDepth)
	}
	gvk := o.GroupVersionKind()
	if gvk.Group == "kustomize.config.k8s.io" && (gvk.Kind == "Kustomization" || gvk.Kind == "Component") {
		return out, nil
	}
	if !o.IsList() {
		return append(out, o), nil
	}
	items, _, err := unstructured.NestedSlice(o.Object, "items")
	if err != nil {
		return nil, fmt.Errorf("failed to read the items of %s: %w", gvk.Kind, err)
	}
	for i, it := range items {
		m, ok := it.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("item %d of %s is not an object", i, gvk.Kind)
		}
		if out, err = flatten(out, &unstructured.Unstructured{Object: m}, depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// retype passes an object through its Go type. An object that does not fit the type is left as it is: the API server names the
// offending field better than a conversion does.
func retype(o *unstructured.Unstructured) error {
	var typed runtime.Object
	switch gvk := o.GroupVersionKind(); gvk.GroupVersion().String() + " " + gvk.Kind {
	case "v1 ConfigMap":
		typed = &corev1.ConfigMap{}
	case "v1 Secret":
		// Only to fold stringData into data: a Secret without it reaches the server with whatever else it holds
		// (kustomization 50 tells encrypted ones by that).
		if _, ok := o.Object["stringData"]; !ok {
			return nil
		}
		typed = &corev1.Secret{}
	case "v1 Service":
		typed = &corev1.Service{}
	case "v1 Pod":
		typed = &corev1.Pod{}
	case "v1 ReplicationController":
		typed = &corev1.ReplicationController{}
	case "apps/v1 Deployment":
		typed = &appsv1.Deployment{}
	case "apps/v1 StatefulSet":
		typed = &appsv1.StatefulSet{}
	case "apps/v1 DaemonSet":
		typed = &appsv1.DaemonSet{}
	case "apps/v1 ReplicaSet":
		typed = &appsv1.ReplicaSet{}
	case "batch/v1 Job":
		typed = &batchv1.Job{}
	case "batch/v1 CronJob":
		typed = &batchv1.CronJob{}
	case "autoscaling/v2 HorizontalPodAutoscaler":
		typed = &autoscalingv2.HorizontalPodAutoscaler{}
	default:
		return nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed); err != nil {
		return nil
	}
	setDefaults(typed)
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return fmt.Errorf("failed to normalise %s: %w", IDOf(o).Subject(), err)
	}
	o.Object = m
	return nil
}

// setDefaults fills what server-side apply needs before the server's own defaults: the protocol is part of a port's identity in
// lists, so a port without it would be a second one.
func setDefaults(o runtime.Object) {
	switch t := o.(type) {
	case *corev1.Secret:
		if len(t.StringData) == 0 {
			t.StringData = nil
			return
		}
		if t.Data == nil {
			t.Data = make(map[string][]byte, len(t.StringData))
		}
		for k, v := range t.StringData {
			t.Data[k] = []byte(v)
		}
		t.StringData = nil
	case *corev1.Service:
		for i := range t.Spec.Ports {
			if t.Spec.Ports[i].Protocol == "" {
				t.Spec.Ports[i].Protocol = corev1.ProtocolTCP
			}
		}
	case *corev1.Pod:
		podDefaults(&t.Spec)
	case *corev1.ReplicationController:
		if t.Spec.Template != nil {
			podDefaults(&t.Spec.Template.Spec)
		}
	case *appsv1.Deployment:
		podDefaults(&t.Spec.Template.Spec)
	case *appsv1.StatefulSet:
		podDefaults(&t.Spec.Template.Spec)
	case *appsv1.DaemonSet:
		podDefaults(&t.Spec.Template.Spec)
	case *appsv1.ReplicaSet:
		podDefaults(&t.Spec.Template.Spec)
	case *batchv1.Job:
		podDefaults(&t.Spec.Template.Spec)
	case *batchv1.CronJob:
		podDefaults(&t.Spec.JobTemplate.Spec.Template.Spec)
	}
}

func podDefaults(spec *corev1.PodSpec) {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for j := range containers[i].Ports {
				if containers[i].Ports[j].Protocol == "" {
					containers[i].Ports[j].Protocol = corev1.ProtocolTCP
				}
			}
		}
	}
	for i := range spec.EphemeralContainers {
		for j := range spec.EphemeralContainers[i].Ports {
			if spec.EphemeralContainers[i].Ports[j].Protocol == "" {
				spec.EphemeralContainers[i].Ports[j].Protocol = corev1.ProtocolTCP
			}
		}
	}
}

// clean removes what only a server may set. resourceVersion and uid would turn an apply into a conditional one, managedFields is
// refused; they come with manifests that were exported from a cluster.
func clean(o *unstructured.Unstructured) {
	for _, f := range []string{"creationTimestamp", "managedFields", "resourceVersion", "uid", "generation", "selfLink"} {
		unstructured.RemoveNestedField(o.Object, "metadata", f)
	}
	for _, at := range [][]string{
		{"spec", "template", "metadata", "creationTimestamp"},
		{"spec", "jobTemplate", "metadata", "creationTimestamp"},
		{"spec", "jobTemplate", "spec", "template", "metadata", "creationTimestamp"},
	} {
		if v, ok, _ := unstructured.NestedFieldNoCopy(o.Object, at...); ok && v == nil {
			unstructured.RemoveNestedField(o.Object, at...)
		}
	}
	if o.GetKind() == "CustomResourceDefinition" {
		cleanConversion(o)
		return
	}
	delete(o.Object, "status")
}

// cleanConversion drops a CRD's conversion caBundle that is no certificate: cert-manager fills it in later, and the API server
// would refuse the placeholder (kustomization 68).
func cleanConversion(o *unstructured.Unstructured) {
	at := []string{"spec", "conversion", "webhook", "clientConfig", "caBundle"}
	v, ok, err := unstructured.NestedString(o.Object, at...)
	if err == nil && !ok || err == nil && isCertificate(v) {
		return
	}
	unstructured.RemoveNestedField(o.Object, at...)
}

func isCertificate(encoded string) bool {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return false
	}
	_, err = x509.ParseCertificate(block.Bytes)
	return err == nil
}

// Label sets the owner labels, and over them what commonMetadata asks for (kustomization 62, 63). Entries of the object that are
// not text stay as they are, for the API server to refuse.
func Label(o *unstructured.Unstructured, own kube.Ownership, owner kube.Owner, labels, annotations map[string]string) error {
	if err := setEntries(o, "labels", map[string]string{own.NameLabel(): owner.Name, own.NamespaceLabel(): owner.Namespace}); err != nil {
		return err
	}
	if err := setEntries(o, "labels", labels); err != nil {
		return err
	}
	return setEntries(o, "annotations", annotations)
}

func setEntries(o *unstructured.Unstructured, field string, entries map[string]string) error {
	if len(entries) == 0 {
		return nil
	}
	metadata, ok := o.Object["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s has no metadata", IDOf(o).Subject())
	}
	m, ok := metadata[field].(map[string]any)
	if !ok {
		if metadata[field] != nil {
			return fmt.Errorf("%s: metadata.%s is not a map", IDOf(o).Subject(), field)
		}
		m = map[string]any{}
		metadata[field] = m
	}
	for k, v := range entries {
		m[k] = v
	}
	return nil
}
