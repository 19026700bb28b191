package auth

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

// The keys of a Secret that describes a GitHub App (contract: _common 44).
const (
	GitHubAppIDKey                = "githubAppID"
	GitHubAppPrivateKeyKey        = "githubAppPrivateKey"
	GitHubAppInstallationOwnerKey = "githubAppInstallationOwner"
	GitHubAppInstallationIDKey    = "githubAppInstallationID"
	GitHubAppBaseURLKey           = "githubAppBaseURL"
)

// gitHubUser is the name that goes with the token of an installation.
const gitHubUser = "x-access-token"

const gitHubAPI = "https://api.github.com"

// The life of an app's own token. It begins in the past, for clocks that differ (contract: gitrepository 22).
const (
	appTokenAge  = 30 * time.Second
	appTokenLife = 2 * time.Minute
)

var installationID = regexp.MustCompile(`^[0-9]{1,20}$`)

type gitHubApp struct {
	id           string
	key          *rsa.PrivateKey
	owner        string // of the installation; or else:
	installation string
	base         *url.URL
}

func parseGitHubApp(data map[string][]byte) (*gitHubApp, error) {
	text := func(key string) string { return strings.TrimSpace(string(data[key])) }
	app := &gitHubApp{id: text(GitHubAppIDKey), owner: text(GitHubAppInstallationOwnerKey), installation: text(GitHubAppInstallationIDKey)}
	for _, key := range []string{GitHubAppIDKey, GitHubAppPrivateKeyKey} {
		if text(key) == "" {
			return nil, appDataError(key, "is required")
		}
	}
	switch {
	case app.owner == "" && app.installation == "":
		return nil, appDataError(GitHubAppInstallationOwnerKey, "or '%s' is required", GitHubAppInstallationIDKey)
	case app.owner != "" && app.installation != "":
		return nil, appDataError(GitHubAppInstallationOwnerKey, "cannot be set beside '%s': remove one of them", GitHubAppInstallationIDKey)
	case app.installation != "" && !installationID.MatchString(app.installation):
		return nil, appDataError(GitHubAppInstallationIDKey, "is not a number")
	}
	var err error
	if app.key, err = jwt.ParseRSAPrivateKeyFromPEM(data[GitHubAppPrivateKeyKey]); err != nil {
		return nil, appDataError(GitHubAppPrivateKeyKey, "is not an RSA key in PEM")
	}
	base := text(GitHubAppBaseURLKey)
	if base == "" {
		base = gitHubAPI
	}
	// The value is not quoted, for it may hold a password.
	if app.base, err = url.Parse(base); err != nil || app.base.Host == "" || !slices.Contains([]string{"http", "https"}, app.base.Scheme) {
		return nil, appDataError(GitHubAppBaseURLKey, "is not a URL of the form https://host/api/v3")
	}
	return app, nil
}

func appDataError(key, format string, args ...any) error {
	return fmt.Errorf("%w: key '%s' %s", ErrAppData, key, fmt.Sprintf(format, args...))
}

func (a *Authenticator) githubApp(ctx context.Context, r Request, app *gitHubApp, data map[string][]byte, config *tls.Config) (*Login, error) {
	parts := []string{"github"}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		parts = append(parts, k, string(data[k]))
	}
	return remember(ctx, a, r, cacheKey("github", parts, r, nil), func(ctx context.Context) (Login, error) {
		c := &appCall{gitHubApp: app, client: rest.StrangersClient(r.Proxy, config, a.limits.AnswerBytes)}
		login, err := c.login(ctx, a.clock.Now())
		if err != nil {
			return Login{}, &redactedError{fmt.Errorf("obtain a token of the GitHub App '%s': %w", app.id, err), append(proxySecrets(r.Proxy), c.token)}
		}
		return login, nil
	})
}

// appCall is a conversation with the API in the name of the app.
type appCall struct {
	*gitHubApp
	client *http.Client
	token  string
}

func (c *appCall) login(ctx context.Context, now time.Time) (Login, error) {
	claims := jwt.RegisteredClaims{
		Issuer:   c.id,
		IssuedAt: jwt.NewNumericDate(now.Add(-appTokenAge)), ExpiresAt: jwt.NewNumericDate(now.Add(appTokenLife - appTokenAge)),
	}
	var err error
	if c.token, err = jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(c.key); err != nil {
		return Login{}, fmt.Errorf("sign the token of the app: %w", err)
	}
	installation := c.installation
	if installation == "" {
		if installation, err = c.find(ctx); err != nil {
			return Login{}, err
		}
	}
	var issued struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	request, err := rest.PostJSON(ctx, c.base.JoinPath("app", "installations", installation, "access_tokens").String(), nil)
	if err == nil {
		err = c.send(request, &issued)
	}
	if err == nil && issued.Token == "" {
		err = errors.New("the answer has no token")
	}
	if err != nil {
		return Login{}, fmt.Errorf("request a token of installation %s: %w", installation, err)
	}
	return Login{Username: gitHubUser, Password: issued.Token, Expires: issued.Expires}, nil
}

// find looks the installation up by its owner, an organization or else a user.
func (c *appCall) find(ctx context.Context) (string, error) {
	for _, kind := range []string{"orgs", "users"} {
		var found struct {
			ID int64 `json:"id"`
		}
		request, err := rest.Get(ctx, c.base.JoinPath(kind, url.PathEscape(c.owner), "installation").String())
		if err == nil {
			err = c.send(request, &found)
		}
		var status *rest.StatusError
		switch {
		case errors.As(err, &status) && status.Code == http.StatusNotFound:
			continue
		case err != nil:
			return "", fmt.Errorf("find the installation of '%s': %w", c.owner, err)
		case found.ID <= 0:
			return "", fmt.Errorf("find the installation of '%s': the answer has no id", c.owner)
		}
		return fmt.Sprint(found.ID), nil
	}
	return "", fmt.Errorf("find the installation of '%s': neither an organization nor a user of this name has installed the app", c.owner)
}

func (c *appCall) send(r *http.Request, out any) error {
	r.Header.Set("Accept", "application/vnd.github+json")
	r.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	r.Header.Set("Authorization", "Bearer "+c.token)
	return rest.JSON(c.client, r, out)
}
