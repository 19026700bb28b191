package aws_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

const clusterARN = "arn:aws:eks:eu-west-1:123456789012:cluster/fleet"

// cluster answers like DescribeCluster.
func (s *services) cluster(w http.ResponseWriter, r *http.Request) {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	s.saw("eks %s by %s with %s", r.URL.Path, scope, r.Header.Get("X-Amz-Security-Token"))
	if s.refuse {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"message":"not authorized with %s"}`, r.Header.Get("X-Amz-Security-Token"))
		return
	}
	_, _ = fmt.Fprintf(w, `{"cluster":{"name":"fleet","arn":"%s","endpoint":"https://ABC.gr7.eu-west-1.eks.amazonaws.com","certificateAuthority":{"data":"%s"},"status":"ACTIVE"}}`,
		clusterARN, base64.StdEncoding.EncodeToString([]byte("ca")))
}

// kustomization 97: EKS tells the address, and the token is a signed question to STS that names the cluster.
func TestCluster(t *testing.T) {
	a, s, _ := lab(t)
	r := team(func(r *auth.Request) { r.Region = "" })
	got, err := a.Cluster(t.Context(), "aws", r, auth.ClusterTarget{Name: clusterARN})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "address", "https://ABC.gr7.eu-west-1.eks.amazonaws.com", got.Address)
	expect(t, "CA", "ca", string(got.CA))
	expect(t, "end", now().Add(14*time.Minute), got.Expires)
	encoded, ok := strings.CutPrefix(got.Token, "k8s-aws-v1.")
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	if !ok || err != nil {
		t.Fatalf("token = %s: %v", got.Token, err)
	}
	question, err := url.Parse(string(decoded))
	if err != nil {
		t.Fatal(err)
	}
	q := question.Query()
	expect(t, "question", []string{
		"https", "sts.eu-west-1.amazonaws.com", "GetCallerIdentity", "60", "host;x-k8s-aws-id", "AKROLE/20260102/eu-west-1/sts/aws4_request", "canary-session",
	}, []string{
		question.Scheme, question.Host, q.Get("Action"), q.Get("X-Amz-Expires"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Credential"), q.Get("X-Amz-Security-Token"),
	})
	expect(t, "the last request", "eks /clusters/fleet by AKROLE/20260102/eu-west-1/eks/aws4_request with canary-session", s.seen[len(s.seen)-1])
}

// kustomization 97: a token goes to the addresses of the cluster alone.
func TestClusterRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		target auth.ClusterTarget
		refuse bool
		text   string
	}{
		"no name":          {auth.ClusterTarget{}, false, "not an ARN"},
		"a path":           {auth.ClusterTarget{Name: clusterARN + "/../x"}, false, "not an ARN"},
		"a host as region": {auth.ClusterTarget{Name: strings.Replace(clusterARN, "eu-west-1", "evil.test/", 1)}, false, "not an ARN"},
		"another address":  {auth.ClusterTarget{Name: clusterARN, Address: "https://evil.test"}, false, "is none of the cluster"},
		"refused":          {auth.ClusterTarget{Name: clusterARN}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, s, _ := lab(t)
			staticKeys(t)
			s.refuse = test.refuse
			got, err := a.Cluster(t.Context(), "aws", self(), test.target)
			if err == nil {
				t.Fatalf("it was given %+v", got)
			}
			if !test.refuse && !errors.Is(err, auth.ErrUnsupported) || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error = %v, want %q in it", err, test.text)
			}
		})
	}
}
