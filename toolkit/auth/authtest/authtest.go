// Package authtest has what tests about credentials need: an API server that knows ServiceAccounts, and a cloud that gives what it is told.
package authtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// Accounts is an API server that reads ServiceAccounts and issues their tokens, and does nothing else.
type Accounts struct {
	// Client speaks to it.
	Client corev1client.ServiceAccountsGetter

	mu       sync.Mutex // guards accounts and issued
	accounts map[string]corev1.ServiceAccount
	issued   []string
}

// NewAccounts starts one without accounts.
func NewAccounts(t testing.TB) *Accounts {
	t.Helper()
	a := &Accounts{accounts: map[string]corev1.ServiceAccount{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/serviceaccounts/{name}", a.get)
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", a.issue)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	client, err := corev1client.NewForConfig(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	a.Client = client
	return a
}

// Put makes or replaces an account.
func (a *Accounts) Put(namespace, name, uid string, annotations map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accounts[namespace+"/"+name] = corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid), Annotations: annotations},
	}
}

// Remove removes an account.
func (a *Accounts) Remove(namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.accounts, namespace+"/"+name)
}

// Issued returns what tokens were issued, as "namespace/name audience".
func (a *Accounts) Issued() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.issued)
}

// TokenOf is the token that the server issues.
func TokenOf(namespace, name, audience string) string {
	return fmt.Sprintf("issued-token.%s.%s.%x", namespace, name, audience)
}

func (a *Accounts) get(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	account, ok := a.accounts[r.PathValue("namespace")+"/"+r.PathValue("name")]
	a.mu.Unlock()
	if !ok {
		notFound(w, r)
		return
	}
	answer(w, http.StatusOK, account)
}

func (a *Accounts) issue(w http.ResponseWriter, r *http.Request) {
	var request authenticationv1.TokenRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || len(request.Spec.Audiences) == 0 {
		http.Error(w, "not a TokenRequest with an audience", http.StatusBadRequest)
		return
	}
	namespace, name, audience := r.PathValue("namespace"), r.PathValue("name"), strings.Join(request.Spec.Audiences, " ")
	a.mu.Lock()
	_, ok := a.accounts[namespace+"/"+name]
	if ok {
		a.issued = append(a.issued, fmt.Sprintf("%s/%s %s", namespace, name, audience))
	}
	a.mu.Unlock()
	if !ok {
		notFound(w, r)
		return
	}
	request.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}
	request.Status.Token = TokenOf(namespace, name, audience)
	answer(w, http.StatusCreated, request)
}

func notFound(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusNotFound, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
		Message: fmt.Sprintf("serviceaccounts %q not found", r.PathValue("name")),
	})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A failed write means that the client went away; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}

// Cloud is a provider that answers every call with a credential of its own: "secret-1", "secret-2" and so on.
type Cloud struct {
	// Provider is its name.
	Provider string
	// Hosts are its registries and Git servers, with their port if any; nil: every host.
	Hosts []string
	// Expires is when its credentials end.
	Expires time.Time
	// Err is called first, if it is set; what it returns fails the call.
	Err func(ctx context.Context, c *auth.Call) error

	mu    sync.Mutex // guards calls
	calls []string
}

// Name implements auth.Cloud.
func (c *Cloud) Name() string { return c.Provider }

// Calls returns for each call who was asked for, "namespace/name" of an account or "process", and for what.
func (c *Cloud) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

func (c *Cloud) answer(ctx context.Context, call *auth.Call, what string) (string, error) {
	if c.Err != nil {
		if err := c.Err(ctx, call); err != nil {
			return "", err
		}
	}
	who := "process"
	if call.Account != nil {
		who = call.Account.Namespace + "/" + call.Account.Name
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, who+" "+what)
	return fmt.Sprintf("secret-%d", len(c.calls)), nil
}

func (c *Cloud) check(host string) error {
	if c.Hosts != nil && !slices.Contains(c.Hosts, host) {
		return fmt.Errorf("%w: '%s' is not one of %s", auth.ErrUnsupported, host, strings.Join(c.Hosts, ", "))
	}
	return nil
}

// CheckRegistry implements auth.RegistryCloud.
func (c *Cloud) CheckRegistry(host string) error { return c.check(host) }

// CheckGit implements auth.GitCloud.
func (c *Cloud) CheckGit(u *url.URL) error { return c.check(u.Host) }

// Registry implements auth.RegistryCloud.
func (c *Cloud) Registry(ctx context.Context, call *auth.Call, host string) (auth.Login, error) {
	secret, err := c.answer(ctx, call, "registry "+host)
	return auth.Login{Username: c.Provider, Password: secret, Expires: c.Expires}, err
}

// Git implements auth.GitCloud.
func (c *Cloud) Git(ctx context.Context, call *auth.Call, u *url.URL) (auth.GitLogin, error) {
	secret, err := c.answer(ctx, call, "git "+u.String())
	return auth.GitLogin{Bearer: secret, Expires: c.Expires}, err
}

// Keys implements auth.KeysCloud.
func (c *Cloud) Keys(ctx context.Context, call *auth.Call) (auth.Keys, error) {
	secret, err := c.answer(ctx, call, "keys "+call.Region)
	return auth.Keys{AccessKey: c.Provider, SecretKey: secret, Expires: c.Expires}, err
}

// Token implements auth.TokenCloud.
func (c *Cloud) Token(ctx context.Context, call *auth.Call, scopes []string) (auth.Token, error) {
	secret, err := c.answer(ctx, call, "token "+strings.Join(scopes, " "))
	return auth.Token{Value: secret, Expires: c.Expires}, err
}
