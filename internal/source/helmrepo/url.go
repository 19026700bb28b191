package helmrepo

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// ErrURL is the property of an error about an address that cannot be used: only a change of the spec, or of the index, can
// help.
var ErrURL = errors.New("unusable URL")

// errScheme is ErrURL about a scheme that no repository has (helmrepository 5).
var errScheme = fmt.Errorf("%w: scheme", ErrURL)

// NormalizeURL returns the one spelling of a repository's URL: with one slash at its end for http and https, without one
// for oci. Escapes of the path and the query stay; empty stays empty. Errors have the property ErrURL
// (helmrepository 9, 41).
func NormalizeURL(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	u, err := parseURL(raw)
	if err != nil {
		return "", err
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	if u.Scheme != "oci" {
		path += "/"
	}
	if err := setPath(u, path); err != nil {
		return "", err
	}
	return u.String(), nil
}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The error quotes the address, which may hold a password.
		return nil, told{errors.New(secret.Redact(err.Error())), ErrURL}
	}
	return u, nil
}

// setPath sets an escaped path.
func setPath(u *url.URL, escaped string) error {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return told{err, ErrURL}
	}
	u.Path, u.RawPath = path, escaped
	return nil
}

// indexURL is where the index of a repository is; a query stays (helmrepository 10, 42).
func indexURL(repository *url.URL) (*url.URL, error) {
	u := *repository
	return &u, setPath(&u, strings.TrimRight(u.EscapedPath(), "/")+"/index.yaml")
}

// chartURL is where a chart is whose index says ref (helmchart 14). The query of the repository goes with its own
// relative addresses: registries put tokens there.
func chartURL(repository *url.URL, ref string) (*url.URL, error) {
	if ref == "" {
		return nil, tell(ErrURL, "the index has no URL for the chart")
	}
	to, err := parseURL(ref)
	if err != nil {
		return nil, err
	}
	if !to.IsAbs() && to.Host == "" {
		base := *repository
		if err := setPath(&base, strings.TrimRight(base.EscapedPath(), "/")+"/"); err != nil {
			return nil, err
		}
		to = base.ResolveReference(to)
		if to.RawQuery == "" {
			to.RawQuery = base.RawQuery
		}
		to.User = nil
	} else {
		to = repository.ResolveReference(to)
	}
	if err := isWeb(to); err != nil {
		return nil, fmt.Errorf("the index names %s for the chart: %w", secret.RedactURL(ref), err)
	}
	return to, nil
}

// isWeb refuses what is not fetched over HTTP: no index may point to a file of this machine.
func isWeb(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return tell(errScheme, "scheme '%s' is not http or https", u.Scheme)
	}
	return nil
}

// origin is what credentials are bound to: scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
