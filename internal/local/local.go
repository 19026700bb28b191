// Package local gives one directory of this machine an environment of its own: an embedded control plane, the controllers, a Git
// server and an OCI registry on loopback, all in one background process and its children. It is the whole of `flux up`, `flux down`
// and `flux status` but for words and flags.
package local

import (
	"context"
	"io"
)

const (
	loopback = "127.0.0.1"
	// Namespace is where the controllers' objects live, and Name what the source and the Kustomization that follow the repository
	// are called.
	Namespace = "flux-system"
	Name      = "flux-system"
	// fieldManager is the manager name of every write made for a human (cli 6).
	fieldManager = "flux"
	// DemoDir is the working clone that is made below the directory of an environment without a repository of its own.
	DemoDir = "flux-demo"
)

// Options are the user's choices for an environment.
type Options struct {
	// Directory is where the user is: the environment belongs to it. Absolute.
	Directory string `json:"directory"`
	// Data is where the environment keeps its files; empty: below the user's cache directory.
	Data string `json:"data,omitempty"`
	// Keep makes the state survive Down.
	Keep bool `json:"keep"`
	// Repo is what to follow: a directory in a Git working tree, an http(s) URL, or empty for a new demo repository.
	Repo string `json:"repo,omitempty"`
	// Branch to follow; empty: the one that the repository is on.
	Branch string `json:"branch,omitempty"`
	// Path of the manifests in the repository; empty: the directory itself, the root of a URL, "apps" of the demo repository.
	Path string `json:"path,omitempty"`
	// Ports on loopback.
	Ports Ports `json:"ports"`
	// Version of this program, for the state.
	Version string `json:"version"`
}

// Ports are the ports of an environment on loopback; 0 means a free one, or the one an earlier life of a kept environment had.
type Ports struct {
	Kubernetes int `json:"kubernetes"`
	Git        int `json:"git"`
	Registry   int `json:"registry"`
	Artifacts  int `json:"artifacts"`
	Metrics    int `json:"metrics"`
	Health     int `json:"health"`
	Hooks      int `json:"hooks"`
}

// ControllersOptions are what the controllers of an environment need to know.
type ControllersOptions struct {
	// Kubeconfig is the file to connect with.
	Kubeconfig string
	// Dir is an existing directory for artifacts and caches.
	Dir string
	// ArtifactsAddr, MetricsAddr, HealthAddr and HooksAddr are the host:port to listen on; events are taken at the first.
	ArtifactsAddr, MetricsAddr, HealthAddr, HooksAddr string
	// Log takes the log lines.
	Log io.Writer
	// Started is called once all controllers work.
	Started func()
}

// Controllers runs the controllers until ctx ends. It is handed in by the application: this package knows no component.
type Controllers func(ctx context.Context, o ControllersOptions) error

// Progress is one line of news from the background process. Exactly one of Text, Warning, Error and State is set.
type Progress struct {
	// Text is a step that is done.
	Text string `json:"text,omitempty"`
	// Warning deserves a look and stops nothing.
	Warning string `json:"warning,omitempty"`
	// Error says why the environment, or its first sync when Running, failed.
	Error string `json:"error,omitempty"`
	// Running comes with an Error that leaves the environment up.
	Running bool `json:"running,omitempty"`
	// State comes when everything is up; Synced tells that the repository has been applied as well.
	State  *State `json:"state,omitempty"`
	Synced bool   `json:"synced,omitempty"`
}
