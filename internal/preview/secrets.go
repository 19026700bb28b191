package preview

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// sopsMask stands for values that SOPS has encrypted, hidden for other values that must not be shown.
	sopsMask = "**SOPS**"
	// sopsValue begins each value that SOPS has encrypted.
	sopsValue = "ENC[AES256_GCM,"
	hidden    = "***"
	// minSecret and minSecretLine spare texts as short as words of YAML: whole values, and lines of values, in bytes.
	minSecret     = 4
	minSecretLine = 16
)

func isSecret(o *unstructured.Unstructured) bool {
	return o.GetKind() == "Secret" && o.GroupVersionKind().Group == ""
}

// mask replaces what SOPS has encrypted in a Secret and reports whether there was something (cli 41). The API server takes the
// result for a Secret of the same type.
func mask(o *unstructured.Unstructured) bool {
	if !isSecret(o) {
		return false
	}
	_, whole := o.Object["sops"]
	delete(o.Object, "sops")
	found := whole
	data, _ := o.Object["data"].(map[string]any)
	for k, v := range data {
		if text, _ := v.(string); whole || isEncryptedFile(text) {
			found = true
			data[k] = base64.StdEncoding.EncodeToString([]byte(maskOf(k)))
		}
	}
	plain, _ := o.Object["stringData"].(map[string]any)
	for k := range plain {
		if whole {
			plain[k] = maskOf(k)
		}
	}
	return found
}

// maskOf is the mask of a key: the API server wants JSON of some.
func maskOf(key string) string {
	if key == corev1.DockerConfigJsonKey || key == corev1.DockerConfigKey {
		return `{"mask":"` + sopsMask + `"}`
	}
	return sopsMask
}

// isEncryptedFile recognises a file that SOPS has encrypted, as a secretGenerator puts it into a Secret (kustomization 45).
func isEncryptedFile(encoded string) bool {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	return err == nil && bytes.Contains(raw, []byte("sops")) && bytes.Contains(raw, []byte(sopsValue))
}

// secrets are the values that must not be shown, wherever they turn up.
type secrets struct {
	values map[string]bool
	sorted []string
}

func newSecrets() *secrets { return &secrets{values: map[string]bool{}} }

// learn takes the values of a Secret, and those its last applied configuration holds.
func (s *secrets) learn(o *unstructured.Unstructured) {
	if o == nil || !isSecret(o) {
		return
	}
	data, _ := o.Object["data"].(map[string]any)
	for _, v := range data {
		text, _ := v.(string)
		s.add(text)
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
			s.add(string(raw))
		}
	}
	plain, _ := o.Object["stringData"].(map[string]any)
	for _, v := range plain {
		text, _ := v.(string)
		s.add(text)
	}
	var last map[string]any
	if json.Unmarshal([]byte(o.GetAnnotations()[corev1.LastAppliedConfigAnnotation]), &last) == nil && last != nil {
		earlier := &unstructured.Unstructured{Object: last}
		unstructured.RemoveNestedField(earlier.Object, "metadata", "annotations")
		s.learn(earlier)
	}
}

func (s *secrets) add(value string) {
	// Line feeds do not survive in variables, and a comparison shows lines.
	parts := []string{value, strings.ReplaceAll(value, "\n", "")}
	for line := range strings.SplitSeq(value, "\n") {
		if len(line) >= minSecretLine {
			parts = append(parts, line)
		}
	}
	for _, v := range parts {
		v = strings.TrimSpace(v)
		if len(v) < minSecret || slices.Contains([]string{"true", "false", "null"}, v) || strings.Contains(v, sopsMask) || s.values[v] {
			continue
		}
		s.values[v] = true
		s.sorted = nil
	}
}

// redact cuts the values out of a text, the longest first, since one may hold another.
func (s *secrets) redact(text string) string {
	if s.sorted == nil {
		for v := range s.values {
			s.sorted = append(s.sorted, v)
		}
		slices.SortFunc(s.sorted, func(a, b string) int { return len(b) - len(a) })
	}
	for _, v := range s.sorted {
		text = strings.ReplaceAll(text, v, hidden)
	}
	return text
}

// attentive reads, and notes the values of the Secrets it has read.
type attentive struct {
	client.Reader
	noted *secrets
}

// Get implements client.Reader.
func (a attentive) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := a.Reader.Get(ctx, key, obj, opts...)
	if secret, ok := obj.(*corev1.Secret); ok && err == nil {
		for _, v := range secret.Data {
			a.noted.add(string(v))
		}
	}
	return err
}
