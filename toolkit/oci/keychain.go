package oci

import (
	"encoding/json"
	"errors"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// DockerConfigKey is the key of a Secret that holds credentials of registries.
const DockerConfigKey = ".dockerconfigjson"

// Keychain returns the credentials of Docker configurations, as the Secrets of
// type kubernetes.io/dockerconfigjson hold them. An entry is for a registry, or
// for the repositories below a path of one; * stands for a part of a host name.
// The most specific entry counts; of equal ones the first (contract:
// ocirepository 20, 69). Credential helpers are never run.
func Keychain(dockerConfigs ...[]byte) (authn.Keychain, error) {
	k := &keychain{}
	for _, raw := range dockerConfigs {
		var config struct {
			Auths map[string]json.RawMessage `json:"auths"`
		}
		// Causes are left out: they would quote what may be a password.
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, &secret.KeyError{Key: DockerConfigKey, Err: errors.New("not a Docker configuration in JSON")}
		}
		var entries []entry
		for address, raw := range config.Auths {
			e, ok := parseAddress(address)
			if !ok {
				return nil, &secret.KeyError{Key: DockerConfigKey, Err: errors.New("an entry of 'auths' is not named after a registry")}
			}
			if err := json.Unmarshal(raw, &e.login); err != nil {
				return nil, &secret.KeyError{Key: DockerConfigKey, Err: errors.New("the entry of 'auths' for '" + e.host + "' holds no credentials that can be read")}
			}
			if e.login != (authn.AuthConfig{}) {
				entries = append(entries, e)
			}
		}
		// Maps have no order, answers must have one.
		slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.host+a.path, b.host+b.path) })
		k.entries = append(k.entries, entries...)
	}
	return k, nil
}

// Login returns a keychain with one login for a registry.
func Login(registry name.Registry, username, password string) authn.Keychain {
	return &keychain{entries: []entry{{host: registry.RegistryStr(), login: authn.AuthConfig{Username: username, Password: password}}}}
}

type keychain struct{ entries []entry }

type entry struct {
	host, path string
	login      authn.AuthConfig
}

// parseAddress reads the name of an entry: host, host:port or host/path, with or
// without a scheme.
func parseAddress(address string) (entry, bool) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(strings.ReplaceAll(address, "*", wildcard))
	if err != nil || u.Host == "" {
		return entry{}, false
	}
	e := entry{host: strings.ReplaceAll(strings.ToLower(u.Host), wildcard, "*"), path: strings.Trim(strings.ReplaceAll(u.Path, wildcard, "*"), "/")}
	// What Docker writes for the API of a registry is no repository.
	if e.path == "v1" || e.path == "v2" {
		e.path = ""
	}
	if e.host == "docker.io" || e.host == "registry-1.docker.io" {
		e.host = name.DefaultRegistry
	}
	return e, true
}

// wildcard stands for * while an address is parsed as a URL.
const wildcard = "x-any-x"

// Resolve implements authn.Keychain.
func (k *keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	host := strings.ToLower(target.RegistryStr())
	repository := strings.TrimPrefix(strings.TrimPrefix(target.String(), target.RegistryStr()), "/")
	var best *entry
	for i := range k.entries {
		e := &k.entries[i]
		if matchHost(e.host, host) && within(e.path, repository) && (best == nil || e.rank() > best.rank()) {
			best = e
		}
	}
	if best == nil {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(best.login), nil
}

// rank orders entries by how specific they are: the longer path first, and a
// host without wildcards.
func (e *entry) rank() int {
	rank := 2 * len(e.path)
	if !strings.Contains(e.host, "*") {
		rank++
	}
	return rank
}

// matchHost compares label by label: a wildcard never stands for a dot.
func matchHost(pattern, host string) bool {
	patterns, labels := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(patterns) != len(labels) {
		return false
	}
	for i, p := range patterns {
		if ok, err := path.Match(p, labels[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func within(dir, repository string) bool {
	return dir == "" || repository == dir || strings.HasPrefix(repository, dir+"/")
}
