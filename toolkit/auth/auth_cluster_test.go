package auth_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// _common 47, 49: the tokens are those of the API server, for the audience of the cloud and the account of the object.
func TestTokensOfTheAPIServer(t *testing.T) {
	set := must(kubernetes.NewForConfig(testkit.Cluster(t)))
	namespace := must(set.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "auth-"}}, metav1.CreateOptions{})).Name
	account := must(set.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, metav1.CreateOptions{}))
	l := newLab(t, objectLevel, func(o *auth.Options) { o.ServiceAccounts, o.DefaultServiceAccount = set.CoreV1(), "team" })
	var claims jwt.RegisteredClaims
	l.cloud.Err = func(ctx context.Context, c *auth.Call) error {
		token, err := c.Account.Token(ctx, "cloud.example")
		if err != nil {
			return err
		}
		_, _, err = jwt.NewParser().ParseUnverified(token, &claims)
		return err
	}
	inNamespace := func(r *auth.Request) { r.Namespace = namespace }
	if _, err := l.Keys(t.Context(), request(inNamespace)); err != nil {
		t.Fatal(err)
	}
	if want := "system:serviceaccount:" + namespace + ":team"; claims.Subject != want || !slices.Equal(claims.Audience, []string{"cloud.example"}) {
		t.Errorf("claims = %+v, want the subject %s", claims, want)
	}
	if life := claims.ExpiresAt.Sub(claims.IssuedAt.Time); life > time.Hour+10*time.Minute {
		t.Errorf("the token lives %s", life)
	}
	if _, err := l.Keys(t.Context(), request(inNamespace, as("none"))); !errors.Is(err, auth.ErrServiceAccount) {
		t.Errorf("error = %v, want %v", err, auth.ErrServiceAccount)
	}
	if err := set.CoreV1().ServiceAccounts(namespace).Delete(t.Context(), account.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Keys(t.Context(), request(inNamespace)); !errors.Is(err, auth.ErrServiceAccount) {
		t.Errorf("the account is gone: error = %v, want %v", err, auth.ErrServiceAccount)
	}
}
