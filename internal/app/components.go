// Package app turns flags into a running process. It holds the one list of components and alone knows them all.
package app

import (
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/generate"
	"github.com/seed-79636ae9/flux/internal/helm"
	"github.com/seed-79636ae9/flux/internal/image"
	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/internal/notify"
	"github.com/seed-79636ae9/flux/internal/source"
)

// Components is the list of what this build can run.
func Components() []component.Component {
	return []component.Component{
		source.Component(), kustomize.Component(), helm.Component(), notify.Component(), generate.Component(), image.Reflector(),
		image.Automation(),
	}
}
