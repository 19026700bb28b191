package kustomize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/render"
	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

// decryptLab is a directory that is built with decryption, without a cluster.
type decryptLab struct {
	t       *testing.T
	id      sopstest.Identity
	k       *Kustomizer
	objects []client.Object
	files   map[string]string
}

func newDecryptLab(t *testing.T) *decryptLab {
	t.Helper()
	l := &decryptLab{t: t, id: sopstest.NewIdentity(t), k: &Kustomizer{Namespace: "flux-system", Graph: depend.NewGraph()}, files: map[string]string{}}
	l.secret("apps", "keys", "id.agekey", l.id.Private)
	return l
}

func (l *decryptLab) secret(namespace, name string, pairs ...string) {
	data := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = []byte(pairs[i+1])
	}
	l.objects = append(l.objects, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data})
}

func (l *decryptLab) encrypt(format sops.Format, plain string) string {
	l.t.Helper()
	return string(sopstest.File{Format: format, Groups: l.id.Group(l.t)}.Encrypt(l.t, plain))
}

func (l *decryptLab) manifest(plain string) string {
	l.t.Helper()
	return string(sopstest.File{Format: sops.YAML, Groups: l.id.Group(l.t), Regex: "^(data|stringData)$"}.Encrypt(l.t, plain))
}

// decryption is that of a Kustomization in the namespace apps.
func (l *decryptLab) decryption(change ...func(*kustomizev1.Decryption)) *decryption {
	l.t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		l.t.Fatal(err)
	}
	l.k.Reader = fake.NewClientBuilder().WithScheme(scheme).WithObjects(l.objects...).Build()
	obj := named("app")
	obj.Spec.Decryption = &kustomizev1.Decryption{Provider: "sops", SecretRef: &meta.LocalObjectReference{Name: "keys"}}
	for _, f := range change {
		f(obj.Spec.Decryption)
	}
	return &decryption{k: l.k, obj: obj}
}

func noSecret(d *kustomizev1.Decryption) { d.SecretRef = nil }

// build builds the files, and returns the objects by "Kind/name".
func (l *decryptLab) build(d *decryption, variables map[string]string) (map[string]map[string]any, error) {
	l.t.Helper()
	dir := l.t.TempDir()
	for name, content := range l.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	options := render.Options{Decrypt: d}
	if variables != nil {
		options.Variables = &render.Substitution{Load: func(context.Context) (map[string]string, error) { return variables, nil }}
	}
	result, err := render.Build(l.t.Context(), os.DirFS(dir), render.Spec{Path: "deploy"}, options)
	if err = d.verdict(l.t.Context(), err); err != nil {
		return nil, err
	}
	out := map[string]map[string]any{}
	for _, o := range result.Objects {
		out[o.GetKind()+"/"+o.GetName()] = o.Object
	}
	return out, nil
}

func failsWith(t *testing.T, err error, want string, secrets ...string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
		return
	}
	for _, s := range secrets {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error shows %q: %v", s, err)
		}
	}
}

// kustomization 9, and fields this version does not have.
func TestCheckDecryption(t *testing.T) {
	for name, test := range map[string]struct {
		decryption *kustomizev1.Decryption
		gate       bool
		want       string
	}{
		"none":             {nil, false, ""},
		"a Secret":         {&kustomizev1.Decryption{Provider: "sops"}, false, ""},
		"an account":       {&kustomizev1.Decryption{Provider: "sops", ServiceAccountName: "deployer"}, true, ""},
		"without the gate": {&kustomizev1.Decryption{Provider: "sops", ServiceAccountName: "deployer"}, false, "the feature gate ObjectLevelWorkloadIdentity is off: switch it on, or remove the field"},
		"another provider": {&kustomizev1.Decryption{Provider: "vault"}, true, "spec.decryption.provider 'vault' is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &Kustomizer{Options: Options{Decryption: DecryptionOptions{ObjectLevel: test.gate}}}
			err := k.check(&work{obj: named("app", func(o *kustomizev1.Kustomization) { o.Spec.Decryption = test.decryption })})
			if test.want != "" {
				failsWith(t, err, test.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// kustomization 40, 41, 49: where the keys come from.
func TestDecryptionKeys(t *testing.T) {
	for name, test := range map[string]struct {
		change func(l *decryptLab)
		edit   func(*kustomizev1.Decryption)
		want   string
	}{
		"the Secret of the object": {func(*decryptLab) {}, func(*kustomizev1.Decryption) {}, ""},
		"a Secret that is missing": {func(l *decryptLab) { l.objects = nil }, func(*kustomizev1.Decryption) {}, `secrets "keys" not found`},
		"a Secret of another namespace": {
			func(l *decryptLab) { l.objects = nil; l.secret("other", "keys", "id.agekey", l.id.Private) },
			func(*kustomizev1.Decryption) {}, `secrets "keys" not found`,
		},
		"a Secret that cannot be read": {
			func(l *decryptLab) { l.objects = nil; l.secret("apps", "keys", "id.agekey", "hunter22") },
			func(*kustomizev1.Decryption) {}, "invalid secret 'apps/keys': key 'id.agekey': line 1 is not an age identity",
		},
		"no Secret at all": {func(*decryptLab) {}, noSecret, "no age identity"},
		"that of the controller": {func(l *decryptLab) {
			l.k.Decryption.AgeSecret = "fleet"
			l.secret("flux-system", "fleet", "id.agekey", l.id.Private, "k.asc", "not looked at")
		}, noSecret, ""},
		"that of the controller, missing": {func(l *decryptLab) { l.k.Decryption.AgeSecret = "fleet" }, noSecret, `secrets "fleet" not found`},
		"that of the controller, with a Secret of the object": {func(l *decryptLab) {
			l.objects = nil
			l.k.Decryption.AgeSecret = "fleet"
			l.secret("flux-system", "fleet", "id.agekey", l.id.Private)
			l.secret("apps", "keys", "id.agekey", sopstest.NewIdentity(l.t).Private)
		}, func(*kustomizev1.Decryption) {}, "identity did not match any of the recipients"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDecryptLab(t)
			l.files["deploy/s.yaml"] = l.manifest("apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\nstringData:\n    password: swordfish\n")
			test.change(l)
			built, err := l.build(l.decryption(test.edit), nil)
			if test.want != "" {
				failsWith(t, err, test.want, "hunter22", "swordfish", "AGE-SECRET-KEY-1")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "stringData", any(map[string]any{"password": "swordfish"}), built["Secret/creds"]["stringData"])
		})
	}
}

// kustomization 49: the Secret must be there also where nothing is encrypted, and a missing path is told first (25).
func TestMissingKeysAreTold(t *testing.T) {
	l := newDecryptLab(t)
	l.objects = nil
	l.files["deploy/kustomization.yaml"] = "resources: []\n"
	_, err := l.build(l.decryption(), nil)
	failsWith(t, err, `secrets "keys" not found`)
	l.files = map[string]string{"elsewhere/a.yaml": configMap("a", "one")}
	_, err = l.build(l.decryption(), nil)
	if !errors.Is(err, render.ErrPathNotFound) {
		t.Errorf("error %v, want that of the path", err)
	}
}

// kustomization 45, 47, 48, 51; reliability 059: files before the build, objects after it, then the variables; and nothing of it on
// the disk.
func TestDecryptBuild(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("HOME", temp)
	l := newDecryptLab(t)
	l.files = map[string]string{
		"deploy/kustomization.yaml": "resources: [../base, s.yaml, skipped.yaml]\ngeneratorOptions: {disableNameSuffixHash: true}\nsecretGenerator:\n" +
			"- name: files\n  files: [app.yaml, .dockerconfigjson=docker, blob, plain.txt]\n  envs: [db]\n- name: binary\n  files: [key=sealed.yaml]\n",
		"deploy/app.yaml":  l.encrypt(sops.YAML, "user: admin\n"),
		"deploy/docker":    l.encrypt(sops.JSON, `{"auths":{}}`),
		"deploy/blob":      l.encrypt(sops.Binary, "any thing"),
		"deploy/plain.txt": "plain",
		"deploy/db":        l.encrypt(sops.Dotenv, "PASSWORD=swordfish\n"),
		// The extension of the key does not tell: the value has the format of the file.
		"deploy/sealed.yaml":      l.encrypt(sops.YAML, "sealed: true\n"),
		"deploy/s.yaml":           l.manifest("apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\nstringData:\n    password: ${word}\n"),
		"deploy/skipped.yaml":     l.manifest("apiVersion: v1\nkind: ConfigMap\nmetadata:\n    name: skipped\n    annotations:\n        kustomize.toolkit.fluxcd.io/decrypt: Disabled\ndata:\n    a: one\n"),
		"base/kustomization.yaml": "resources: [cm.yaml]\npatches: [{path: patch.yaml}]\n",
		"base/cm.yaml":            configMap("cm", "one"),
		"base/patch.yaml":         l.encrypt(sops.YAML, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n    name: cm\ndata:\n    key: patched\n"),
	}
	built, err := l.build(l.decryption(), map[string]string{"word": "substituted"})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "stringData", any(map[string]any{"password": "substituted"}), built["Secret/creds"]["stringData"])
	expect(t, "a patched ConfigMap", any(map[string]any{"key": "patched"}), built["ConfigMap/cm"]["data"])
	data := func(name string) map[string]string {
		var s corev1.Secret
		text, err := yaml.Marshal(built["Secret/"+name])
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for key, value := range s.Data {
			out[key] = string(value)
		}
		return out
	}
	expect(t, "generated", map[string]string{
		"app.yaml": "user: admin\n", ".dockerconfigjson": "{\n\t\"auths\": {}\n}\n", "blob": "any thing", "plain.txt": "plain", "PASSWORD": "swordfish",
	}, data("files"))
	expect(t, "generated from a sealed file", map[string]string{"key": "sealed: true\n"}, data("binary"))
	if skipped := built["ConfigMap/skipped"]; skipped["sops"] == nil {
		t.Errorf("an object that opted out was decrypted: %v", skipped)
	}
	err = filepath.WalkDir(temp, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			t.Errorf("%s was left on the disk", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// kustomization 45, 46: what is refused before the build.
func TestDecryptRefusals(t *testing.T) {
	generator := "secretGenerator:\n- name: files\n  files: [blob]\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a large file": {
			map[string]string{"deploy/kustomization.yaml": generator, "deploy/blob": strings.Repeat("x", 5<<20+1)},
			"cannot decrypt 'deploy/blob': it has 5242881 bytes, the limit is 5242880",
		},
		"two kustomization files": {
			map[string]string{"deploy/kustomization.yaml": "resources: [../base]\n", "base/kustomization.yaml": "", "base/Kustomization": ""},
			"Found multiple kustomization files",
		},
		"a file for others": {
			map[string]string{
				"deploy/kustomization.yaml": generator,
				"deploy/blob":               string(sopstest.File{Groups: sopstest.NewIdentity(t).Group(t)}.Encrypt(t, "swordfish")),
			},
			"failed to decrypt 'deploy/blob': cannot get sops data key",
		},
		"a patch with aliases": {
			map[string]string{"deploy/kustomization.yaml": "patches: [{path: p.yaml}]\n", "deploy/p.yaml": bomb},
			"aliases expand to more than",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDecryptLab(t)
			l.files = test.files
			l.k.Decryption.FileBytes = sops.DefaultLimits().FileBytes
			_, err := l.build(l.decryption(), nil)
			failsWith(t, err, test.want, "swordfish")
		})
	}
}

// bomb looks encrypted, and grows to 10^9 nodes.
var bomb = func() string {
	text := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 9; i++ {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return text + "sops:\n    mac: ENC[x]\n"
}()

// reliability 056: kustomize and the substitution quote what they cannot use.
func TestBuildErrorsShowNoPlainText(t *testing.T) {
	for name, prepare := range map[string]func(l *decryptLab){
		"a patch that is none": func(l *decryptLab) {
			l.files["deploy/kustomization.yaml"] = "resources: [cm.yaml]\npatches: [{path: p.yaml}]\n"
			l.files["deploy/cm.yaml"] = configMap("cm", "one")
			l.files["deploy/p.yaml"] = l.encrypt(sops.YAML, "kind: swordfish\n")
		},
		"a patch without a target": func(l *decryptLab) {
			l.files["deploy/kustomization.yaml"] = "resources: [cm.yaml]\npatches: [{path: p.yaml}]\n"
			l.files["deploy/cm.yaml"] = configMap("cm", "one")
			l.files["deploy/p.yaml"] = l.encrypt(sops.YAML, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n    name: swordfish\ndata:\n    a: swordfish\n")
		},
		"a variable inside of a value": func(l *decryptLab) {
			l.files["deploy/s.yaml"] = l.manifest("apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\nstringData:\n    password: \"swordfish ${nowhere\"\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDecryptLab(t)
			prepare(l)
			_, err := l.build(l.decryption(), map[string]string{"a": "b"})
			failsWith(t, err, "", "swordfish")
		})
	}
}

// kustomization 48, 50: an object that still holds ciphertext is not applied, of whatever kind and wherever it stands.
func TestRefuseEncrypted(t *testing.T) {
	l := newDecryptLab(t)
	const value = "ENC[AES256_GCM,data:9nH5,iv:VLcst2GfhiI=,tag:LmDgwI9JLpA=,type:str]"
	head := func(kind, more string) string {
		return "apiVersion: v1\nkind: " + kind + "\nmetadata:\n    name: creds\n    namespace: apps\n" + more
	}
	off := "    annotations:\n        kustomize.toolkit.fluxcd.io/decrypt: disabled\n"
	for name, test := range map[string]struct{ text, want string }{
		"plain":                     {head("Secret", "stringData:\n    a: b\n"), ""},
		"Secret with data":          {l.manifest(head("Secret", "data:\n    a: Yg==\n")), "Secret/apps/creds is SOPS encrypted, configuring decryption is required for this secret to be reconciled"},
		"Secret with stringData":    {l.manifest(head("Secret", "stringData:\n    a: b\n")), "Secret/apps/creds is SOPS encrypted, configuring decryption is required for this secret to be reconciled"},
		"value without metadata":    {head("Secret", "stringData:\n    a: "+value+"\n"), "Secret/apps/creds is SOPS encrypted in 'stringData.a': configure decryption"},
		"ConfigMap":                 {l.manifest(head("ConfigMap", "data:\n    a: b\n")), "ConfigMap/apps/creds is SOPS encrypted in 'sops'"},
		"ConfigMap without the mac": {head("ConfigMap", "data:\n    a: "+value+"\n"), "ConfigMap/apps/creds is SOPS encrypted in 'data.a'"},
		"opted out":                 {l.manifest(head("Secret", off+"data:\n    a: Yg==\n")), ""},
		"opted out, any kind":       {head("ConfigMap", off+"data:\n    a: "+value+"\n"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			obj := map[string]any{}
			if err := yaml.Unmarshal([]byte(test.text), &obj); err != nil {
				t.Fatal(err)
			}
			err := refuseEncrypted([]*unstructured.Unstructured{{Object: obj}})
			if test.want != "" {
				failsWith(t, err, test.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// kustomization 5: the Secret with the keys wakes who decrypts with it.
func TestDecryptionSecretEvents(t *testing.T) {
	k := &Kustomizer{Graph: depend.NewGraph()}
	obj := named("app", func(o *kustomizev1.Kustomization) {
		o.Spec.Decryption = &kustomizev1.Decryption{Provider: "sops", SecretRef: &meta.LocalObjectReference{Name: "keys"}}
	})
	k.Graph.Set(keyOf(obj), edges(obj))
	for key, want := range map[[2]string][]string{{"apps", "keys"}: {"app"}, {"apps", "other"}: nil, {"other", "keys"}: nil} {
		changed := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: key[0], Name: key[1], ResourceVersion: "2"}}
		expect(t, strings.Join(key[:], "/"), want, names(k.onConfig("Secret")(nil, changed)))
	}
}
