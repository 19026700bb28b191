// Command bench prints the figures of docs/benchmarks.md: what the controllers cost on a real API server. It starts
// a cluster of its own and the built bin/flux, and needs an otherwise idle machine.
//
//	go run ./test/bench            # all figures
//	go run ./test/bench chain fan  # some of them
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// figure is one measurement: what was reached, and what was aimed at.
type figure struct{ name, reached, goal string }

// bench is a cluster with a Git server, and the process under measurement.
type bench struct {
	ctx    context.Context
	dir    string
	plane  *testkit.ControlPlane
	client client.Client
	git    *testkit.GitServer
	sut    *testkit.SUT
}

// scenario is a group of figures that share a scene.
type scenario struct {
	name string
	run  func(*bench) ([]figure, error)
}

func scenarios() []scenario {
	return []scenario{{"chain", (*bench).chain}, {"fan", (*bench).fan}, {"waits", (*bench).waits}, {"push", (*bench).push}}
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	dir, err := os.MkdirTemp("", "flux-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir}
	if b.plane, err = testkit.StartControlPlane(ctx, filepath.Join(dir, "cluster")); err != nil {
		return err
	}
	defer b.plane.Stop()
	if err := testkit.ApplyCRDs(ctx, b.plane.Config); err != nil {
		return err
	}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme} {
		if err := add(s); err != nil {
			return err
		}
	}
	if b.client, err = client.New(b.plane.Config, client.Options{Scheme: s}); err != nil {
		return err
	}
	if b.git, err = testkit.NewGitServer(filepath.Join(dir, "git"), nil); err != nil {
		return err
	}
	defer b.git.Close()
	for _, sc := range scenarios() {
		if len(names) > 0 && !slices.Contains(names, sc.name) {
			continue
		}
		figures, err := sc.run(b)
		if b.sut != nil {
			_ = b.sut.Stop()
			b.sut = nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		for _, f := range figures {
			fmt.Printf("%-62s %-34s goal %s\n", f.name, f.reached, f.goal)
		}
	}
	return nil
}

// start runs the controllers.
func (b *bench) start(name string, flags ...string) (err error) {
	b.sut, err = testkit.StartSUT(b.ctx, testkit.SUTOptions{
		Components: []string{"source-controller", "kustomize-controller"},
		Kubeconfig: b.plane.Kubeconfig, Dir: filepath.Join(b.dir, "sut-"+name), Flags: flags,
	})
	return err
}

// source creates a namespace with a repository and its GitRepository, and waits for the artifact.
func (b *bench) source(ns string, files map[string]string) (*testkit.GitRepo, error) {
	repo, err := b.git.Repo(ns)
	if err != nil {
		return nil, err
	}
	if err := commit(repo, files); err != nil {
		return nil, err
	}
	if err := b.client.Create(b.ctx, namespace(ns)); err != nil {
		return nil, err
	}
	g := &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "repo"},
		Spec: sourcev1.GitRepositorySpec{
			URL: b.git.URL + "/" + ns + ".git", Interval: "1h", Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
		},
	}
	if err := b.client.Create(b.ctx, g); err != nil {
		return nil, err
	}
	return repo, b.await(time.Minute, &sourcev1.GitRepositoryList{}, ns, func(o client.Object) bool {
		return o.(*sourcev1.GitRepository).Status.Artifact != nil
	}, 1)
}

func commit(repo *testkit.GitRepo, files map[string]string) error {
	c := testkit.GitCommit{Branch: "main", Message: "change", Files: map[string]*testkit.GitFile{}}
	for path, content := range files {
		c.Files[path] = &testkit.GitFile{Content: content}
	}
	_, err := repo.Commit(c)
	return err
}

// pause between looks; a look is answered from the API server's cache and costs it little.
const pause = 100 * time.Millisecond

// await looks until count objects of the list satisfy the condition.
func (b *bench) await(limit time.Duration, list client.ObjectList, ns string, ok func(client.Object) bool, count int) error {
	deadline := time.Now().Add(limit)
	for {
		err := b.client.List(b.ctx, list, client.InNamespace(ns), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}})
		if err != nil {
			return err
		}
		done := 0
		err = apimeta.EachListItem(list, func(o runtime.Object) error {
			if ok(o.(client.Object)) {
				done++
			}
			return nil
		})
		if err != nil || done >= count {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d after %s", done, count, limit)
		}
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
}

func ready(o client.Object) bool {
	k := o.(*kustomizev1.Kustomization)
	for _, c := range k.Status.Conditions {
		if c.Type == meta.ReadyCondition {
			return c.Status == metav1.ConditionTrue && c.ObservedGeneration == k.Generation
		}
	}
	return false
}

func kustomization(ns, name, path string) *kustomizev1.Kustomization {
	return &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: kustomizev1.KustomizationSpec{
			Interval: "1h", Path: path, Prune: true, TargetNamespace: ns,
			SourceRef: kustomizev1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: "repo"},
		},
	}
}

// app is what the public benchmark of 2.9 applies: a Deployment scaled to zero, a Service, a ServiceAccount and an Ingress.
func app(name string) map[string]string {
	return map[string]string{
		"apps/" + name + "/app.yaml": strings.ReplaceAll(appTemplate, "NAME", name),
	}
}

const appTemplate = `apiVersion: v1
kind: ServiceAccount
metadata: {name: NAME}
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec:
  selector: {app: NAME}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 0
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      serviceAccountName: NAME
      containers: [{name: app, image: "registry.example.com/app:1.0.0", ports: [{containerPort: 8080}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: NAME}
spec:
  rules:
  - host: NAME.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: NAME, port: {name: http}}}}]}
`
