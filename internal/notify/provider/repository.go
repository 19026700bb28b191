package provider

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// repository is where a Git host keeps a repository, as its clone URL tells it (provider 13, 44).
type repository struct {
	// scheme of the API: http or https.
	scheme string
	// host with its port, in lower case.
	host string
	// path in its parts, unescaped and without ".git". None is empty, "." or "..".
	path []string
}

// parseRepository reads a clone URL: http, https, ssh, or "[user@]host:path". Users and passwords in it are left out, and so is the port
// of ssh, at which no API listens. The errors do not repeat the address, which may hold a secret.
func parseRepository(address string) (*repository, error) {
	if address == "" {
		return nil, errors.New("the address is empty: set spec.address to the https or ssh URL of the repository")
	}
	if !strings.Contains(address, "://") {
		login, path, found := strings.Cut(address, ":")
		if !found || strings.Contains(login, "/") {
			return nil, errors.New("the address is not the URL of a repository: set spec.address to its https or ssh URL")
		}
		address = "ssh://" + login + "/" + path
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("the address is not a URL with a host: set spec.address to the https or ssh URL of the repository")
	}
	r := &repository{scheme: u.Scheme, host: strings.ToLower(u.Host)}
	switch u.Scheme {
	case "http", "https":
	case "ssh":
		r.scheme, r.host = "https", strings.TrimSuffix(r.host, ":"+u.Port())
	default:
		return nil, errors.New("the address is neither an https nor an ssh URL: set spec.address to one of these")
	}
	r.path = strings.Split(strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git"), "/")
	if slices.ContainsFunc(r.path, func(part string) bool { return part == "" || part == "." || part == ".." }) {
		return nil, errors.New("the address has no path of a repository: set spec.address to its https or ssh URL")
	}
	return r, nil
}

// ownerAndName returns the path of a repository on a host without nested groups (provider 13).
func (r *repository) ownerAndName() (owner, name string, err error) {
	if len(r.path) != 2 {
		return "", "", fmt.Errorf("the path of the address has %d parts instead of 2: set spec.address to https://host/owner/repository", len(r.path))
	}
	return r.path[0], r.path[1], nil
}

// origin is the scheme and host.
func (r *repository) origin() string { return r.scheme + "://" + r.host }

// apiPath joins parts to a path, each of them escaped.
func apiPath(parts ...string) string {
	var out strings.Builder
	for _, part := range parts {
		out.WriteString("/" + url.PathEscape(part))
	}
	return out.String()
}
