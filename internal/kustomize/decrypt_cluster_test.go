package kustomize

import (
	"strings"
	"testing"

	"github.com/getsops/sops/v3/hcvault"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

func decrypting(o *kustomizev1.Kustomization) {
	o.Spec.Decryption = &kustomizev1.Decryption{Provider: "sops", SecretRef: &meta.LocalObjectReference{Name: "keys"}}
}

func (l *lab) put(obj client.Object) {
	l.t.Helper()
	obj.SetNamespace(l.ns)
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func sealedSecret(t *testing.T, id sopstest.Identity, field string) string {
	t.Helper()
	return string(sopstest.File{Format: sops.YAML, Groups: id.Group(t), Regex: "^(data|stringData)$"}.Encrypt(t,
		"apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\n"+field))
}

// kustomization 9, 40, 47-50; reliability 054, 059: an encrypted Secret on its way to the cluster, and all it must not do there.
func TestDecryption(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	id := sopstest.NewIdentity(t)
	secret := sealedSecret(t, id, "stringData:\n    password: swordfish\n")
	l.publish("main@sha1:1", map[string]string{"s.yaml": secret, "a.yaml": configMap("a", "one")})

	// Without decryption the ciphertext of stringData is refused, and nothing is applied.
	l.create()
	l.step()
	expect(t, "Ready", "False ReconciliationFailed: Secret/NS/creds is SOPS encrypted, configuring decryption is required for this secret to be reconciled", l.condition("Ready"))
	expect(t, "applied", false, l.has("a"))

	// The gate, and the Secret that is missing.
	l.edit(func(o *kustomizev1.Kustomization) {
		decrypting(o)
		o.Spec.Decryption.ServiceAccountName = "deployer"
	})
	l.step()
	beginsWith(t, l.condition("Ready"), "False FeatureGateDisabled: ")
	beginsWith(t, l.condition("Stalled"), "True FeatureGateDisabled: ")
	l.edit(decrypting)
	l.step()
	expect(t, "Ready", `False BuildFailed: secrets "keys" not found`, l.condition("Ready"))

	l.put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "keys"}, StringData: map[string]string{"id.agekey": id.Private}})
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))
	var applied corev1.Secret
	if err := l.client.Get(t.Context(), client.ObjectKey{Namespace: l.ns, Name: "creds"}, &applied); err != nil {
		t.Fatal(err)
	}
	expect(t, "the Secret", map[string][]byte{"password": []byte("swordfish")}, applied.Data)

	// A routine run does nothing, as long as the keys are the same.
	uid := l.get().UID
	inputs := l.k.settled.get(uid).inputs
	l.step()
	expect(t, "inputs of a routine run", inputs, l.k.settled.get(uid).inputs)
	keys := &corev1.Secret{}
	if err := l.client.Get(t.Context(), client.ObjectKey{Namespace: l.ns, Name: "keys"}, keys); err != nil {
		t.Fatal(err)
	}
	replace := func(private string) {
		keys.Data = map[string][]byte{"id.agekey": []byte(private)}
		if err := l.client.Update(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		l.step()
	}
	replace(sopstest.NewIdentity(t).Private)
	beginsWith(t, l.condition("Ready"), "False BuildFailed: decryption failed for 'Secret.v1.[noGrp]/creds': failed to decrypt and format 'NS/creds' Secret data: cannot get sops data key: ")
	replace(id.Private)
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))

	// reliability 054: what the API server quotes of a decrypted object of any kind is not shown.
	config := string(sopstest.File{Format: sops.YAML, Groups: id.Group(t), Regex: "^data$"}.Encrypt(t,
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n    name: a\ndata:\n    nested:\n        - opensesame\n"))
	l.publish("main@sha1:2", map[string]string{"s.yaml": secret, "a.yaml": config})
	l.step()
	beginsWith(t, l.condition("Ready"), "False ReconciliationFailed: ")
	for _, text := range append(l.told(), l.condition("Ready"), l.condition("Reconciling")) {
		if strings.Contains(text, "opensesame") || strings.Contains(text, "swordfish") {
			t.Errorf("plain text is shown: %s", text)
		}
	}
}

func beginsWith(t *testing.T, text, want string) {
	t.Helper()
	if !strings.HasPrefix(text, want) {
		t.Errorf("%q does not begin with %q", text, want)
	}
}

// kustomization 43: the API server issues the token that a Vault gets, for its address.
func TestVaultLoginWithIssuedToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	services := sopstest.NewPlainServices(t)
	config := kube.Config(testkit.Cluster(t), "kustomize-test")
	issuing, err := newAccounts(config)
	if err != nil {
		t.Fatal(err)
	}
	l.k.Accounts = issuing
	l.k.Namespace = l.ns
	l.k.Decryption = DecryptionOptions{ObjectLevel: true, VaultConfigMap: "vaults"}
	l.put(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "deployer"}})
	l.put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "vaults"}, Data: map[string]string{
		"config.yaml": "instances: [{address: '" + services.URL + "', loginPath: auth/kubernetes/login}]",
	}})
	sealed := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(hcvault.NewMasterKey(services.URL, "transit", "sops")), Regex: "^stringData$"}
	l.publish("main@sha1:1", map[string]string{"s.yaml": string(sealed.Encrypt(t, "apiVersion: v1\nkind: Secret\nmetadata:\n    name: creds\nstringData:\n    password: swordfish\n"))})
	l.create(func(o *kustomizev1.Kustomization) {
		o.Spec.Decryption = &kustomizev1.Decryption{Provider: "sops", ServiceAccountName: "deployer"}
	})
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))
	if l.k.settled.get(l.get().UID) != nil {
		t.Error("a run that asked a Vault is taken for one that comes out the same")
	}
	_, login, _ := strings.Cut(services.Seen[0], "login")
	fields := strings.Fields(login)
	if len(fields) != 2 || fields[0] != l.ns+"_deployer" {
		t.Fatalf("logged in with %q", login)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	review, err := set.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: fields[1], Audiences: []string{services.URL}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "whose token", "system:serviceaccount:"+l.ns+":deployer", review.Status.User.Username)

	// The controller's own account is found by asking; a client that is none is told.
	own, err := newAccounts(&rest.Config{Host: config.Host, TLSClientConfig: rest.TLSClientConfig{CAData: config.CAData, CAFile: config.CAFile}, BearerToken: token(t, issuing, l.ns)})
	if err != nil {
		t.Fatal(err)
	}
	self, err := own.Self(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "self", client.ObjectKey{Namespace: l.ns, Name: "deployer"}, self)
	_, err = issuing.Self(t.Context())
	failsWith(t, err, "does not run as a service account")
}

// token is one for the API server.
func token(t *testing.T, issuing accounts, namespace string) string {
	t.Helper()
	issued, err := issuing.set.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "deployer", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return issued.Status.Token
}
