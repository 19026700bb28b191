package gcp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

// clusterPath is the form of a cluster's name.
var clusterPath = regexp.MustCompile(`^projects/[a-z0-9.:-]{1,100}/locations/[a-z0-9-]{1,63}/clusters/[a-z0-9-]{1,63}$`)

// CheckCluster implements auth.ClusterCloud.
func (c *Cloud) CheckCluster(name string) error {
	if !clusterPath.MatchString(name) {
		return fmt.Errorf("%w: it is not of the form projects/<project>/locations/<location>/clusters/<name>", auth.ErrUnsupported)
	}
	return nil
}

// Cluster implements auth.ClusterCloud (contract: kustomization 97).
func (c *Cloud) Cluster(ctx context.Context, call *auth.Call, name string) (auth.ClusterAnswer, error) {
	token, err := c.Token(ctx, call, nil)
	if err != nil {
		return auth.ClusterAnswer{}, err
	}
	request, err := rest.Get(ctx, c.options.Container+"/v1/"+name)
	if err != nil {
		return auth.ClusterAnswer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+token.Value)
	var answer gkeCluster
	if err := rest.JSON(call.HTTP, request, &answer); err != nil {
		return auth.ClusterAnswer{}, fmt.Errorf("get the cluster: %w", err)
	}
	endpoints, err := answer.endpoints()
	if err != nil {
		return auth.ClusterAnswer{}, fmt.Errorf("get the cluster: %w", err)
	}
	return auth.ClusterAnswer{Endpoints: endpoints, Token: token}, nil
}

// gkeCluster is what is read of the answer.
type gkeCluster struct {
	Endpoint   string `json:"endpoint"`
	MasterAuth struct {
		CA string `json:"clusterCaCertificate"`
	} `json:"masterAuth"`
	ControlPlane struct {
		DNS struct {
			Endpoint string `json:"endpoint"`
		} `json:"dnsEndpointConfig"`
		IP struct {
			Public  string `json:"publicEndpoint"`
			Private string `json:"privateEndpoint"`
		} `json:"ipEndpointsConfig"`
	} `json:"controlPlaneEndpointsConfig"`
}

// endpoints lists the addresses, the usual one first. The name has a certificate that everybody trusts, the numbers have the cluster's own.
func (g *gkeCluster) endpoints() ([]auth.ClusterEndpoint, error) {
	ca, err := base64.StdEncoding.DecodeString(g.MasterAuth.CA)
	if err != nil {
		return nil, errors.New("its certificate authority is not in base64")
	}
	var out []auth.ClusterEndpoint
	add := func(host string, ca []byte) {
		for _, known := range out {
			if known.Address == "https://"+host {
				return
			}
		}
		if host != "" && !strings.ContainsAny(host, "/@?#") {
			out = append(out, auth.ClusterEndpoint{Address: "https://" + host, CA: ca})
		}
	}
	add(g.Endpoint, ca)
	add(g.ControlPlane.IP.Public, ca)
	add(g.ControlPlane.IP.Private, ca)
	add(g.ControlPlane.DNS.Endpoint, nil)
	return out, nil
}
