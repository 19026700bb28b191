package gcp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

// pool is where tokens of a cluster's ServiceAccounts are exchanged.
type pool struct {
	audience      string // of the exchange
	tokenAudience string // of the tokens
}

// pool returns the pool of the provider that the ServiceAccount names, or else, on GKE, that of the cluster's project.
func (c *Cloud) pool(ctx context.Context, call *auth.Call) (pool, error) {
	if provider := call.Account.Annotations[providerAnnotation]; provider != "" {
		if !poolProvider.MatchString(provider) {
			return pool{}, fmt.Errorf("%w: its annotation '%s' is '%s', not projects/<number>/locations/global/workloadIdentityPools/<pool>/providers/<name>",
				auth.ErrServiceAccount, providerAnnotation, provider)
		}
		return pool{audience: "//iam.googleapis.com/" + provider, tokenAudience: "https://iam.googleapis.com/" + provider}, nil
	}
	var values []string
	for _, name := range []string{"project/project-id", "instance/attributes/cluster-location", "instance/attributes/cluster-name"} {
		value, err := c.metadata(ctx, call, name, nil)
		if err != nil {
			return pool{}, fmt.Errorf("find the cluster of GKE; elsewhere, set the annotation '%s' of the service account: %w", providerAnnotation, err)
		}
		text := strings.TrimSpace(string(value))
		if !clusterName.MatchString(text) {
			return pool{}, fmt.Errorf("find the cluster of GKE: the metadata server gives no usable '%s'", name)
		}
		values = append(values, text)
	}
	namespace := values[0] + ".svc.id.goog"
	cluster := fmt.Sprintf("https://container.googleapis.com/v1/projects/%s/locations/%s/clusters/%s", values[0], values[1], values[2])
	return pool{audience: "identitynamespace:" + namespace + ":" + cluster, tokenAudience: namespace}, nil
}

// machine returns a token of the service account of the machine or Pod.
func (c *Cloud) machine(ctx context.Context, call *auth.Call, scopes []string) (auth.Token, error) {
	content, err := c.metadata(ctx, call, "instance/service-accounts/default/token", url.Values{"scopes": {strings.Join(scopes, ",")}})
	if err != nil {
		return auth.Token{}, fmt.Errorf("get a token of the metadata server: %w", err)
	}
	var answer issued
	if err := rest.Decode(c.options.Metadata, content, &answer); err != nil {
		return auth.Token{}, fmt.Errorf("get a token of the metadata server: %w", err)
	}
	return c.accept(answer)
}

func (c *Cloud) metadata(ctx context.Context, call *auth.Call, name string, query url.Values) ([]byte, error) {
	target := c.options.Metadata + "/computeMetadata/v1/" + name
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := rest.Get(ctx, target)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	return rest.Bytes(call.HTTP, request)
}

func (c *Cloud) exchange(ctx context.Context, call *auth.Call, audience, subject string, scopes []string) (auth.Token, error) {
	request, err := rest.PostForm(ctx, c.options.STS+"/v1/token", url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
		"audience":             {audience},
		"subject_token":        {subject},
		"scope":                {strings.Join(scopes, " ")},
	})
	var answer issued
	if err == nil {
		err = rest.JSON(call.HTTP, request, &answer)
	}
	if err != nil {
		return auth.Token{}, err
	}
	return c.accept(answer)
}

func (c *Cloud) impersonate(ctx context.Context, call *auth.Call, token, email string, scopes []string) (auth.Token, error) {
	target := c.options.IAMCredentials + "/v1/projects/-/serviceAccounts/" + url.PathEscape(email) + ":generateAccessToken"
	request, err := rest.PostJSON(ctx, target, map[string]any{"scope": scopes, "lifetime": "3600s"})
	if err != nil {
		return auth.Token{}, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	var answer struct {
		Token   string    `json:"accessToken"`
		Expires time.Time `json:"expireTime"`
	}
	if err := rest.JSON(call.HTTP, request, &answer); err != nil {
		return auth.Token{}, err
	}
	if answer.Token == "" || answer.Expires.IsZero() {
		return auth.Token{}, errors.New("the answer has no token or no end of its life")
	}
	return auth.Token{Value: answer.Token, Expires: answer.Expires}, nil
}
