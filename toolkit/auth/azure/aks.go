package azure

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

const (
	// clusterScope is the application of all clusters of AKS.
	clusterScope = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
	// clusterAPI is the version of the API of the resource provider.
	clusterAPI = "2025-05-01"
)

// clusterID is the form of a cluster's name.
var clusterID = regexp.MustCompile(`(?i)^/subscriptions/[0-9a-f-]{36}/resourceGroups/[a-z0-9._()-]{1,90}/providers/Microsoft\.ContainerService/managedClusters/[a-z0-9_-]{1,63}$`)

// CheckCluster implements auth.ClusterCloud.
func (c *Cloud) CheckCluster(name string) error {
	if !clusterID.MatchString(name) {
		return fmt.Errorf("%w: it is not a resource id like /subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.ContainerService/managedClusters/<name>", auth.ErrUnsupported)
	}
	return nil
}

// Cluster implements auth.ClusterCloud: Azure Resource Manager hands out a kubeconfig without a user, of which the addresses are taken, and Entra ID
// the token (contract: kustomization 97).
func (c *Cloud) Cluster(ctx context.Context, call *auth.Call, name string) (auth.ClusterAnswer, error) {
	manager := c.manager()
	asking, err := c.token(ctx, call, "", []string{manager + "/.default"})
	if err != nil {
		return auth.ClusterAnswer{}, err
	}
	request, err := rest.PostJSON(ctx, manager+name+"/listClusterUserCredential?api-version="+clusterAPI, nil)
	if err != nil {
		return auth.ClusterAnswer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+asking.Value)
	var answer struct {
		Kubeconfigs []struct {
			Value string `json:"value"`
		} `json:"kubeconfigs"`
	}
	if err := rest.JSON(call.HTTP, request, &answer); err != nil {
		return auth.ClusterAnswer{}, fmt.Errorf("list the credentials of the cluster: %w", err)
	}
	var out auth.ClusterAnswer
	for _, k := range answer.Kubeconfigs {
		endpoints, err := endpoints(k.Value)
		if err != nil {
			return auth.ClusterAnswer{}, err
		}
		out.Endpoints = append(out.Endpoints, endpoints...)
	}
	out.Token, err = c.token(ctx, call, "", []string{clusterScope})
	return out, err
}

// manager is the URL of Azure Resource Manager in the cloud of the authority.
func (c *Cloud) manager() string {
	if c.options.Manager != "" {
		return c.options.Manager
	}
	authority := strings.TrimRight(os.Getenv("AZURE_AUTHORITY_HOST"), "/")
	for _, sovereign := range []cloud.Configuration{cloud.AzureChina, cloud.AzureGovernment} {
		if authority == strings.TrimRight(sovereign.ActiveDirectoryAuthorityHost, "/") {
			return strings.TrimRight(sovereign.Services[cloud.ResourceManager].Endpoint, "/")
		}
	}
	return strings.TrimRight(cloud.AzurePublic.Services[cloud.ResourceManager].Endpoint, "/")
}

// endpoints reads the addresses of a kubeconfig. What it says of users is left: it may hold keys, or name programs.
func endpoints(encoded string) ([]auth.ClusterEndpoint, error) {
	var file struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     string `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	content, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || yaml.Unmarshal(content, &file) != nil {
		return nil, errors.New("list the credentials of the cluster: the answer holds no kubeconfig")
	}
	var out []auth.ClusterEndpoint
	for _, c := range file.Clusters {
		ca, err := base64.StdEncoding.DecodeString(c.Cluster.CA)
		if err != nil || c.Cluster.Server == "" {
			return nil, errors.New("list the credentials of the cluster: a kubeconfig without server or with a certificate authority that is not in base64")
		}
		out = append(out, auth.ClusterEndpoint{Address: c.Cluster.Server, CA: ca})
	}
	return out, nil
}
