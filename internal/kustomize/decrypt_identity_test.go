package kustomize

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/kms"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

func as(account string) func(*kustomizev1.Decryption) {
	return func(d *kustomizev1.Decryption) { d.SecretRef, d.ServiceAccountName = nil, account }
}

// sealedFor is a tree with a Secret that is encrypted for a key of a service.
func (l *decryptLab) sealedFor(key keys.MasterKey) {
	l.files["deploy/s.yaml"] = string(sopstest.File{Format: sops.YAML, Groups: sopstest.Group(key), Regex: "^stringData$"}.Encrypt(l.t,
		"apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\nstringData:\n    password: swordfish\n"))
}

// kustomization 42: the account of the object, the default one for decryption, the controller; never the default account for other
// purposes.
func TestDecryptionIdentity(t *testing.T) {
	now := time.Now()
	arn := "arn:aws:kms:eu-west-1:123456789012:alias/sops"
	resource := "projects/p/locations/global/keyRings/r/cryptoKeys/k"
	for name, test := range map[string]struct {
		key     keys.MasterKey
		edit    func(*kustomizev1.Decryption)
		options DecryptionOptions
		want    string
		err     string
	}{
		"AWS, account":              {&kms.MasterKey{Arn: arn, CreationDate: now}, as("deployer"), DecryptionOptions{ObjectLevel: true, DefaultServiceAccount: "other"}, "apps/deployer keys eu-west-1", ""},
		"AWS, default":              {&kms.MasterKey{Arn: arn, CreationDate: now}, as(""), DecryptionOptions{ObjectLevel: true, DefaultServiceAccount: "deployer"}, "apps/deployer keys eu-west-1", ""},
		"AWS, controller":           {&kms.MasterKey{Arn: arn, CreationDate: now}, as(""), DecryptionOptions{ObjectLevel: true}, "process keys eu-west-1", ""},
		"AWS, default, no gate":     {&kms.MasterKey{Arn: arn, CreationDate: now}, as(""), DecryptionOptions{DefaultServiceAccount: "deployer"}, "process keys eu-west-1", ""},
		"GCP, account":              {&gcpkms.MasterKey{ResourceID: resource, CreationDate: now}, as("deployer"), DecryptionOptions{ObjectLevel: true}, "apps/deployer token https://www.googleapis.com/auth/cloudkms", ""},
		"GCP, account that is gone": {&gcpkms.MasterKey{ResourceID: resource, CreationDate: now}, as("gone"), DecryptionOptions{ObjectLevel: true}, "", "the service account 'apps/gone' does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDecryptLab(t)
			services := sopstest.NewPlainServices(t)
			accounts := authtest.NewAccounts(t)
			accounts.Put("apps", "deployer", "1", nil)
			clouds := []*authtest.Cloud{{Provider: auth.AWS}, {Provider: auth.GCP}}
			var err error
			l.k.Auth, err = auth.New(auth.Options{
				Clouds: []auth.Cloud{clouds[0], clouds[1]}, ServiceAccounts: accounts.Client, ObjectLevel: true, DefaultServiceAccount: "impersonated",
			})
			if err != nil {
				t.Fatal(err)
			}
			l.k.Decryption = test.options
			l.k.Decryption.Endpoints = services.Endpoints()
			l.sealedFor(test.key)
			built, err := l.build(l.decryption(test.edit), nil)
			if test.err != "" {
				failsWith(t, errors.New(strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "|", "")), " ")), test.err, "swordfish")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "stringData", any(map[string]any{"password": "swordfish"}), built["Secret/creds"]["stringData"])
			expect(t, "asked for", []string{test.want}, append(clouds[0].Calls(), clouds[1].Calls()...))
		})
	}
}

// issuer issues tokens that say what they are.
type issuer struct{ issued []string }

func (i *issuer) Self(context.Context) (client.ObjectKey, error) {
	return client.ObjectKey{Namespace: "flux-system", Name: "kustomize-controller"}, nil
}

func (i *issuer) Token(_ context.Context, account client.ObjectKey, audience string) (string, error) {
	i.issued = append(i.issued, account.String()+" "+audience)
	return "jwt-of-" + account.Name, nil
}

// kustomization 43; reliability 058: a ServiceAccount logs in to the Vaults that the operator lists, and to no other.
func TestVaultLogin(t *testing.T) {
	for name, test := range map[string]struct {
		account string
		config  func(url string) string
		issued  string
		request string
		err     string
	}{
		"the account of the object": {
			"deployer", func(url string) string {
				return "instances:\n- {address: 'https://other', loginPath: auth/other/login}\n- {address: '" + url + "/', loginPath: auth/cluster-1/login}\n"
			},
			"apps/deployer URL/", "POST /v1/auth/cluster-1/login  apps_deployer jwt-of-deployer", "",
		},
		"the controller": {
			"", func(url string) string { return "instances: [{address: '" + url + "', loginPath: auth/k/login}]" },
			"flux-system/kustomize-controller URL", "flux-system_kustomize-controller jwt-of-kustomize-controller", "",
		},
		"an address that is not listed": {"deployer", func(string) string { return "instances: [{address: 'https://other', loginPath: a}]" }, "", "", "gets no token"},
		"an empty list":                 {"deployer", func(string) string { return "" }, "", "", "gets no token"},
		"no path":                       {"deployer", func(url string) string { return "instances: [{address: '" + url + "'}]" }, "", "", "instances[0].loginPath is missing"},
		"a path that leads out":         {"deployer", func(url string) string { return "instances: [{address: '" + url + "', loginPath: ../sys/seal}]" }, "apps/deployer URL", "", "is not a path of Vault"},
		"a list that cannot be read":    {"deployer", func(string) string { return "instances: {}" }, "", "", "the ConfigMap 'flux-system/vaults' of --sops-vault-configmap: key 'config.yaml'"},
		"an unknown field":              {"deployer", func(string) string { return "instances: [{url: x}]" }, "", "", "not YAML of the form instances"},
		"no ConfigMap":                  {"deployer", nil, "", "", `read the ConfigMap of --sops-vault-configmap: configmaps "vaults" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			l := newDecryptLab(t)
			services := sopstest.NewPlainServices(t)
			accounts := &issuer{}
			l.k.Accounts = accounts
			l.k.Decryption = DecryptionOptions{ObjectLevel: true, VaultConfigMap: "vaults"}
			if test.config != nil {
				l.objects = append(l.objects, &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: "vaults"}, Data: map[string]string{"config.yaml": test.config(services.URL)},
				})
			}
			l.sealedFor(hcvault.NewMasterKey(services.URL, "transit", "sops"))
			built, err := l.build(l.decryption(as(test.account)), nil)
			seen := strings.Join(services.Seen, "\n")
			if test.err != "" {
				failsWith(t, errors.New(strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "|", "")), " ")), test.err, "swordfish", "jwt-of")
				if seen != "" {
					t.Errorf("requests:\n%s", seen)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "stringData", any(map[string]any{"password": "swordfish"}), built["Secret/creds"]["stringData"])
			expect(t, "issued", []string{strings.ReplaceAll(test.issued, "URL", services.URL)}, accounts.issued)
			for _, want := range []string{test.request, "POST /v1/transit/decrypt/sops session-token"} {
				if !strings.Contains(seen, want) {
					t.Errorf("no request %q:\n%s", want, seen)
				}
			}
		})
	}
}
