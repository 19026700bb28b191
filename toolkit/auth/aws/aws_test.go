package aws_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
	"github.com/seed-79636ae9/flux/toolkit/auth/aws"
)

const (
	role   = "arn:aws:iam::123456789012:role/team"
	answer = "2026-01-02T04:04:05Z"
)

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// services are those of AWS that credentials come from, with the payloads of their documentation.
type services struct {
	URL string
	// refuse makes STS and the registries answer with an error that quotes what they got.
	refuse bool
	// instead answers everything, when set.
	instead http.HandlerFunc

	mu   sync.Mutex // guards seen
	seen []string
}

func (s *services) saw(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf(format, args...))
}

func (s *services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.instead != nil {
		s.instead(w, r)
		return
	}
	target := r.Header.Get("X-Amz-Target")
	switch {
	case r.URL.Path == "/pod":
		s.saw("pod %s", r.Header.Get("Authorization"))
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"AKPOD","SecretAccessKey":"canary-secret","Token":"canary-session","Expiration":"%s"}`, answer)
	case strings.HasPrefix(r.URL.Path, "/clusters/"):
		s.cluster(w, r)
	case strings.HasSuffix(target, ".GetAuthorizationToken"):
		s.registry(w, r, target)
	default:
		s.sts(w, r)
	}
}

func (s *services) sts(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.saw("sts %s %s %s %s", r.Form.Get("Action"), r.Form.Get("RoleArn"), r.Form.Get("RoleSessionName"), r.Form.Get("WebIdentityToken"))
	w.Header().Set("Content-Type", "text/xml")
	if s.refuse {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>Not authorized with %s</Message></Error><RequestId>request-id</RequestId></ErrorResponse>`, r.Form.Get("WebIdentityToken"))
		return
	}
	_, _ = fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
<Credentials><AccessKeyId>AKROLE</AccessKeyId><SecretAccessKey>canary-secret</SecretAccessKey><SessionToken>canary-session</SessionToken><Expiration>%s</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>request-id</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>`, answer)
}

func (s *services) registry(w http.ResponseWriter, r *http.Request, target string) {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, scope, _ := strings.Cut(credential, "/")
	s.saw("%s by %s for %s", target, key, strings.Split(scope, "/")[1])
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if s.refuse {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"__type":"AccessDeniedException","message":"no, %s"}`, r.Header.Get("X-Amz-Security-Token"))
		return
	}
	data := fmt.Sprintf(`{"authorizationToken":"%s","expiresAt":1767326645}`, base64.StdEncoding.EncodeToString([]byte("AWS:pass:word")))
	if strings.HasPrefix(target, "AmazonEC2") {
		data = "[" + data + "]"
	}
	_, _ = fmt.Fprintf(w, `{"authorizationData":%s}`, data)
}

// lab is an Authenticator that knows these services, in an environment without anything of AWS.
func lab(t *testing.T) (*auth.Authenticator, *services, *authtest.Accounts) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	s := &services{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	accounts := authtest.NewAccounts(t)
	a, err := auth.New(auth.Options{
		Clouds: []auth.Cloud{aws.New(aws.Options{
			STS: s.URL, ECR: s.URL, ECRPublic: s.URL, EKS: s.URL, TrustedHosts: []string{strings.TrimPrefix(s.URL, "http://")},
			Clock: clocktesting.NewFakePassiveClock(now()),
		})},
		ServiceAccounts: accounts.Client, ObjectLevel: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	accounts.Put("apps", "team", "1", map[string]string{"eks.amazonaws.com/role-arn": role})
	return a, s, accounts
}

func staticKeys(t *testing.T) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKSTATIC")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
}

func team(edits ...func(*auth.Request)) auth.Request {
	r := auth.Request{Kind: "Bucket", Namespace: "apps", Name: "x", Operation: "reconcile", ServiceAccountName: "team", Region: "eu-west-1"}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func self() auth.Request { return team(func(r *auth.Request) { r.ServiceAccountName = "" }) }

func expect[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// bucket 6: the ways in which a process is given an identity.
func TestOwnKeys(t *testing.T) {
	expires, _ := time.Parse(time.RFC3339, answer)
	for name, test := range map[string]struct {
		env  map[string]string
		want *auth.Keys
		seen []string
	}{
		"environment": {
			env:  map[string]string{"AWS_ACCESS_KEY_ID": "AKSTATIC", "AWS_SECRET_ACCESS_KEY": "canary-secret"},
			want: &auth.Keys{AccessKey: "AKSTATIC", SecretKey: "canary-secret"},
		},
		"web identity": {
			env:  map[string]string{"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": "FILE", "AWS_ROLE_SESSION_NAME": "pod"},
			want: &auth.Keys{AccessKey: "AKROLE", SecretKey: "canary-secret", SessionToken: "canary-session", Expires: expires},
			seen: []string{"sts AssumeRoleWithWebIdentity " + role + " pod content-of-the-file"},
		},
		"pod identity": {
			env: map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL/pod", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "FILE"},
			// The SDK leaves five minutes for the way.
			want: &auth.Keys{AccessKey: "AKPOD", SecretKey: "canary-secret", SessionToken: "canary-session", Expires: expires.Add(-5 * time.Minute)},
			seen: []string{"pod content-of-the-file"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, s, _ := lab(t)
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte("content-of-the-file"), 0o600); err != nil {
				t.Fatal(err)
			}
			for k, v := range test.env {
				t.Setenv(k, strings.NewReplacer("FILE", file, "URL", s.URL).Replace(v))
			}
			got, err := a.Keys(t.Context(), self())
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "keys", test.want, got)
			expect(t, "requests", test.seen, s.seen)
		})
	}
}

// bucket 6, 55; wire 2: the role of a ServiceAccount, at the endpoint that the object names.
func TestAccountKeys(t *testing.T) {
	a, s, accounts := lab(t)
	// Keys of the process must not be used for an account.
	staticKeys(t)
	expires, _ := time.Parse(time.RFC3339, answer)
	for range 2 {
		got, err := a.Keys(t.Context(), team())
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "keys", &auth.Keys{AccessKey: "AKROLE", SecretKey: "canary-secret", SessionToken: "canary-session", Expires: expires}, got)
	}
	asked := "sts AssumeRoleWithWebIdentity " + role + " team.apps.eu-west-1.fluxcd.io " + authtest.TokenOf("apps", "team", "sts.amazonaws.com")
	expect(t, "requests", []string{asked, asked}, s.seen)
	expect(t, "tokens", []string{"apps/team sts.amazonaws.com", "apps/team sts.amazonaws.com"}, accounts.Issued())

	other := &services{}
	server := httptest.NewServer(other)
	t.Cleanup(server.Close)
	if _, err := a.Keys(t.Context(), team(func(r *auth.Request) { r.STSEndpoint = server.URL })); err != nil {
		t.Fatal(err)
	}
	expect(t, "requests to the endpoint of the object", []string{asked}, other.seen)

	accounts.Put("apps", strings.Repeat("x", 70), "1", map[string]string{"eks.amazonaws.com/role-arn": role})
	if _, err := a.Keys(t.Context(), team(func(r *auth.Request) { r.ServiceAccountName = strings.Repeat("x", 70) })); err != nil {
		t.Fatal(err)
	}
	if name := strings.Fields(s.seen[2])[3]; len(name) != 64 {
		t.Errorf("session name %q has %d characters, and AWS takes 64", name, len(name))
	}
}

func TestAccountRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		annotation string
		edit       func(*auth.Request)
		want       error
		text       string
	}{
		"no annotation":                {want: auth.ErrServiceAccount, text: "eks.amazonaws.com/role-arn"},
		"wire 2: a user":               {annotation: "arn:aws:iam::1:user/x", want: auth.ErrServiceAccount, text: "arn:aws:iam::1:user/x"},
		"wire 2: more than a role":     {annotation: role + strings.Repeat("x", 200), want: auth.ErrServiceAccount},
		"bucket 6: no region":          {annotation: role, edit: func(r *auth.Request) { r.Region = "" }, want: auth.ErrRegion},
		"an endpoint that is no URL":   {annotation: role, edit: func(r *auth.Request) { r.STSEndpoint = "ftp://x" }, text: "STS endpoint"},
		"a role of another partition":  {annotation: "arn:aws-cn:iam::1:role/x"},
		"bucket 6: AWS_REGION is none": {annotation: role, edit: func(r *auth.Request) { r.Region = "" }, want: auth.ErrRegion, text: "region"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, accounts := lab(t)
			t.Setenv("AWS_REGION", "eu-west-1")
			accounts.Put("apps", "team", "1", map[string]string{"eks.amazonaws.com/role-arn": test.annotation})
			edit := test.edit
			if edit == nil {
				edit = func(*auth.Request) {}
			}
			_, err := a.Keys(t.Context(), team(edit))
			if test.want == nil && test.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error = %v, want %v and %q in it", err, test.want, test.text)
			}
		})
	}
}

// The token of the process is worth its identity: an object cannot have it sent to a server of its own.
func TestOwnTokenStaysWithAWS(t *testing.T) {
	for endpoint, trusted := range map[string]bool{
		"https://sts.amazonaws.com":                                       true,
		"https://sts.eu-west-1.amazonaws.com":                             true,
		"https://sts-fips.us-east-1.amazonaws.com":                        true,
		"https://sts.cn-north-1.amazonaws.com.cn":                         true,
		"https://sts.eu-west-1.api.aws":                                   true,
		"https://vpce-0a1b-2c.sts.eu-west-1.vpce.amazonaws.com":           true,
		"http://sts.amazonaws.com":                                        false,
		"https://sts.evil.example":                                        false,
		"https://sts.amazonaws.com.evil.example":                          false,
		"https://sts.amazonaws.com@evil.example":                          false,
		"https://x.execute-api.eu-west-1.amazonaws.com":                   false,
		"https://vpce-1.vpce-svc-2.eu-west-1.vpce.amazonaws.com":          false,
		"https://sts.eu-west-1.amazonaws.com:8443":                        false,
		"https://sts.s3.amazonaws.com.s3-website.eu-west-1.amazonaws.com": false,
	} {
		t.Run(endpoint, func(t *testing.T) {
			a, _, _ := lab(t)
			staticKeys(t)
			_, err := a.Keys(t.Context(), func() auth.Request { r := self(); r.STSEndpoint = endpoint; return r }())
			if trusted != (err == nil) || !trusted && !errors.Is(err, auth.ErrUnsupported) {
				t.Errorf("error = %v, want one: %t", err, !trusted)
			}
		})
	}
}

// ocirepository 22: logins of the private and the public registry, by the process and by an account.
func TestRegistries(t *testing.T) {
	const private, public = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "SpencerFrontendService.GetAuthorizationToken"
	for name, test := range map[string]struct {
		repository string
		request    auth.Request
		want       string
	}{
		"private":            {"123456789012.dkr.ecr.eu-west-1.amazonaws.com/app", self(), private + " by AKSTATIC for eu-west-1"},
		"another region":     {"oci://123456789012.dkr.ecr.us-gov-east-1.amazonaws.com/app", self(), private + " by AKSTATIC for us-gov-east-1"},
		"China":              {"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/app", self(), private + " by AKSTATIC for cn-north-1"},
		"FIPS":               {"123456789012.dkr.ecr-fips.us-east-1.amazonaws.com/app", self(), private + " by AKSTATIC for us-east-1"},
		"public":             {"public.ecr.aws/app", self(), public + " by AKSTATIC for us-east-1"},
		"private by account": {"123456789012.dkr.ecr.eu-west-1.amazonaws.com/app", team(), private + " by AKROLE for eu-west-1"},
		"public by account":  {"public.ecr.aws/app", team(), public + " by AKROLE for us-east-1"},
	} {
		t.Run(name, func(t *testing.T) {
			a, s, _ := lab(t)
			staticKeys(t)
			got, err := a.Registry(t.Context(), "aws", test.request, test.repository)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "login", &auth.Login{Username: "AWS", Password: "pass:word", Expires: time.Unix(1767326645, 0).UTC()}, got)
			expect(t, "request", test.want, s.seen[len(s.seen)-1])
		})
	}
}

func TestForeignHosts(t *testing.T) {
	a, s, _ := lab(t)
	staticKeys(t)
	for _, repository := range []string{
		"ghcr.io/app", "evil.example/123456789012.dkr.ecr.eu-west-1.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example/app",
		"12345.dkr.ecr.eu-west-1.amazonaws.com/app", "x.public.ecr.aws/app", "123456789012.dkr.ecr.eu-west-1.amazonaws.com:5000/app",
	} {
		if _, err := a.Registry(t.Context(), "aws", self(), repository); !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("%s: error = %v, want %v", repository, err, auth.ErrUnsupported)
		}
	}
	// gitrepository 23
	for _, repository := range []string{
		"http://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app", "https://codecommit.eu-west-1.amazonaws.com/v1/repos/app",
		"https://git-codecommit.eu-west-1.amazonaws.com.evil.example/v1/repos/app", "ssh://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app",
		"https://git-codecommit.a.b.amazonaws.com/app", "https://git-codecommit.eu-west-1.amazonaws.com:8443/app",
	} {
		u, _ := url.Parse(repository)
		if _, err := a.Git(t.Context(), "aws", self(), u); !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("%s: error = %v, want %v", repository, err, auth.ErrUnsupported)
		}
	}
	expect(t, "requests", nil, s.seen)
}

// gitrepository 23: the signatures were computed with another program.
func TestCodeCommit(t *testing.T) {
	for name, test := range map[string]struct {
		repository string
		request    auth.Request
		want       auth.GitLogin
	}{
		"process": {
			"https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app", self(),
			auth.GitLogin{Username: "AKSTATIC", Password: "20260102T030405Ze48a87abbae93230f64fe43f04abe734811dc0239fb27892f37d76a80c1536c0"},
		},
		"account": {
			"https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/app", team(),
			auth.GitLogin{Username: "AKROLE%canary-session", Password: "20260102T030405Ze48a87abbae93230f64fe43f04abe734811dc0239fb27892f37d76a80c1536c0"},
		},
		"China, FIPS": {
			"https://git-codecommit-fips.cn-north-1.amazonaws.com.cn/v1/repos/app", self(),
			auth.GitLogin{Username: "AKSTATIC", Password: "20260102T030405Z02281088165f92a43a8246876429d0daf9096d71932f7e034a6ce6cdaedf064c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := lab(t)
			staticKeys(t)
			u, err := url.Parse(test.repository)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Git(t.Context(), "aws", test.request, u)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Expires = now().Add(15 * time.Minute)
			expect(t, "login", &test.want, got)
		})
	}
}

// What AWS answers is told with its code, without what it quotes and without the id of the request, which would make every try look new.
func TestErrors(t *testing.T) {
	a, s, _ := lab(t)
	s.refuse = true
	_, err := a.Keys(t.Context(), team())
	want := "obtain a credential from provider 'aws' as service account 'apps/team': assume the role '" + role + "': AccessDenied: Not authorized with ***"
	expect(t, "error of STS", want, fmt.Sprint(err))

	t.Setenv("AWS_SESSION_TOKEN", "canary-session")
	staticKeys(t)
	_, err = a.Registry(t.Context(), "aws", self(), "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app")
	want = "obtain a credential from provider 'aws': get an authorization token of ECR: AccessDeniedException: no, ***"
	expect(t, "error of ECR", want, fmt.Sprint(err))
	_, err = a.Registry(t.Context(), "aws", self(), "public.ecr.aws/app")
	want = "obtain a credential from provider 'aws': get an authorization token of ECR Public: AccessDeniedException: no, ***"
	expect(t, "error of ECR Public", want, fmt.Sprint(err))
}

func TestNoIdentity(t *testing.T) {
	a, _, _ := lab(t)
	if _, err := a.Keys(t.Context(), self()); err == nil || !strings.Contains(err.Error(), "find the keys of the process") {
		t.Errorf("error = %v", err)
	}
}

// The registry may answer anything.
func FuzzRegistryAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"authorizationData":[{"authorizationToken":"QVdTOng=","expiresAt":1}]}`, `{"authorizationData":[]}`, `{"authorizationData":[{}]}`,
		`{"authorizationData":[{"authorizationToken":"QVdT"}]}`, `{"authorizationData":{}}`, `{}`, ``, `[]`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, s, _ := lab(t)
		staticKeys(t)
		s.instead = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
		got, err := a.Registry(t.Context(), "aws", self(), "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app")
		if err == nil && (got.Username == "" || got.Password == "") {
			t.Errorf("login = %+v from %q", got, body)
		}
	})
}
