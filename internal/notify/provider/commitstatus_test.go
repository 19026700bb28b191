package provider_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// gitAnswering plays a Git host: it answers every question with found, and takes everything else.
func gitAnswering(code int, found string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"id":1}`)
			return
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, found)
	}
}

// madeOf is an event about an artifact that was made of a commit, with a reason no host takes in full.
func madeOf() event.Payload {
	e := providertest.Failed()
	e.InvolvedObject.Kind, e.InvolvedObject.Name = "HelmRelease", "App.with.dots"
	e.Reason = "TheReason" + strings.Repeat("Goes", 50)
	e.Metadata = map[string]string{
		"revision": "6.5.1@sha256:" + strings.Repeat("ab", 32), "originRevision": "refs/heads/x@sha1:" + strings.Repeat("12", 20),
	}
	return e
}

func workBegun() event.Payload {
	e := providertest.Progressing()
	e.Metadata = map[string]string{"revision": "main@sha1:" + strings.Repeat("34", 20)}
	return e
}

// statusSuite is a suite of a type whose host has no status yet. Work that has begun is told by Gitea only (provider 11).
func statusSuite(name string, answer http.HandlerFunc, config func(base string) provider.Config) providertest.Suite {
	silent := []string{"progressing"}
	if name != "gitea" {
		silent = append(silent, "working")
	}
	return providertest.Suite{
		Type: name, Config: config, Answer: answer, Silent: silent,
		Cases: []providertest.Case{{Name: "origin", Event: madeOf()}, {Name: "working", Event: workBegun()}},
	}
}

// provider 10-14, 44; alert 20
func TestGitHub(t *testing.T) {
	statusSuite("github", gitAnswering(200, "[]"), func(base string) provider.Config {
		return provider.Config{Address: base + "/org/app.git", Token: providertest.Canary}
	}).Run(t)
}

// provider 10-14; alert 20: groups are part of the project, and the password is as good as the token.
func TestGitLab(t *testing.T) {
	statusSuite("gitlab", gitAnswering(200, "[]"), func(base string) provider.Config {
		return provider.Config{Address: base + "/group/sub/app.git", Password: providertest.Canary}
	}).Run(t)
}

// provider 10-14, 44; alert 20
func TestGitea(t *testing.T) {
	statusSuite("gitea", gitAnswering(200, "[]"), func(base string) provider.Config {
		return provider.Config{Address: base + "/org/app", Token: providertest.Canary}
	}).Run(t)
}

// provider 10-14; alert 20
func TestBitbucket(t *testing.T) {
	suite := statusSuite("bitbucket", gitAnswering(404, "{}"), func(string) provider.Config {
		return provider.Config{Address: "git@bitbucket.org:org/app.git", Token: "user:" + providertest.Canary}
	})
	suite.Public = true
	suite.Run(t)
}

// provider 10-13; alert 20
func TestBitbucketServer(t *testing.T) {
	statusSuite("bitbucketserver", gitAnswering(404, "{}"), func(base string) provider.Config {
		return provider.Config{Address: base + "/context/scm/PRJ/app.git", Username: "bot", Password: providertest.Canary}
	}).Run(t)
}

// provider 10-13, 42; alert 20
func TestAzureDevOps(t *testing.T) {
	statusSuite("azuredevops", gitAnswering(200, `{"count":0,"value":[]}`), func(base string) provider.Config {
		return provider.Config{Address: base + "/org/My%20Project/_git/app", Token: providertest.Canary, ServiceAccountName: "unused"}
	}).Run(t)
}

// gitHost starts a host and returns the configuration of a client of it, and what it has been told.
func gitHost(t *testing.T, name string, answer http.HandlerFunc) (provider.Config, func() []string) {
	t.Helper()
	var calls []string
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, r.Method+" "+r.URL.String())
		answer(w, r)
	}))
	t.Cleanup(host.Close)
	path := map[string]string{"bitbucketserver": "/scm/prj/app.git", "azuredevops": "/org/prj/_git/app"}[name]
	if path == "" {
		path = "/org/app"
	}
	c := provider.Config{
		Type: name, Address: host.URL + path, Token: "user:t0ken", CommitStatus: "kustomization/app/11112222",
		Provider: provider.Owner{Namespace: "prod", Name: "p", UID: "u1"}, HTTP: provider.NewClient(http.DefaultTransport, "flux"),
	}
	if name == "bitbucket" {
		c.HTTP = provider.NewClient(ledTo(host.URL), "flux")
	}
	c.HTTP.Pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return c, func() []string { return calls }
}

func tellGitHost(t *testing.T, c provider.Config, e event.Payload) error {
	t.Helper()
	kind, ok := provider.Find(c.Type)
	if !ok {
		t.Fatalf("there is no type '%s'", c.Type)
	}
	n, err := kind.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n.Notify(t.Context(), e)
}

// provider 11, 46, 47: a status that the host shows already is not posted again.
func TestCommitStatusOnce(t *testing.T) {
	const id = "kustomization/app/11112222"
	entry := func(format string, args ...any) string { return fmt.Sprintf(format, args...) }
	github := func(context, state, description string) string {
		return entry(`{"context":%q,"state":%q,"description":%q}`, context, state, description)
	}
	gitea := func(n int, context, status, description string) string {
		return entry(`{"id":%d,"context":%q,"status":%q,"description":%q}`, n, context, status, description)
	}
	gitlab := func(name, status, description string) string {
		return entry(`{"name":%q,"status":%q,"description":%q}`, name, status, description)
	}
	devops := func(n int, genre, name, state, description string) string {
		return entry(`{"id":%d,"context":{"genre":%q,"name":%q},"state":%q,"description":%q,"targetUrl":null}`, n, genre, name, state, description)
	}
	list := func(entries ...string) string { return "[" + strings.Join(entries, ",") + "]" }
	value := func(entries ...string) string { return `{"value":` + list(entries...) + "}" }
	const said = "reconciliation succeeded"
	for _, test := range []struct {
		name, kind string
		code       int
		found      string
		posts      bool
	}{
		{"the same", "github", 200, list(github(id, "success", said)), false},
		{"the same in capitals", "github", 200, list(github(strings.ToUpper(id), "success", said)), false},
		{"of another context", "github", 200, list(github("other", "success", said)), true},
		{"another state", "github", 200, list(github(id, "failure", said)), true},
		{"another description", "github", 200, list(github(id, "success", "other")), true},
		{"the same, but not the newest", "github", 200, list(github(id, "failure", said), github(id, "success", said)), true},
		{"behind another context", "github", 200, list(github("other", "failure", "x"), github(id, "success", said)), false},
		{"without description", "github", 200, `[{"context":"` + id + `","state":"success","description":null}]`, true},

		{"the same", "gitea", 200, list(gitea(3, id, "success", said)), false},
		{"the newest is the last", "gitea", 200, list(gitea(3, id, "failure", said), gitea(4, id, "success", said)), false},
		{"the newest is the first", "gitea", 200, list(gitea(4, id, "failure", said), gitea(3, id, "success", said)), true},
		{"of another context", "gitea", 200, list(gitea(3, "other", "success", said)), true},

		{"the same", "gitlab", 200, list(gitlab(id, "success", said)), false},
		{"any is the same", "gitlab", 200, list(gitlab(id, "failed", said), gitlab(id, "success", said)), false},
		{"another state", "gitlab", 200, list(gitlab(id, "failed", said)), true},
		{"another name", "gitlab", 200, list(gitlab("other", "success", said)), true},

		{"the same", "azuredevops", 200, value(devops(3, "fluxcd", id, "succeeded", said)), false},
		{"the newest differs", "azuredevops", 200, value(devops(4, "fluxcd", id, "error", said), devops(3, "fluxcd", id, "succeeded", said)), true},
		{"another genre", "azuredevops", 200, value(devops(4, "fluxcd:x", id, "succeeded", said)), true},

		{"the same", "bitbucket", 200, entry(`{"state":"SUCCESSFUL","description":%q}`, said), false},
		{"another state", "bitbucket", 200, entry(`{"state":"FAILED","description":%q}`, said), true},
		{"none", "bitbucket", 404, `{}`, true},

		{"the same", "bitbucketserver", 200, entry(`{"state":"SUCCESSFUL","description":%q}`, said), false},
		{"another description", "bitbucketserver", 200, `{"state":"SUCCESSFUL","description":"x"}`, true},
		{"none", "bitbucketserver", 404, `not JSON`, true},
	} {
		t.Run(test.kind+"/"+test.name, func(t *testing.T) {
			c, calls := gitHost(t, test.kind, gitAnswering(test.code, test.found))
			if err := tellGitHost(t, c, providertest.Applied()); err != nil {
				t.Fatal(err)
			}
			want := 1
			if test.posts {
				want = 2
			}
			if len(calls()) != want {
				t.Errorf("calls are %q, want %d", calls(), want)
			}
		})
	}
}

// provider 47: what cannot be understood is no reason to post.
func TestCommitStatusQuestionFails(t *testing.T) {
	endless := `{"the-answer":` + strings.Repeat(" ", 9<<20) + "1}"
	for _, kind := range []string{"github", "gitlab", "gitea", "bitbucket", "bitbucketserver", "azuredevops"} {
		for found, code := range map[string]int{"<html>the-answer</html>": 200, "the-answer": 403, endless: 200} {
			c, calls := gitHost(t, kind, gitAnswering(code, found))
			err := tellGitHost(t, c, providertest.Applied())
			if err == nil || !strings.HasPrefix(err.Error(), "could not list commit statuses: ") || strings.Contains(err.Error(), "the-answer") {
				t.Errorf("%s answers %d %.20q: error = %v", kind, code, found, err)
			}
			if len(calls()) != 1 {
				t.Errorf("%s answers %d %.20q: calls are %q", kind, code, found, calls())
			}
		}
	}
}

// provider 12: an event without a commit fails before anybody is asked.
func TestCommitStatusWithoutCommit(t *testing.T) {
	for _, metadata := range []map[string]string{nil, {"revision": "6.5.1"}} {
		c, calls := gitHost(t, "github", gitAnswering(200, "[]"))
		e := providertest.Failed()
		e.Metadata = metadata
		if err := tellGitHost(t, c, e); err == nil || !strings.Contains(err.Error(), "revision") {
			t.Errorf("metadata %v: error = %v", metadata, err)
		}
		if len(calls()) != 0 {
			t.Errorf("metadata %v: calls are %q", metadata, calls())
		}
	}
}

// What a host refuses is told with where to look.
func TestRefusalHint(t *testing.T) {
	for code, want := range map[int]string{401: "spec.secretRef, or they have expired", 403: "lack a permission", 404: "spec.address", 422: "code 422"} {
		c, _ := gitHost(t, "github", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		err := tellGitHost(t, c, providertest.Applied())
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("could not list commit statuses: request failed with status code %d", code)) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%d: error = %v", code, err)
		}
	}
}

// provider 13-15, 33, 44: what is missing or wrong is found before an event comes, and named.
func TestGitHostConfig(t *testing.T) {
	const good = "https://git.example/org/app"
	for _, test := range []struct {
		name, kind string
		change     func(*provider.Config)
		want       string // in the error; empty: none
	}{
		{"good", "github", func(*provider.Config) {}, ""},
		{"no credentials", "github", func(c *provider.Config) { c.Token = "" }, "'token', or 'githubAppID'"},
		{"an app", "github", func(c *provider.Config) { c.Token, c.Secret = "", map[string][]byte{"githubAppID": []byte("1")} }, ""},
		{"a password", "github", func(c *provider.Config) { c.Token, c.Password = "", "p" }, ""},
		{"groups", "github", func(c *provider.Config) { c.Address += "/more" }, "spec.address"},
		{"no status", "github", func(c *provider.Config) { c.CommitStatus = "" }, "spec.commitStatusExpr"},
		{"no status", "githubdispatch", func(c *provider.Config) { c.CommitStatus = "" }, ""},
		{"no credentials", "githubdispatch", func(c *provider.Config) { c.Token = "" }, "spec.secretRef"},
		{"no address", "githubdispatch", func(c *provider.Config) { c.Address = "" }, "spec.address"},
		{"no credentials", "githubpullrequestcomment", func(c *provider.Config) { c.Token = "" }, "spec.secretRef"},

		{"groups", "gitlab", func(c *provider.Config) { c.Address += "/more" }, ""},
		{"no group", "gitlab", func(c *provider.Config) { c.Address = "https://git.example/app" }, "spec.address"},
		{"no credentials", "gitlab", func(c *provider.Config) { c.Token = "" }, "spec.secretRef"},
		{"a password", "gitlabmergerequestcomment", func(c *provider.Config) { c.Token, c.Password = "", "p" }, ""},
		{"no credentials", "gitlabmergerequestcomment", func(c *provider.Config) { c.Token = "" }, "spec.secretRef"},

		{"groups", "gitea", func(c *provider.Config) { c.Address += "/more" }, "spec.address"},
		{"no credentials", "gitea", func(c *provider.Config) { c.Token = "" }, "spec.secretRef"},
		{"a password", "gitea", func(c *provider.Config) { c.Token, c.Password = "", "p" }, ""},
		{"no credentials", "giteapullrequestcomment", func(c *provider.Config) { c.Token = "" }, "spec.secretRef"},

		{"good", "bitbucket", func(*provider.Config) {}, ""},
		{"groups", "bitbucket", func(c *provider.Config) { c.Address += "/more" }, "spec.address"},
		{"no user", "bitbucket", func(c *provider.Config) { c.Token = "secret-value" }, "user:app-password"},
		{"an empty user", "bitbucket", func(c *provider.Config) { c.Token = ":secret-value" }, "user:app-password"},
		{"a password is no token", "bitbucket", func(c *provider.Config) { c.Token, c.Password = "", "u:p" }, "user:app-password"},

		{"no scm", "bitbucketserver", func(*provider.Config) {}, "/scm/"},
		{"scm", "bitbucketserver", func(c *provider.Config) { c.Address = "https://git.example/scm/p/r.git" }, ""},
		{"scm and more", "bitbucketserver", func(c *provider.Config) { c.Address = "https://git.example/scm/p/r/x" }, "/scm/"},
		{"half of a login", "bitbucketserver", func(c *provider.Config) {
			c.Address, c.Token, c.Username = "https://git.example/scm/p/r.git", "", "u"
		}, "'username' and 'password'"},

		{"too short", "azuredevops", func(*provider.Config) {}, "spec.address"},
		{"good", "azuredevops", func(c *provider.Config) { c.Address = "https://dev.azure.com/org/prj/_git/app" }, ""},
		{"no token", "azuredevops", func(c *provider.Config) { c.Address, c.Token = "https://dev.azure.com/org/prj/_git/app", "" }, ""},
		{"a folder", "azuredevops", func(c *provider.Config) { c.Address = "https://dev.azure.com/org/prj/_git/app/folder" }, "spec.address"},
		{"ssh without version", "azuredevops", func(c *provider.Config) { c.Address = "git@ssh.dev.azure.com:org/prj/_git/app" }, "spec.address"},
	} {
		t.Run(test.kind+"/"+test.name, func(t *testing.T) {
			c := provider.Config{Type: test.kind, Address: good, Token: "user:secret-value", CommitStatus: "id"}
			test.change(&c)
			kind, _ := provider.Find(test.kind)
			_, err := kind.New(c)
			if (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret-value") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
	for _, name := range []string{"zoom", "incidentio"} {
		if _, ok := provider.Find(name); ok {
			t.Errorf("type '%s' is not one of 2.9", name)
		}
	}
}

// provider 13: the forms of clone URLs that Azure DevOps and Bitbucket Data Center give.
func TestClonePaths(t *testing.T) {
	for _, test := range []struct{ kind, address, want string }{
		{"azuredevops", "https://org@dev.azure.com/org/prj/_git/app", "https://dev.azure.com/org/prj/_apis/git/repositories/app/"},
		{"azuredevops", "https://dev.azure.com/org/_git/app", "https://dev.azure.com/org/app/_apis/git/repositories/app/"},
		{"azuredevops", "https://org.visualstudio.com/prj/_git/app", "https://org.visualstudio.com/prj/_apis/git/repositories/app/"},
		{"azuredevops", "https://org.visualstudio.com/DefaultCollection/prj/_git/app",
			"https://org.visualstudio.com/DefaultCollection/prj/_apis/git/repositories/app/"},
		{"azuredevops", "https://tfs.example/tfs/Coll/prj/_git/app", "https://tfs.example/tfs/Coll/prj/_apis/git/repositories/app/"},
		{"azuredevops", "git@ssh.dev.azure.com:v3/org/My%20Project/app", "https://dev.azure.com/org/My%20Project/_apis/git/repositories/app/"},
		{"bitbucketserver", "https://git.example/scm/~user/app.git", "https://git.example/rest/api/latest/projects/~user/repos/app/"},
		{"bitbucketserver", "https://git.example/a/b/scm/p/app", "https://git.example/a/b/rest/api/latest/projects/p/repos/app/"},
		{"bitbucketserver", "ssh://git@git.example:7999/scm/p/app.git", "https://git.example/rest/api/latest/projects/p/repos/app/"},
		{"github", "git@github.com:org/app.git", "https://api.github.com/repos/org/app/"},
		{"gitlab", "ssh://git@gitlab.com/a/b/app.git", "https://gitlab.com/api/v4/projects/a%2Fb%2Fapp/"},
		{"gitea", "ssh://git@gitea.example:22/org/app.git", "https://gitea.example/api/v1/repos/org/app/"},
		{"bitbucket", "https://bitbucket.org/org/app", "https://api.bitbucket.org/2.0/repositories/org/app/"},
	} {
		t.Run(test.kind+" "+test.address, func(t *testing.T) {
			var asked []string
			c := provider.Config{Type: test.kind, Address: test.address, Token: "user:t0ken", CommitStatus: "id"}
			c.HTTP = provider.NewClient(gitTransport(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, r.URL.String())
				return &http.Response{StatusCode: 418, Body: http.NoBody, Request: r}, nil
			}), "flux")
			_ = tellGitHost(t, c, providertest.Applied())
			if len(asked) != 1 || !strings.HasPrefix(asked[0], test.want+"commit") && !strings.HasPrefix(asked[0], test.want+"repository/commits/") {
				t.Errorf("asked %q, want %s", asked, test.want)
			}
		})
	}
}

// provider 11: the URL of a build leads to the repository without credentials, and is no longer than the server takes.
func TestBuildURL(t *testing.T) {
	for _, test := range []struct{ name, path, want string }{
		{"credentials", "/scm/prj/app.git", "/scm/prj/app.git"},
		{"too long", "/" + strings.Repeat("x", 450) + "/scm/prj/app.git", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var told []string
			host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				told = append(told, string(body))
				gitAnswering(404, "")(w, r)
			}))
			defer host.Close()
			address := strings.Replace(host.URL, "://", "://user:passw0rd@", 1) + test.path
			c := provider.Config{
				Type: "bitbucketserver", Address: address, Token: "t0ken", CommitStatus: "id", HTTP: provider.NewClient(http.DefaultTransport, "flux"),
			}
			if err := tellGitHost(t, c, providertest.Applied()); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf(`"url":%q`, host.URL+test.want); !strings.Contains(told[1], want) {
				t.Errorf("told %s, want %s", told[1], want)
			}
		})
	}
}

type gitTransport func(*http.Request) (*http.Response, error)

func (f gitTransport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// ledTo sends every request to the host at base.
func ledTo(base string) http.RoundTripper {
	return gitTransport(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(base, "http://")
		return http.DefaultTransport.RoundTrip(r)
	})
}

// The types that post statuses say so to whoever dispatches events (alert 14, 15), and those with comments too (alert 16).
func TestGitHostGroups(t *testing.T) {
	var statuses, requests []string
	for _, each := range provider.Types() {
		if each.PostsCommitStatus() {
			statuses = append(statuses, each.Name)
			if !each.StatusUpdates {
				t.Errorf("'%s' does not take status updates", each.Name)
			}
		}
		if each.ForChangeRequests() {
			requests = append(requests, each.Name)
		}
	}
	slices.Sort(statuses)
	slices.Sort(requests)
	if diff := cmp.Diff([]string{"azuredevops", "bitbucket", "bitbucketserver", "gitea", "github", "gitlab"}, statuses); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"giteapullrequestcomment", "githubpullrequestcomment", "gitlabmergerequestcomment"}, requests); diff != "" {
		t.Error(diff)
	}
}
