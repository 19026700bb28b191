package e2e

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

// TestRemoteIdentity is kustomization 97 with provider generic: a cluster that trusts the issuer of our accounts, here the very same one by
// another door, takes their tokens. Nothing is impersonated, and nothing but the account acts.
func TestRemoteIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t, "--feature-gates=ObjectLevelWorkloadIdentity=true", "--default-kubeconfig-service-account=default")
	f := &fleet{t: t, config: r.config, client: r.client}
	f.proxy = f.door()
	s := r.newScene(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "team"}}
	s.create(account)
	s.create(admin(s.namespace, "team"))
	kubeconfig, err := clientcmd.Load(f.kubeconfig(f.proxy))
	if err != nil {
		t.Fatal(err)
	}
	data := map[string]string{
		"provider": "generic", "address": f.proxy.URL, "audiences": audience(t, s, account),
		"ca.crt": string(kubeconfig.Clusters["proxy"].CertificateAuthorityData),
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "door"}, Data: data}
	s.create(config)
	s.commit(s.configMap("a", "1"))
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) {
		k.Spec.KubeConfig = &meta.KubeConfigReference{ConfigMapRef: &meta.LocalObjectReference{Name: "door"}}
	})
	// The default account is one without rights.
	s.awaitMessage(meta.ReconciliationFailedReason, `User "system:serviceaccount:`+s.namespace+`:default" cannot`)
	s.patch(config, `{"data":{"serviceAccountName":"team"}}`)
	s.request(s.ks())
	s.awaitApplied(s.latest)
	s.present(s.configMap("a", "1"))
	s.patch(config, `{"data":{"serviceAccountName":"nobody"}}`)
	s.request(s.ks())
	s.awaitMessage(meta.ReconciliationFailedReason, "'"+s.namespace+"/nobody' does not exist")
	s.patch(config, `{"data":{"serviceAccountName":"team"}}`)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.absent(s.configMap("a", "1"))
	for _, q := range f.proxy.Requests(0) {
		if q.Impersonate != "" {
			t.Errorf("%s was sent as %q", q.String(), q.Impersonate)
		}
	}
	for _, q := range r.proxy.Requests(s.since) {
		if (q.IsWrite() || q.DryRun) && q.Resource == "configmaps" {
			t.Errorf("the controller's own connection was used for %s", q.String())
		}
	}
}

// audience is what the API server wants tokens to be for.
func audience(t *testing.T, s *scene, account *corev1.ServiceAccount) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{}
	if err := s.client.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(request.Status.Token, ".")
	if len(parts) != 3 {
		t.Fatal("the token has not three parts")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Audiences []string `json:"aud"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || len(claims.Audiences) == 0 {
		t.Fatalf("the audiences of a token: %v, %v", claims.Audiences, err)
	}
	return claims.Audiences[0]
}
