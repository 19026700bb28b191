package sops_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	obj := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: obj}
}

func encode(content []byte) string { return base64.StdEncoding.EncodeToString(content) }

// kustomization 47: objects of any kind, and values of Secrets.
func TestObject(t *testing.T) {
	id := sopstest.NewIdentity(t)
	manifest := func(text string) string {
		return string(sopstest.File{Format: sops.YAML, Groups: id.Group(t), Regex: "^(data|stringData|spec)$"}.Encrypt(t, text))
	}
	secret := func(key string, format sops.Format, plain string) string {
		content := sopstest.File{Format: format, Groups: id.Group(t)}.Encrypt(t, plain)
		return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata:\n  name: creds\ndata:\n  %s: %s\n  plain: %s\n", key, encode(content), encode([]byte("plain")))
	}
	value := func(key, plain string) map[string]any {
		return map[string]any{key: encode([]byte(plain)), "plain": encode([]byte("plain"))}
	}
	for name, test := range map[string]struct {
		text  string
		field string
		want  any
	}{
		"Secret": {
			manifest("apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\ndata:\n    password: c3dvcmRmaXNo\n"),
			"data", map[string]any{"password": "c3dvcmRmaXNo"},
		},
		"Secret with stringData": {
			manifest("apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\nstringData:\n    password: swordfish\n    port: 5432\n"),
			"stringData", map[string]any{"password": "swordfish", "port": int64(5432)},
		},
		"ConfigMap": {
			manifest("apiVersion: v1\nkind: ConfigMap\nmetadata:\n    name: creds\ndata:\n    key: one\n"),
			"data", map[string]any{"key": "one"},
		},
		"custom resource": {
			manifest("apiVersion: example.com/v1\nkind: Database\nmetadata:\n    name: db\nspec:\n    users:\n        - name: a\n          on: true\n"),
			"spec", map[string]any{"users": []any{map[string]any{"name": "a", "on": true}}},
		},
		"value, YAML":               {secret("app.yaml", sops.YAML, "a: b\n"), "data", value("app.yaml", "a: b\n")},
		"value, dotenv":             {secret("app.env", sops.Dotenv, "a=b\n"), "data", value("app.env", "a=b\n")},
		"value, INI":                {secret("app.ini", sops.INI, "[a]\nb = c\n"), "data", value("app.ini", "[a]\nb = c\n")},
		"value, JSON":               {secret("app.json", sops.JSON, `{"a":"b"}`), "data", value("app.json", "{\n\t\"a\": \"b\"\n}\n")},
		"value, docker":             {secret(".dockerconfigjson", sops.JSON, `{"auths":{}}`), "data", value(".dockerconfigjson", "{\n\t\"auths\": {}\n}\n")},
		"value, binary":             {secret("blob", sops.Binary, "any\x00thing"), "data", value("blob", "any\x00thing")},
		"value, YAML for JSON":      {secret("app.json", sops.YAML, "a: b\n"), "data", value("app.json", "{\n\t\"a\": \"b\"\n}\n")},
		"value, without extension":  {secret("config", sops.YAML, "a: b\n"), "data", value("config", "a: b\n")},
		"value, JSON, no extension": {secret("config", sops.JSON, `{"a":"b"}`), "data", value("config", "{\n\t\"a\": \"b\"\n}\n")},
	} {
		t.Run(name, func(t *testing.T) {
			obj := object(t, test.text)
			changed, err := decrypter(t, id).Object(t.Context(), obj)
			if err != nil || !changed {
				t.Fatalf("changed %t, error %v", changed, err)
			}
			if diff := cmp.Diff(test.want, obj.Object[test.field]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, left := obj.Object["sops"]; left {
				t.Error("the field sops is left")
			}
			if path := sops.Ciphertext(obj); path != "" {
				t.Errorf("ciphertext is left in %s", path)
			}
		})
	}
	plain := object(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: YQ==, b: '%%%'}\n")
	want := plain.DeepCopy()
	changed, err := decrypter(t, id).Object(t.Context(), plain)
	if diff := cmp.Diff(want, plain); changed || err != nil || diff != "" {
		t.Errorf("plain: changed %t, error %v (-want +got):\n%s", changed, err, diff)
	}
}

// The texts are those of 2.9, and an object is as it was after an error.
func TestObjectErrors(t *testing.T) {
	id, other := sopstest.NewIdentity(t), sopstest.NewIdentity(t)
	whole := object(t, string(sopstest.File{Format: sops.YAML, Groups: id.Group(t), Regex: "^data$"}.Encrypt(t,
		"apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\n    namespace: apps\ndata:\n    a: c3dvcmRmaXNo\n")))
	inside := object(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: creds, namespace: apps}\ndata: {app.env: %s}\n",
		encode(sopstest.File{Format: sops.Dotenv, Groups: id.Group(t)}.Encrypt(t, "a=swordfish\n"))))
	for want, obj := range map[string]*unstructured.Unstructured{
		"failed to decrypt and format 'apps/creds' Secret data: cannot get sops data key: ":            whole,
		"failed to decrypt and format 'apps/creds' Secret field 'app.env': cannot get sops data key: ": inside,
	} {
		before := obj.DeepCopy()
		_, err := decrypter(t, other).Object(t.Context(), obj)
		failsWith(t, err, want, "swordfish", "c3dvcmRmaXNo")
		if diff := cmp.Diff(before, obj); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// kustomization 50: where an object still holds ciphertext.
func TestCiphertext(t *testing.T) {
	const value = "ENC[AES256_GCM,data:9nH5,iv:VLcst2GfhiI=,tag:LmDgwI9JLpA=,type:str]"
	id := sopstest.NewIdentity(t)
	env := sopstest.File{Format: sops.Dotenv, Groups: id.Group(t)}.Encrypt(t, "a=b\n")
	head := func(kind string) string { return "apiVersion: v1\nkind: " + kind + "\nmetadata: {name: a}\n" }
	for text, want := range map[string]string{
		head("ConfigMap") + "data: {key: one}":                                         "",
		head("ConfigMap") + "data: {key: 'values look like " + value + "'}":            "",
		head("ConfigMap") + "data: {file.env: " + fmt.Sprintf("%q", env) + "}":         "",
		head("ConfigMap") + "data: {key: '" + value + "'}":                             "data.key",
		head("ConfigMap") + "sops: {mac: x}":                                           "sops",
		head("ConfigMap") + "sops: {note: mine}":                                       "",
		head("Deployment") + "spec: {env: [{value: a}, {value: '" + value + "'}]}":     "spec.env[1].value",
		head("Secret") + "data: {a: '" + value + "'}":                                  "data.a",
		head("Secret") + "data: {a: " + encode([]byte(value)) + "}":                    "data.a",
		head("Secret") + "data: {a.env: " + encode(env) + "}":                          "data.a.env",
		head("Secret") + "data: {a: " + encode([]byte("b")) + ", c: '%'}":              "",
		head("Secret") + "stringData: {a: '" + value + "'}":                            "stringData.a",
		head("Secret") + "stringData: {a.env: " + fmt.Sprintf("%q", env) + "}":         "stringData.a.env",
		strings.Replace(head("Secret"), "v1", "example.com/v1", 1) + "data: {a: YQ==}": "",
	} {
		if got := sops.Ciphertext(object(t, text)); got != want {
			t.Errorf("found in %q, want %q:\n%s", got, want, text)
		}
	}
}
