package kustomize

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/render"
	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// DecryptionOptions are what the flags say about decryption.
type DecryptionOptions struct {
	// ObjectLevel is the feature gate ObjectLevelWorkloadIdentity.
	ObjectLevel bool
	// DefaultServiceAccount is the account of objects whose decryption names none.
	DefaultServiceAccount string
	// AgeSecret and VaultConfigMap are names in the namespace of the process.
	AgeSecret, VaultConfigMap string
	// FileBytes and Timeout bound one encrypted file.
	FileBytes int
	Timeout   time.Duration
	// Endpoints may be replaced by a test.
	Endpoints sops.Endpoints
}

func (o *DecryptionOptions) bind(fs *pflag.FlagSet) {
	limits := sops.DefaultLimits()
	fs.StringVar(&o.DefaultServiceAccount, "default-decryption-service-account", "", "The service account of Kustomizations whose decryption names none; needs the feature gate ObjectLevelWorkloadIdentity.")
	fs.StringVar(&o.AgeSecret, "sops-age-secret", "", "A Secret in the namespace of the controller with age keys, for Kustomizations whose decryption names no Secret.")
	fs.StringVar(&o.VaultConfigMap, "sops-vault-configmap", "", "A ConfigMap in the namespace of the controller that lists the Vaults service accounts may log in to.")
	fs.IntVar(&o.FileBytes, "sops-file-max-size", limits.FileBytes, "The most bytes an encrypted file may have.")
	fs.DurationVar(&o.Timeout, "sops-timeout", limits.Timeout, "How long the decryption of one file may take, key services included.")
}

// checkDecryption refuses an account where objects must not name one (kustomization 9).
func (k *Kustomizer) checkDecryption(obj *kustomizev1.Kustomization) error {
	d := obj.Spec.Decryption
	switch {
	case d == nil:
		return nil
	case d.Provider != "sops":
		return unsupported(fmt.Sprintf("spec.decryption.provider '%s'", d.Provider))
	case d.ServiceAccountName != "" && !k.Decryption.ObjectLevel:
		return loop.Stall(meta.FeatureGateDisabledReason, fmt.Errorf("to use spec.decryption.serviceAccountName '%s': %w: switch it on, or remove the field",
			d.ServiceAccountName, auth.ErrFeatureGate))
	}
	return nil
}

// decryption decrypts for one run. It reads the keys once, and tells only after the build what is wrong with them: a path
// that does not exist is told first.
type decryption struct {
	k         *Kustomizer
	obj       *kustomizev1.Kustomization
	found     *sops.Keys
	decrypter *sops.Decrypter
	failure   error
}

var _ render.Decrypter = (*decryption)(nil)

// open reads the keys, once.
func (d *decryption) open(ctx context.Context) error {
	if d.decrypter != nil || d.failure != nil {
		return d.failure
	}
	keys, err := d.keys(ctx)
	if err != nil {
		d.failure = err
		return err
	}
	d.found = keys
	o := d.k.Decryption
	d.decrypter = sops.New(sops.Options{
		Keys: keys, Identity: d.identity(), Endpoints: o.Endpoints, Limits: sops.Limits{FileBytes: o.FileBytes, Timeout: o.Timeout},
	})
	return nil
}

// keys reads the Secret of the object, or that of the controller (kustomization 40, 41, 49).
func (d *decryption) keys(ctx context.Context) (*sops.Keys, error) {
	key, parse := client.ObjectKey{Namespace: d.k.Namespace, Name: d.k.Decryption.AgeSecret}, sops.ParseAgeKeys
	if ref := d.obj.Spec.Decryption.SecretRef; ref != nil {
		key, parse = client.ObjectKey{Namespace: d.obj.Namespace, Name: ref.Name}, sops.ParseKeys
	}
	if key.Name == "" {
		return nil, nil
	}
	var found corev1.Secret
	if err := d.k.Reader.Get(ctx, key, &found); err != nil {
		return nil, err
	}
	keys, err := parse(found.Data)
	return keys, secret.Wrap(key.Namespace, key.Name, err)
}

// File implements render.Decrypter (kustomization 45).
func (d *decryption) File(ctx context.Context, use render.FileUse, content []byte) ([]byte, error) {
	if err := d.open(ctx); err != nil {
		return nil, err
	}
	if limit := d.k.Decryption.FileBytes; limit > 0 && len(content) > limit {
		return nil, fmt.Errorf("cannot decrypt '%s': it has %d bytes, the limit is %d", use.Path, len(content), limit)
	}
	plain, _, err := d.decrypter.File(ctx, content, format(use))
	if err != nil {
		return nil, fmt.Errorf("failed to decrypt '%s': %w", use.Path, err)
	}
	return plain, nil
}

// format is how the build reads a file.
func format(use render.FileUse) sops.Format {
	name, otherwise := use.Key, sops.Binary
	switch {
	case use.Env:
		otherwise = sops.Dotenv
	case use.Key == "":
		name, otherwise = use.Path, sops.YAML
	}
	if f := sops.FormatOf(name); f != sops.Binary {
		return f
	}
	return otherwise
}

// Object implements render.Decrypter (kustomization 47, 48).
func (d *decryption) Object(ctx context.Context, obj *unstructured.Unstructured) (bool, error) {
	if err := d.open(ctx); err != nil {
		return false, err
	}
	if decryptionDisabled(obj) {
		return false, nil
	}
	return d.decrypter.Object(ctx, obj)
}

// verdict is the error of a build: a Secret that is missing, also where nothing was encrypted, and else that of the build
// without what was decrypted.
func (d *decryption) verdict(ctx context.Context, err error) error {
	if d == nil {
		return err
	}
	if err == nil {
		return d.open(ctx)
	}
	if d.failure != nil {
		return d.failure
	}
	return d.redact(err)
}

// fingerprint identifies the keys; it is empty without decryption.
func (d *decryption) fingerprint(ctx context.Context) (string, error) {
	if d == nil {
		return "", nil
	}
	if err := d.open(ctx); err != nil {
		return "", err
	}
	return d.found.Fingerprint(), nil
}

// remote reports whether a key service was asked, which may answer otherwise next time.
func (d *decryption) remote() bool { return d != nil && d.decrypter != nil && d.decrypter.Remote() }

// redact keeps what was decrypted out of a message (reliability 054, 056).
func (d *decryption) redact(err error) error {
	if d == nil || d.decrypter == nil {
		return err
	}
	return d.decrypter.Redact(err)
}

func decryptionDisabled(obj *unstructured.Unstructured) bool {
	return strings.EqualFold(obj.GetAnnotations()[kustomizev1.DecryptAnnotation], "disabled")
}

// refuseEncrypted makes sure that no ciphertext is applied as if it were the secret (kustomization 48, 50). It looks
// before the normalisation, which drops the field that gives an encrypted Secret away.
func refuseEncrypted(objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if decryptionDisabled(o) {
			continue
		}
		if _, marked := o.Object["sops"]; marked && o.GetKind() == "Secret" && o.GroupVersionKind().Group == "" {
			return fmt.Errorf("%s is SOPS encrypted, configuring decryption is required for this secret to be reconciled", ssa.IDOf(o).Subject())
		}
		if path := sops.Ciphertext(o); path != "" {
			return fmt.Errorf("%s is SOPS encrypted in '%s': configure decryption and encrypt the whole object, or annotate it with %s: disabled if something else decrypts it",
				ssa.IDOf(o).Subject(), path, kustomizev1.DecryptAnnotation)
		}
	}
	return nil
}
