package sops_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getsops/sops/v3/azkv"
	"github.com/getsops/sops/v3/gcpkms"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/kms"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/sops"
	"github.com/seed-79636ae9/flux/toolkit/sops/sopstest"
)

const (
	arn      = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	resource = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
)

// workload is an identity that is known to all clouds.
func workload() sops.Identity {
	return sops.Identity{
		AWS: func(_ context.Context, region string) (*auth.Keys, error) {
			return &auth.Keys{AccessKey: "ASIAWORKLOAD", SecretKey: "workload-secret", SessionToken: "in " + region}, nil
		},
		Token: func(_ context.Context, provider, scope string) (*auth.Token, error) {
			return &auth.Token{Value: provider + "-token-for-" + scope}, nil
		},
		Vault: func(_ context.Context, address string) (*sops.VaultLogin, error) {
			return &sops.VaultLogin{Path: "auth/kubernetes/login", Role: "apps_deployer", JWT: "token-for-" + address}, nil
		},
	}
}

// kustomization 40, 42, 43: what the Secret holds wins over the identity, and each service gets what is meant for it.
func TestKeyServices(t *testing.T) {
	s := sopstest.NewServices(t)
	awsKeys := "aws_access_key_id: AKIASTATIC\naws_secret_access_key: static-secret\n"
	now := time.Now()
	azure := &azkv.MasterKey{VaultURL: s.URL, Name: "sops", Version: "0123456789abcdef", CreationDate: now}
	vault := hcvault.NewMasterKey(s.URL, "team/transit", "sops")
	for name, test := range map[string]struct {
		key  keys.MasterKey
		data []string
		want []string
	}{
		"AWS, keys of the Secret":      {&kms.MasterKey{Arn: arn, CreationDate: now}, []string{sops.AWSKey, awsKeys}, []string{"Credential=AKIASTATIC/", "/eu-west-1/kms/"}},
		"AWS, identity":                {&kms.MasterKey{Arn: arn, CreationDate: now}, nil, []string{"Credential=ASIAWORKLOAD/"}},
		"AWS, role of the file":        {&kms.MasterKey{Arn: arn, Role: "arn:aws:iam::123456789012:role/sops", CreationDate: now}, []string{sops.AWSKey, awsKeys}, []string{"Credential=AKIASTATIC/", "/eu-west-1/sts/", "Credential=ASIAROLE/"}},
		"GCP, key of the Secret":       {&gcpkms.MasterKey{ResourceID: resource, CreationDate: now}, []string{sops.GCPKey, sopstest.GCPKey(t, s.URL+"/token")}, []string{"POST /v1/" + resource + ":decrypt Bearer static-gcp-token"}},
		"GCP, identity":                {&gcpkms.MasterKey{ResourceID: resource, CreationDate: now}, nil, []string{"Bearer gcp-token-for-https://www.googleapis.com/auth/cloudkms"}},
		"Azure, application":           {azure, []string{sops.AzureKey, "tenantId: tenant\nclientId: app\nclientSecret: azure-secret\nauthorityHost: " + s.URL}, []string{"POST /keys/sops/0123456789abcdef/decrypt Bearer static-azure-token"}},
		"Azure, in the words of az":    {azure, []string{sops.AzureKey, `{"tenant": "tenant", "appId": "app", "password": "azure-secret", "authorityHost": "` + s.URL + `"}`}, []string{"Bearer static-azure-token"}},
		"Azure, certificate":           {azure, []string{sops.AzureKey, "tenantId: tenant\nclientId: app\nauthorityHost: " + s.URL + "\nclientCertificate: |\n" + sopstest.Certificate(t)}, []string{"Bearer static-azure-token"}},
		"Azure, identity":              {azure, nil, []string{"Bearer azure-token-for-https://vault.azure.net/.default"}},
		"Vault, token":                 {vault, []string{sops.VaultTokenKey, "static-vault-token\n"}, []string{"POST /v1/team/transit/decrypt/sops static-vault-token"}},
		"Vault, token for the address": {vault, []string{sops.VaultTokenKey, "static-vault-token", sops.VaultAddressKey, "https://other\n" + s.URL + "/"}, []string{"static-vault-token"}},
		"Vault, login of the workload": {vault, nil, []string{"POST /v1/auth/kubernetes/login  apps_deployer token-for-" + s.URL, "POST /v1/team/transit/decrypt/sops session-token"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Seen = nil
			content := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(test.key)}.Encrypt(t, "password: swordfish\n")
			d := sops.New(sops.Options{Keys: parse(t, test.data...), Identity: workload(), HTTP: s.Client(), Endpoints: s.Endpoints()})
			for range 2 {
				got, err := d.Decrypt(t.Context(), content, sops.YAML, sops.YAML)
				if err != nil || string(got) != "password: swordfish\n" {
					t.Fatalf("got %q, %v\n%s", got, err, strings.Join(s.Seen, "\n"))
				}
			}
			if !d.Remote() {
				t.Error("the key service is forgotten")
			}
			all := strings.Join(s.Seen, "\n")
			for _, want := range test.want {
				if !strings.Contains(all, want) {
					t.Errorf("no request with %q:\n%s", want, all)
				}
			}
			if strings.Count(all, "login") > 1 {
				t.Errorf("more than one login:\n%s", all)
			}
			if len(test.data) > 0 && (strings.Contains(all, "token-for-") || strings.Contains(all, "WORKLOAD")) {
				t.Errorf("the identity was used:\n%s", all)
			}
		})
	}
}

// reliability 058: neither the environment nor what a file says sends a credential anywhere.
func TestCredentialsStayAtHome(t *testing.T) {
	canary := "canary-credential"
	id := sopstest.NewIdentity(t)
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"VAULT_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_ID", "AZURE_TENANT_ID",
		"AZURE_CLIENT_SECRET", "GOOGLE_CREDENTIALS", "GOOGLE_OAUTH_ACCESS_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "SOPS_VAULT_AUTH"} {
		t.Setenv(name, canary)
	}
	t.Setenv("SOPS_AGE_KEY", id.Private)
	t.Setenv("SOPS_AGE_KEY_CMD", "echo "+id.Private)
	now := time.Now()
	listed := workload().Vault
	var asked []string
	attacker := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked = append(asked, fmt.Sprint(r.URL, r.Header))
	}))
	t.Cleanup(attacker.Close)
	t.Setenv("VAULT_ADDR", attacker.URL)
	t.Setenv("AWS_ENDPOINT_URL", attacker.URL)
	for name, test := range map[string]struct {
		key      keys.MasterKey
		data     []string
		identity sops.Identity
		want     string
	}{
		"Vault, environment":       {hcvault.NewMasterKey(attacker.URL, "transit", "sops"), nil, sops.Identity{}, "gets no token: add 'sops.vault-token' to the Secret, or have the operator list"},
		"Vault, not listed":        {hcvault.NewMasterKey(attacker.URL, "transit", "sops"), nil, sops.Identity{Vault: func(ctx context.Context, a string) (*sops.VaultLogin, error) { return nil, nil }}, "gets no token"},
		"Vault, token for another": {hcvault.NewMasterKey(attacker.URL, "transit", "sops"), []string{sops.VaultTokenKey, canary, sops.VaultAddressKey, "https://vault.example.com"}, sops.Identity{}, "'sops.vault-address' of the Secret does not list it"},
		"Vault, path":              {hcvault.NewMasterKey(attacker.URL, "../../v1/auth", "sops"), nil, sops.Identity{Vault: listed}, "is not a path of Vault"},
		"Vault, user":              {hcvault.NewMasterKey("https://a:b@vault", "transit", "sops"), nil, sops.Identity{Vault: listed}, "the address of a Vault has the form"},
		"Azure, host":              {&azkv.MasterKey{VaultURL: attacker.URL, Name: "sops", Version: "1", CreationDate: now}, nil, workload(), "is not a host of Azure Key Vault, and gets no token"},
		"Azure, look-alike":        {&azkv.MasterKey{VaultURL: "https://x.vault.azure.net.example.com", Name: "sops", Version: "1", CreationDate: now}, nil, workload(), "is not a host of Azure Key Vault"},
		"Azure, environment":       {&azkv.MasterKey{VaultURL: "https://x.vault.azure.net", Name: "sops", Version: "1", CreationDate: now}, nil, sops.Identity{}, "no credentials for Azure Key Vault"},
		"AWS, environment":         {&kms.MasterKey{Arn: arn, CreationDate: now}, nil, sops.Identity{}, "no credentials for AWS KMS"},
		"AWS, region":              {&kms.MasterKey{Arn: "arn:aws:kms:evil.example.com/#:123456789012:key/a", CreationDate: now}, nil, workload(), "the ARN is not one of a key"},
		"GCP, environment":         {&gcpkms.MasterKey{ResourceID: resource, CreationDate: now}, nil, sops.Identity{}, "no credentials for GCP KMS"},
		"GCP, resource":            {&gcpkms.MasterKey{ResourceID: "projects/p/../../evil", CreationDate: now}, nil, workload(), "the resource id is not that of a key"},
		"age, environment":         {sopstest.Recipient(t, id.Public), nil, sops.Identity{}, "no age identity"},
		"PGP, keyring":             {sopstest.PGPKey("ABCD"), nil, sops.Identity{}, "no PGP key"},
	} {
		t.Run(name, func(t *testing.T) {
			f := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(test.key)}
			if strings.HasPrefix(name, "PGP") {
				entity, _ := sopstest.NewPGP(t)
				f.PGP = append(f.PGP, entity)
			}
			content := f.Encrypt(t, "password: swordfish\n")
			d := sops.New(sops.Options{Keys: parse(t, test.data...), Identity: test.identity, HTTP: attacker.Client()})
			_, err := d.Decrypt(t.Context(), content, sops.YAML, sops.YAML)
			// The library breaks lines.
			failsWith(t, joined(err), test.want, canary, "token-for", "workload-secret")
		})
	}
	if len(asked) > 0 {
		t.Errorf("the attacker was asked: %v", asked)
	}
}

// A message that repeats stays the same: no ids of requests, no times.
func TestCloudRefusals(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Requestid", "request-4711")
		switch {
		case r.Header.Get("X-Amz-Target") != "":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type": "AccessDeniedException", "message": "not authorized to perform: kms:Decrypt"}`))
		case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
			base := "https://" + r.Host + "/tenant/oauth2/v2.0"
			_, _ = fmt.Fprintf(w, `{"token_endpoint": "%s/token", "authorization_endpoint": "%s/authorize", "issuer": "https://%s/tenant/v2.0"}`, base, base, r.Host)
		default:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided. Trace ID: request-4711 Timestamp: now"}`))
		}
	}))
	t.Cleanup(server.Close)
	now := time.Now()
	for want, test := range map[string]struct {
		key  keys.MasterKey
		data []string
	}{
		"AccessDeniedException: not authorized to perform: kms:Decrypt": {
			&kms.MasterKey{Arn: arn, CreationDate: now}, []string{sops.AWSKey, "aws_access_key_id: AKIA\naws_secret_access_key: aws-secret-key\n"},
		},
		"Entra ID answered 401: AADSTS7000215: Invalid client secret provided.": {
			&azkv.MasterKey{VaultURL: server.URL, Name: "sops", Version: "1", CreationDate: now},
			[]string{sops.AzureKey, "tenantId: tenant\nclientId: app\nclientSecret: azure-secret\nauthorityHost: " + server.URL},
		},
	} {
		content := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(test.key)}.Encrypt(t, "a: b\n")
		d := sops.New(sops.Options{
			Keys: parse(t, test.data...), HTTP: server.Client(), Endpoints: sops.Endpoints{AWS: server.URL, AzureHosts: []string{strings.TrimPrefix(server.URL, "https://")}},
		})
		_, err := d.Decrypt(t.Context(), content, sops.YAML, sops.YAML)
		failsWith(t, joined(err), want, "request-4711", "aws-secret-key", "azure-secret")
	}
}

// A redirect would take the token along, and what a server says of it is not shown.
func TestRedirectsAndRefusals(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked with %v", r.Header) }))
	t.Cleanup(elsewhere.Close)
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "answered 307"},
		"refusal": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no "+r.Header.Get("X-Vault-Token"), http.StatusForbidden)
		}, "answered 403 Forbidden: no ***"},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("swordfish")) }, "an answer that is not the expected JSON"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data": "` + strings.Repeat("x", 1<<20)))
		}, "an answer that is not the expected JSON"},
		"no key": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data": {}}`)) }, "the data key has 0 bytes"},
		"a long key": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"data": {"plaintext": "` + strings.Repeat("QUFB", 1000) + `"}}`))
		}, "the data key has 3000 bytes"},
		"a broken key": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"data": {"plaintext": "%"}}`)) }, "the answer of Vault has no data key"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.handler)
			t.Cleanup(server.Close)
			content := sopstest.File{Format: sops.YAML, Groups: sopstest.Group(hcvault.NewMasterKey(server.URL, "transit", "sops"))}.Encrypt(t, "a: b\n")
			_, err := sops.New(sops.Options{Keys: parse(t, sops.VaultTokenKey, "token-of-vault")}).Decrypt(t.Context(), content, sops.YAML, sops.YAML)
			failsWith(t, joined(err), test.want, "token-of-vault", "swordfish")
		})
	}
}

// joined undoes the line breaks of the library.
func joined(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "|", "")), " "))
}
