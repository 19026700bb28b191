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

// SetURL replaces status.url, the address of the latest artifact under a name that does not change.
func (o *OCIRepository) SetURL(url string) { o.Status.URL = url }

// SetURL replaces status.url, the address of the latest artifact under a name that does not change.
func (o *HelmRepository) SetURL(url string) { o.Status.URL = url }

// SetURL replaces status.url, the address of the latest artifact under a name that does not change.
func (o *HelmChart) SetURL(url string) { o.Status.URL = url }

// SetURL replaces status.url, the address of the latest artifact under a name that does not change.
func (o *Bucket) SetURL(url string) { o.Status.URL = url }
