package sops

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/getsops/sops/v3/keyservice"
)

// VaultLogin is what a ServiceAccount logs in to a Vault with (kustomization 43). OpenBao has the same API.
type VaultLogin struct {
	// Path is where the authentication method listens, auth/kubernetes/login for example.
	Path string
	// Role and JWT are sent there.
	Role, JWT string
}

// vaultPath are the paths of mounts, names of keys and logins. What leads out of a path is refused: the token goes along.
var vaultPath = regexp.MustCompile(`^/?[\w-][\w.-]*(/[\w-][\w.-]*)*/?$`)

// vaultAddress reads an address, in the form in which two of them compare.
func vaultAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" ||
		strings.Trim(u.Path, "/") != "" && !vaultPath.MatchString(u.Path) {
		return nil, errors.New("the address of a Vault has the form https://host:port")
	}
	u.Host = strings.ToLower(u.Host)
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// vault decrypts with the transit engine.
func (d *Decrypter) vault(ctx context.Context, key *keyservice.VaultKey, ciphertext []byte) ([]byte, error) {
	address, err := vaultAddress(key.VaultAddress)
	if err != nil {
		return nil, err
	}
	if !vaultPath.MatchString(key.EnginePath) || !vaultPath.MatchString(key.KeyName) {
		return nil, errors.New("engine_path or key_name is not a path of Vault")
	}
	token, err := d.vaultToken(ctx, address)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct{ Plaintext string }
	}
	target := address.JoinPath("v1", key.EnginePath, "decrypt", key.KeyName)
	body := map[string]string{"ciphertext": string(ciphertext)}
	if err := d.post(ctx, target.String(), http.Header{"X-Vault-Token": {token}}, body, &answer); err != nil {
		return nil, fmt.Errorf("failed to decrypt sops data key from Vault transit backend '%s': %w", strings.Trim(key.EnginePath, "/"), err)
	}
	plain, err := base64.StdEncoding.DecodeString(answer.Data.Plaintext)
	if err != nil {
		return nil, errors.New("the answer of Vault has no data key")
	}
	return checkDataKey(plain)
}

// vaultToken returns the token for an address. A file chooses the address, so that a token that stands for more than the
// owner of the file goes to listed addresses only (reliability 058).
func (d *Decrypter) vaultToken(ctx context.Context, address *url.URL) (string, error) {
	if d.keys.vaultToken != "" {
		if len(d.keys.vaultHosts) > 0 && !slices.Contains(d.keys.vaultHosts, address.String()) {
			return "", fmt.Errorf("the Vault '%s' gets no token: '%s' of the Secret does not list it", address, VaultAddressKey)
		}
		return d.keys.vaultToken, nil
	}
	if token := d.sessions[address.String()]; token != "" {
		return token, nil
	}
	var login *VaultLogin
	var err error
	if d.identity.Vault != nil {
		login, err = d.identity.Vault(ctx, address.String())
	}
	if err != nil {
		return "", err
	}
	if login == nil {
		return "", fmt.Errorf("the Vault '%s' gets no token: add '%s' to the Secret, or have the operator list the address with --sops-vault-configmap",
			address, VaultTokenKey)
	}
	d.hide(login.JWT)
	token, err := d.vaultLogin(ctx, address, login)
	if err != nil {
		return "", fmt.Errorf("log in to the Vault '%s' with the role '%s': %w", address, login.Role, err)
	}
	d.hide(token)
	d.sessions[address.String()] = token
	return token, nil
}

func (d *Decrypter) vaultLogin(ctx context.Context, address *url.URL, login *VaultLogin) (string, error) {
	if !vaultPath.MatchString(login.Path) {
		return "", fmt.Errorf("the login path '%s' is not a path of Vault", login.Path)
	}
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	body := map[string]string{"role": login.Role, "jwt": login.JWT}
	if err := d.post(ctx, address.JoinPath("v1", login.Path).String(), http.Header{}, body, &answer); err != nil {
		return "", err
	}
	if answer.Auth.Token == "" {
		return "", errors.New("the answer has no token")
	}
	return answer.Auth.Token, nil
}

// VaultAddress returns the form in which addresses of Vaults compare: scheme and host in lower case, no slash at the end.
func VaultAddress(address string) (string, error) {
	u, err := vaultAddress(address)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}
