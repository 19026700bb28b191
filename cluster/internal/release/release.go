// Package release knows which versions of Kubernetes, etcd and kwok are linked into this program.
package release

import (
	"fmt"
	"runtime/debug"
	"strings"
	_ "unsafe" // for go:linkname

	"k8s.io/component-base/version"
)

// Kubernetes takes its version from linker flags and otherwise calls itself v0.0.0, which clients and charts refuse to work with.
// Setting the variables here lets a plain "go build" or "go install" make a right program.
//
//go:linkname gitVersion k8s.io/component-base/version.gitVersion
var gitVersion string

//go:linkname gitMajor k8s.io/component-base/version.gitMajor
var gitMajor string

//go:linkname gitMinor k8s.io/component-base/version.gitMinor
var gitMinor string

//go:linkname gitCommit k8s.io/component-base/version.gitCommit
var gitCommit string

// Versions are module versions, with their v.
type Versions struct {
	Kubernetes, Etcd, Kwok string
}

// Linked returns the versions that this program was built with.
func Linked() (Versions, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Versions{}, fmt.Errorf("this program carries no build information")
	}
	var v Versions
	for _, module := range info.Deps {
		switch module.Path {
		case "k8s.io/kubernetes":
			v.Kubernetes = module.Version
		case "go.etcd.io/etcd/server/v3":
			v.Etcd = module.Version
		case "sigs.k8s.io/kwok":
			v.Kwok = module.Version
		}
	}
	if v.Kubernetes == "" || v.Etcd == "" || v.Kwok == "" {
		return v, fmt.Errorf("this program's build information lacks a version: %+v", v)
	}
	return v, nil
}

// Stamp makes Kubernetes code in this process report the version it was released as. It is called before that code runs.
func Stamp() error {
	v, err := Linked()
	if err != nil {
		return err
	}
	parts := strings.SplitN(strings.TrimPrefix(v.Kubernetes, "v"), ".", 3)
	if len(parts) != 3 {
		return fmt.Errorf("%q is no Kubernetes version", v.Kubernetes)
	}
	gitVersion, gitMajor, gitMinor, gitCommit = v.Kubernetes, parts[0], parts[1], ""
	return version.SetDynamicVersion(v.Kubernetes)
}
