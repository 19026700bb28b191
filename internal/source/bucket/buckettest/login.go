package buckettest

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// AzureLogin issues tokens as Microsoft Entra ID and the metadata server of a virtual machine do.
type AzureLogin struct {
	// Token is what is issued.
	Token string
	// Admit decides about the form of a token request, or about the query of a request to the metadata server.
	Admit func(url.Values) bool

	mu    sync.Mutex // guards hosts
	hosts []string
}

// Hosts returns which hosts tokens were asked of since the last call.
func (l *AzureLogin) Hosts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.hosts
	l.hosts = nil
	return out
}

// ServeHTTP implements http.Handler.
func (l *AzureLogin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := "https://" + r.Host
	switch {
	case strings.HasSuffix(r.URL.Path, "/discovery/instance"):
		writeJSON(w, map[string]any{
			"tenant_discovery_endpoint": host + "/tenant/v2.0/.well-known/openid-configuration",
			"metadata":                  []any{map[string]any{"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host}}},
		})
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		tenant := host + strings.TrimSuffix(r.URL.Path, "/v2.0/.well-known/openid-configuration")
		writeJSON(w, map[string]any{
			"authorization_endpoint": tenant + "/oauth2/v2.0/authorize", "token_endpoint": tenant + "/oauth2/v2.0/token", "issuer": tenant + "/v2.0",
		})
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
		l.issue(w, r, func() url.Values {
			_ = r.ParseForm()
			return r.PostForm
		}())
	case strings.HasSuffix(r.URL.Path, "/metadata/identity/oauth2/token"):
		l.issue(w, r, r.URL.Query())
	default:
		http.NotFound(w, r)
	}
}

func (l *AzureLogin) issue(w http.ResponseWriter, r *http.Request, values url.Values) {
	l.mu.Lock()
	l.hosts = append(l.hosts, r.Host)
	l.mu.Unlock()
	if l.Admit != nil && !l.Admit(values) {
		w.WriteHeader(http.StatusUnauthorized)
		writeJSON(w, map[string]string{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
		return
	}
	writeJSON(w, map[string]any{"token_type": "Bearer", "expires_in": 3600, "expires_on": 4102444800, "resource": "https://storage.azure.com", "access_token": l.Token})
}

// LDAP is a security token service whose users have a name and a password.
type LDAP struct {
	// Username and Password of the user, Access, Secret and Session the keys that are issued.
	Username, Password      string
	Access, Secret, Session string
}

// ServeHTTP implements http.Handler.
func (l *LDAP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("Action") != "AssumeRoleWithLDAPIdentity" {
		http.Error(w, "unknown action", http.StatusBadRequest)
		return
	}
	if r.PostForm.Get("LDAPUsername") != l.Username || r.PostForm.Get("LDAPPassword") != l.Password {
		w.WriteHeader(http.StatusForbidden)
		writeXML(w, struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Code    string   `xml:"Error>Code"`
			Message string   `xml:"Error>Message"`
		}{Code: "InvalidParameterValue", Message: "LDAP server error"})
		return
	}
	writeXML(w, struct {
		XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithLDAPIdentityResponse"`
		Access  string   `xml:"AssumeRoleWithLDAPIdentityResult>Credentials>AccessKeyId"`
		Secret  string   `xml:"AssumeRoleWithLDAPIdentityResult>Credentials>SecretAccessKey"`
		Expires string   `xml:"AssumeRoleWithLDAPIdentityResult>Credentials>Expiration"`
		Session string   `xml:"AssumeRoleWithLDAPIdentityResult>Credentials>SessionToken"`
	}{Access: l.Access, Secret: l.Secret, Session: l.Session, Expires: "2100-01-01T00:00:00Z"})
}
