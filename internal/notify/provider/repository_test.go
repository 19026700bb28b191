package provider

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// provider 13, 44
func TestParseRepository(t *testing.T) {
	for address, want := range map[string]string{
		"https://github.com/org/app":                     "https github.com org app",
		"https://github.com/org/app.git":                 "https github.com org app",
		"https://GitHub.com/Org/App/":                    "https github.com Org App",
		"https://github.com/org/app.git/":                "https github.com org app",
		"http://127.0.0.1:8080/org/app":                  "http 127.0.0.1:8080 org app",
		"https://user:pass@host.example/org/app.git?a#b": "https host.example org app",
		"ssh://git@github.com/org/app.git":               "https github.com org app",
		"ssh://git@host.example:2222/org/app":            "https host.example org app",
		"ssh://git@[::1]:2222/org/app":                   "https [::1] org app",
		"git@github.com:org/app.git":                     "https github.com org app",
		"git@github.com:/org/app.git":                    "https github.com org app",
		"github.com:org/app":                             "https github.com org app",
		"https://gitlab.com/a/b/c/app.git":               "https gitlab.com a b c app",
		"https://dev.azure.com/org/My%20Project/_git/x":  "https dev.azure.com org My Project _git x",
		"https://host.example:8443/ctx/scm/PRJ/app.git":  "https host.example:8443 ctx scm PRJ app",
		"":                             "!spec.address",
		"github.com/org/app":           "!spec.address",
		"org/app:x":                    "!spec.address",
		"https://github.com":           "!spec.address",
		"https://github.com/":          "!spec.address",
		"https://github.com/.git":      "!spec.address",
		"https://github.com/org//app":  "!spec.address",
		"https://github.com/org/..":    "!spec.address",
		"https://github.com/./app":     "!spec.address",
		"https:///org/app":             "!spec.address",
		"https://secret word/org/app":  "!spec.address",
		"ftp://secret.example/org/app": "!spec.address",
		"git@:org/app":                 "!spec.address",
	} {
		got := ""
		r, err := parseRepository(address)
		if err != nil {
			got = "!" + err.Error()
			if strings.Contains(got, "secret") {
				t.Errorf("the error of %q repeats it: %v", address, err)
			}
		} else {
			got = r.scheme + " " + r.host + " " + strings.Join(r.path, " ")
		}
		if failed, ok := strings.CutPrefix(want, "!"); ok && strings.HasPrefix(got, "!") && strings.Contains(got, failed) {
			continue
		}
		if got != want {
			t.Errorf("%q is %q, want %q", address, got, want)
		}
	}
}

// provider 13
func TestOwnerAndName(t *testing.T) {
	for _, address := range []string{"https://github.com/app", "https://github.com/a/b/app"} {
		r, err := parseRepository(address)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.ownerAndName(); err == nil || !strings.Contains(err.Error(), "spec.address") {
			t.Errorf("%s: error = %v", address, err)
		}
	}
}

// provider 44
func TestGitHubBase(t *testing.T) {
	for address, want := range map[string]string{
		"git@github.com:org/app.git":           "https://api.github.com",
		"https://octo.ghe.com/org/app":         "https://api.octo.ghe.com",
		"https://github.example.com/org/app":   "https://github.example.com/api/v3",
		"http://127.0.0.1:3000/org/app":        "http://127.0.0.1:3000/api/v3",
		"ssh://git@github.example:22/org/app":  "https://github.example/api/v3",
		"https://github.com.example/org/app":   "https://github.com.example/api/v3",
		"https://api-ghe.com.example/org/app":  "https://api-ghe.com.example/api/v3",
		"https://evil.example/ghe.com/app.git": "https://evil.example/api/v3",
	} {
		r, err := parseRepository(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := gitHubBase(r); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestAPIPath(t *testing.T) {
	if diff := cmp.Diff("/projects/a%2Fb%2Fc/x%20y%3F%23", apiPath("projects", "a/b/c", "x y?#")); diff != "" {
		t.Error(diff)
	}
}

// FuzzRepository: what is not a clone URL is an error, and what is leads to no other host.
func FuzzRepository(f *testing.F) {
	for _, seed := range []string{
		"https://github.com/org/app.git", "git@github.com:org/app.git", "ssh://git@[::1]:22/a/b", "https://dev.azure.com/o/p/_git/r", "a:b",
		"https://h/ctx/scm/p/r.git", "git@ssh.dev.azure.com:v3/o/p/r", "https://[", "ssh://%zz", "://", ":", "https://h/%2e%2e/a",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		r, err := parseRepository(address)
		if err != nil {
			return
		}
		again, err := parseRepository(r.origin() + apiPath(r.path...) + ".git")
		if err != nil {
			t.Fatalf("%q is %+v, which is none: %v", address, r, err)
		}
		if again.host != r.host || again.scheme != r.scheme {
			t.Errorf("%q is at %s, and then at %s", address, r.origin(), again.origin())
		}
		_, _, _ = r.ownerAndName()
		_, _ = findServerBuilds(r)
		_, _ = findDevOps(r)
		_ = gitHubBase(r)
	})
}
