package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// helmStorageType is the type of the Secrets that Helm keeps its releases in.
const helmStorageType = "helm.sh/release.v1"

// maxRelease bounds a decoded release. A Secret holds 1 MiB at most, which compression may make many times that.
const maxRelease = 64 << 20

func secrets() schema.GroupVersionKind { return corev1.SchemeGroupVersion.WithKind("Secret") }

func isHelmStorage(o *unstructured.Unstructured) bool {
	return o.GetKind() == "Secret" && o.Object["type"] == helmStorageType
}

// decodeRelease reads the release of a Helm storage Secret: JSON, gzipped, in base64, and that in the base64 of any Secret.
func decodeRelease(secret *unstructured.Unstructured) (map[string]any, error) {
	release, err := unpackRelease(secret)
	if err != nil {
		return nil, fmt.Errorf("decoding the release of Secret %s: %w", secret.GetName(), err)
	}
	return release, nil
}

func unpackRelease(secret *unstructured.Unstructured) (map[string]any, error) {
	outer, found, err := unstructured.NestedString(secret.Object, "data", "release")
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errors.New("it has no key \"release\"")
	}
	inner, err := base64.StdEncoding.DecodeString(outer)
	if err != nil {
		return nil, err
	}
	packed, err := base64.StdEncoding.DecodeString(string(inner))
	if err != nil {
		return nil, err
	}
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(zr, maxRelease))
	if err != nil {
		return nil, err
	}
	var release map[string]any
	return release, json.Unmarshal(plain, &release)
}

// encodeRelease puts the release into a Helm storage Secret, with the labels that Helm finds it by.
func encodeRelease(secret *unstructured.Unstructured, release map[string]any) error {
	plain, err := json.Marshal(release)
	if err != nil {
		return fmt.Errorf("encoding a release: %w", err)
	}
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if _, err := zw.Write(plain); err != nil {
		return fmt.Errorf("encoding a release: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("encoding a release: %w", err)
	}
	inner := base64.StdEncoding.EncodeToString(packed.Bytes())
	labels := secret.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	status, _, _ := unstructured.NestedString(release, "info", "status")
	labels["owner"], labels["status"] = "helm", status
	labels["name"], labels["version"] = fmt.Sprint(release["name"]), fmt.Sprint(release["version"])
	secret.SetLabels(labels)
	secret.Object["type"] = helmStorageType
	return unstructured.SetNestedField(secret.Object, base64.StdEncoding.EncodeToString([]byte(inner)), "data", "release")
}

// showRelease renders a release as the recorder did: of the chart and the hooks what identifies them, and the names of the
// keys that were stored.
func showRelease(release map[string]any) map[string]any {
	shown := map[string]any{"keys": sortedKeys(release), "hooks": shownHooks(release["hooks"])}
	for key, value := range release {
		switch key {
		case "hooks":
		case "chart":
			shown[key] = shownChart(value)
		default:
			shown[key] = value
		}
	}
	return shown
}

func shownChart(chart any) map[string]any {
	fields, _ := chart.(map[string]any)
	metadata, _ := fields["metadata"].(map[string]any)
	shown := map[string]any{}
	for _, key := range []string{"name", "version", "appVersion"} {
		if value, ok := metadata[key]; ok {
			shown[key] = value
		}
	}
	return shown
}

func shownHooks(hooks any) []any {
	shown := []any{}
	for _, hook := range asList(hooks) {
		one := map[string]any{}
		for key, value := range hook {
			if key != "manifest" {
				one[key] = value
			}
		}
		shown = append(shown, one)
	}
	return shown
}

// editHelmRelease changes fields of the release in a storage Secret.
func (p *player) editHelmRelease(ctx context.Context, s *Step) error {
	client, name, err := p.lab.target("Secret/"+s.EditHelmRelease, p.r.Namespace)
	if err != nil {
		return err
	}
	secret, err := client.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the release: %w", err)
	}
	release, err := decodeRelease(secret)
	if err != nil {
		return err
	}
	if err := p.setFields(release, s.With); err != nil {
		return err
	}
	if err := encodeRelease(secret, release); err != nil {
		return err
	}
	_, err = client.Update(ctx, secret, metav1.UpdateOptions{FieldManager: managerOr(s.FieldManager)})
	return err
}

// createHelmRelease stores one more release, a copy of another one with some fields changed. Its name and number are those
// of the Secret, sh.helm.release.v1.<name>.v<number>.
func (p *player) createHelmRelease(ctx context.Context, s *Step) error {
	from, fromName, err := p.lab.target("Secret/"+s.From, p.r.Namespace)
	if err != nil {
		return err
	}
	model, err := from.Get(ctx, fromName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the release: %w", err)
	}
	release, err := decodeRelease(model)
	if err != nil {
		return err
	}
	client, name, err := p.lab.target("Secret/"+s.CreateHelmRelease, p.r.Namespace)
	if err != nil {
		return err
	}
	if release["name"], release["version"], err = storageKey(name); err != nil {
		return err
	}
	if err := p.setFields(release, s.With); err != nil {
		return err
	}
	secret := &unstructured.Unstructured{}
	secret.SetGroupVersionKind(secrets())
	secret.SetName(name)
	if err := encodeRelease(secret, release); err != nil {
		return err
	}
	_, err = client.Create(ctx, secret, metav1.CreateOptions{FieldManager: managerOr(s.FieldManager)})
	return err
}

// storageKey reads release and number from the name of a storage Secret.
func storageKey(secret string) (release string, version int, err error) {
	rest, ok := strings.CutPrefix(secret, "sh.helm.release.v1.")
	at := strings.LastIndex(rest, ".v")
	if !ok || at < 1 {
		return "", 0, fmt.Errorf("%q is no name of a Helm storage Secret: want sh.helm.release.v1.<release>.v<number>", secret)
	}
	version, err = strconv.Atoi(rest[at+len(".v"):])
	if err != nil {
		return "", 0, fmt.Errorf("reading the number in the name of the Helm storage Secret %q: %w", secret, err)
	}
	return rest[:at], version, nil
}

// setFields sets the fields that dotted paths name; null removes one.
func (p *player) setFields(object, with map[string]any) error {
	for _, path := range sortedKeys(with) {
		value, keys := with[path], strings.Split(path, ".")
		if value == nil {
			unstructured.RemoveNestedField(object, keys...)
			continue
		}
		if text, ok := value.(string); ok {
			value = p.vars.Expand(text)
		}
		if err := unstructured.SetNestedField(object, value, keys...); err != nil {
			return fmt.Errorf("setting %s of the release: %w", path, err)
		}
	}
	return nil
}
