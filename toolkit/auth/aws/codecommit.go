package aws

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

// signatureLife is how long CodeCommit accepts a signature (contract: gitrepository 23).
const signatureLife = 15 * time.Minute

// codeCommit are the hosts of CodeCommit; the group is the region.
var codeCommit = regexp.MustCompile(`^git-codecommit(?:-fips)?\.([a-z0-9-]{1,63})\.amazonaws\.com(?:\.cn)?$`)

// CheckGit implements auth.GitCloud (contract: gitrepository 23).
func (c *Cloud) CheckGit(repository *url.URL) error {
	if repository.Scheme != "https" || !codeCommit.MatchString(repository.Host) {
		return fmt.Errorf("%w: not a repository of CodeCommit, https://git-codecommit.<region>.amazonaws.com/v1/repos/<name>", auth.ErrUnsupported)
	}
	return nil
}

// Git implements auth.GitCloud.
func (c *Cloud) Git(ctx context.Context, call *auth.Call, repository *url.URL) (auth.GitLogin, error) {
	region := codeCommit.FindStringSubmatch(repository.Host)[1]
	_, keys, err := c.identify(ctx, call, region)
	if err != nil {
		return auth.GitLogin{}, err
	}
	return sign(keys, region, repository, c.options.Clock.Now()), nil
}

// sign makes the login that AWS's own helper for Git makes: the password is the time and the signature, version 4, of a request with the
// method GIT.
func sign(keys auth.Keys, region string, repository *url.URL, now time.Time) auth.GitLogin {
	stamp := now.UTC().Format("20060102T150405")
	scope := stamp[:8] + "/" + region + "/codecommit/aws4_request"
	request := sha256.Sum256([]byte("GIT\n" + repository.EscapedPath() + "\n\nhost:" + repository.Host + "\n\nhost\n"))
	key := []byte("AWS4" + keys.SecretKey)
	for _, part := range []string{stamp[:8], region, "codecommit", "aws4_request"} {
		key = mac(key, part)
	}
	signature := mac(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(request[:]))
	login := auth.GitLogin{Username: keys.AccessKey, Password: stamp + "Z" + hex.EncodeToString(signature), Expires: now.Add(signatureLife)}
	if keys.SessionToken != "" {
		login.Username += "%" + keys.SessionToken
	}
	if !keys.Expires.IsZero() && keys.Expires.Before(login.Expires) {
		login.Expires = keys.Expires
	}
	return login
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text))
	return h.Sum(nil)
}
