package sops

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// Object decrypts an object in place and reports whether it changed it (kustomization 47): the whole of it when it has
// the field sops, and of a Secret also the values that are encrypted files. After an error the object is as it was.
func (d *Decrypter) Object(ctx context.Context, obj *unstructured.Unstructured) (bool, error) {
	changed := false
	if _, encrypted, _ := unstructured.NestedString(obj.Object, "sops", "mac"); encrypted {
		if err := d.whole(ctx, obj); err != nil {
			return false, fmt.Errorf("failed to decrypt and format '%s/%s' %s data: %w", obj.GetNamespace(), obj.GetName(), obj.GetKind(), err)
		}
		changed = true
	}
	if !isSecret(obj) {
		return changed, nil
	}
	inside, err := d.values(ctx, obj)
	return changed || inside, err
}

func isSecret(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == "Secret" && obj.GroupVersionKind().Group == ""
}

func (d *Decrypter) whole(ctx context.Context, obj *unstructured.Unstructured) error {
	content, err := obj.MarshalJSON()
	if err != nil {
		return err
	}
	plain, err := d.Decrypt(ctx, content, JSON, JSON)
	if err != nil {
		return err
	}
	out := map[string]any{}
	if json.Unmarshal(plain, &out) != nil {
		return errors.New("the decrypted object is not JSON")
	}
	obj.Object = out
	return nil
}

// values decrypts the encrypted files among the values of a Secret. The extension of the key tells the format that is
// wanted.
func (d *Decrypter) values(ctx context.Context, obj *unstructured.Unstructured) (bool, error) {
	data, _ := obj.Object["data"].(map[string]any)
	plain := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		text, _ := data[key].(string)
		content, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue // the API server words it
		}
		opened, changed, err := d.File(ctx, content, FormatOf(key))
		if err != nil {
			return false, fmt.Errorf("failed to decrypt and format '%s/%s' Secret field '%s': %w", obj.GetNamespace(), obj.GetName(), key, err)
		}
		if changed {
			plain[key] = base64.StdEncoding.EncodeToString(opened)
		}
	}
	maps.Copy(data, plain)
	return len(plain) > 0, nil
}

// File decrypts content if SOPS has encrypted it, and reports whether it did. It is written in the format that is wanted;
// a name without a known extension wants a file that was encrypted as binary, and else the format that it has.
func (d *Decrypter) File(ctx context.Context, content []byte, wanted Format) ([]byte, bool, error) {
	in, encrypted := Detect(content)
	if !encrypted {
		return content, false, nil
	}
	if in == JSON && wanted == Binary && isBinary(content) {
		in = Binary
	}
	if wanted == Binary && in != Binary {
		wanted = in
	}
	plain, err := d.Decrypt(ctx, content, in, wanted)
	return plain, true, err
}

// isBinary tells the envelope of a file that was encrypted as binary: one value, and nothing else.
func isBinary(content []byte) bool {
	var envelope map[string]any
	if json.Unmarshal(content, &envelope) != nil {
		return false
	}
	_, data := envelope["data"].(string)
	return data && len(envelope) == 2
}

// value is one encrypted value as a whole.
var value = regexp.MustCompile(`^ENC\[AES256_GCM,data:[^,]*,iv:[^,]+,tag:[^,]+,type:[a-z]+\]$`)

// Ciphertext tells where an object still holds what SOPS has encrypted: the path of a field, or empty if nowhere. Single
// values are looked for anywhere; whole encrypted files only in Secrets, as elsewhere they may be what somebody else
// decrypts.
func Ciphertext(obj *unstructured.Unstructured) string {
	if meta, ok := obj.Object["sops"].(map[string]any); ok && meta["mac"] != nil {
		return "sops"
	}
	for _, name := range slices.Sorted(maps.Keys(obj.Object)) {
		encrypted := value.MatchString
		switch {
		case isSecret(obj) && name == "data":
			encrypted = encodedCiphertext
		case isSecret(obj):
			encrypted = plainCiphertext
		}
		if path := search(obj.Object[name], name, encrypted); path != "" {
			return path
		}
	}
	return ""
}

// search returns the path of the first text that the function tells.
func search(v any, path string, encrypted func(string) bool) string {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if found := search(v[name], path+"."+name, encrypted); found != "" {
				return found
			}
		}
	case []any:
		for i, item := range v {
			if found := search(item, fmt.Sprintf("%s[%d]", path, i), encrypted); found != "" {
				return found
			}
		}
	case string:
		if encrypted(v) {
			return path
		}
	}
	return ""
}

func plainCiphertext(text string) bool {
	_, file := Detect([]byte(text))
	return file || value.MatchString(text)
}

// encodedCiphertext looks at the text too: who encrypts the field data encrypts what is base64 already.
func encodedCiphertext(text string) bool {
	if value.MatchString(text) {
		return true
	}
	content, err := base64.StdEncoding.DecodeString(text)
	return err == nil && plainCiphertext(string(content))
}
