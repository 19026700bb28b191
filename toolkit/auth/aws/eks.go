package aws

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

const (
	// tokenPrefix is how a cluster tells the version of a token.
	tokenPrefix = "k8s-aws-v1."
	// nameHeader binds a token to one cluster.
	nameHeader = "x-k8s-aws-id"
	// tokenLife is less than the quarter of an hour for which a cluster takes a token, for the sake of clocks that differ.
	tokenLife = 14 * time.Minute
	// emptyHash is the SHA-256 of no content.
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// clusterARN is the form of a cluster's name; the groups are the partition, the region and the name.
var clusterARN = regexp.MustCompile(`^arn:(aws[a-z-]{0,20}):eks:([a-z0-9-]{1,63}):[0-9]{12}:cluster/([a-zA-Z0-9][a-zA-Z0-9_-]{0,99})$`)

// CheckCluster implements auth.ClusterCloud.
func (c *Cloud) CheckCluster(name string) error {
	if !clusterARN.MatchString(name) {
		return fmt.Errorf("%w: it is not an ARN like arn:aws:eks:<region>:<account>:cluster/<name>", auth.ErrUnsupported)
	}
	return nil
}

// Cluster implements auth.ClusterCloud: EKS tells the endpoint, and the token is a request to STS that the cluster makes to see who signed it
// (contract: kustomization 97).
func (c *Cloud) Cluster(ctx context.Context, call *auth.Call, name string) (auth.ClusterAnswer, error) {
	parts := clusterARN.FindStringSubmatch(name)
	partition, region, cluster := parts[1], parts[2], parts[3]
	settings, keys, err := c.identify(ctx, call, region)
	if err != nil {
		return auth.ClusterAnswer{}, err
	}
	signing, err := settings.Credentials.Retrieve(ctx)
	if err != nil {
		return auth.ClusterAnswer{}, explain("find the keys of the process", err)
	}
	endpoint, err := c.describe(ctx, call, signing, partition, region, cluster)
	if err != nil {
		return auth.ClusterAnswer{}, fmt.Errorf("describe the cluster '%s': %w", cluster, err)
	}
	token, err := c.clusterToken(ctx, signing, partition, region, cluster)
	if err != nil {
		return auth.ClusterAnswer{}, fmt.Errorf("sign a token for the cluster '%s': %w", cluster, err)
	}
	call.Hide(token.Value)
	if !keys.Expires.IsZero() && keys.Expires.Before(token.Expires) {
		token.Expires = keys.Expires
	}
	return auth.ClusterAnswer{Endpoints: []auth.ClusterEndpoint{endpoint}, Token: token}, nil
}

// describe asks EKS where the cluster is.
func (c *Cloud) describe(ctx context.Context, call *auth.Call, keys aws.Credentials, partition, region, cluster string) (auth.ClusterEndpoint, error) {
	base := c.options.EKS
	if base == "" {
		base = os.Getenv("AWS_ENDPOINT_URL_EKS")
	}
	if base == "" {
		base = "https://eks." + region + "." + suffix(partition)
	}
	request, err := rest.Get(ctx, strings.TrimRight(base, "/")+"/clusters/"+url.PathEscape(cluster))
	if err != nil {
		return auth.ClusterEndpoint{}, err
	}
	if err := v4.NewSigner().SignHTTP(ctx, keys, request, emptyHash, "eks", region, c.options.Clock.Now()); err != nil {
		return auth.ClusterEndpoint{}, err
	}
	var answer struct {
		Cluster struct {
			Endpoint             string `json:"endpoint"`
			CertificateAuthority struct {
				Data string `json:"data"`
			} `json:"certificateAuthority"`
		} `json:"cluster"`
	}
	if err := rest.JSON(call.HTTP, request, &answer); err != nil {
		return auth.ClusterEndpoint{}, err
	}
	ca, err := base64.StdEncoding.DecodeString(answer.Cluster.CertificateAuthority.Data)
	if err != nil || answer.Cluster.Endpoint == "" || len(ca) == 0 {
		return auth.ClusterEndpoint{}, fmt.Errorf("the answer has no endpoint or no certificate authority: the cluster may not be active yet")
	}
	return auth.ClusterEndpoint{Address: answer.Cluster.Endpoint, CA: ca}, nil
}

// clusterToken signs the request that is the token. The cluster takes it from the endpoints of AWS only.
func (c *Cloud) clusterToken(ctx context.Context, keys aws.Credentials, partition, region, cluster string) (auth.Token, error) {
	query := url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}, "X-Amz-Expires": {"60"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://sts."+region+"."+suffix(partition)+"/?"+query.Encode(), nil)
	if err != nil {
		return auth.Token{}, err
	}
	request.Header.Set(nameHeader, cluster)
	now := c.options.Clock.Now()
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, keys, request, emptyHash, "sts", region, now)
	if err != nil {
		return auth.Token{}, err
	}
	return auth.Token{Value: tokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(signed)), Expires: now.Add(tokenLife)}, nil
}

func suffix(partition string) string {
	if partition == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}
