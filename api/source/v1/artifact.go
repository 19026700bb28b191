package v1

import "github.com/seed-79636ae9/flux/api/meta"

// SetArtifact replaces status.artifact; nil removes it.
func (o *GitRepository) SetArtifact(a *meta.Artifact) { o.Status.Artifact = a }

// SetArtifact replaces status.artifact; nil removes it.
func (o *OCIRepository) SetArtifact(a *meta.Artifact) { o.Status.Artifact = a }

// SetArtifact replaces status.artifact; nil removes it.
func (o *HelmRepository) SetArtifact(a *meta.Artifact) { o.Status.Artifact = a }

// SetArtifact replaces status.artifact; nil removes it.
func (o *HelmChart) SetArtifact(a *meta.Artifact) { o.Status.Artifact = a }

// SetArtifact replaces status.artifact; nil removes it.
func (o *Bucket) SetArtifact(a *meta.Artifact) { o.Status.Artifact = a }
