package render

import (
	"fmt"
	"path"
	"slices"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// emptyNamespace makes a generated kustomization that lists nothing differ from an empty one, which kustomize
// refuses (kustomization 30).
const emptyNamespace = "_placeholder"

// prepare puts the kustomization file to build into memory: the one of the directory with the spec added
// (kustomization 28, 31-34), or a generated one (29, 30). It returns the files the latter lists.
func (f *fileSystem) prepare(dir string, spec Spec) (listed []string, err error) {
	var k types.Kustomization
	name := path.Join(dir, "kustomization.yaml")
	switch found := f.kustomizationFiles(dir); len(found) {
	case 0:
		if listed, err = f.list(dir, nil); err != nil {
			return nil, err
		}
		k.FixKustomization()
		k.Resources = make([]string, len(listed))
		for i, l := range listed {
			k.Resources[i] = "./" + relative(dir, l)
		}
		if len(listed) == 0 {
			k.Namespace = emptyNamespace
		}
	case 1:
		name = found[0]
		content, err := f.readTree(name)
		if err != nil {
			return nil, err
		}
		if err := k.Unmarshal(content); err != nil {
			// Kustomize says what is wrong with it, as it does with every other kustomization file.
			return nil, nil
		}
		if len(k.Resources)+len(k.Bases) == 0 && !slices.Contains(k.BuildMetadata, types.OriginAnnotations) {
			k.BuildMetadata = append(k.BuildMetadata, types.OriginAnnotations)
		}
	default:
		return nil, nil // kustomize reports it
	}
	if err := f.augment(&k, dir, spec); err != nil {
		return nil, err
	}
	content, err := yaml.Marshal(k)
	if err != nil {
		return nil, err
	}
	if content, err = f.transform(name, content); err != nil {
		return nil, f.fail(err)
	}
	f.files[name] = content
	return listed, nil
}

// list finds what a generated kustomization names: manifests, and directories that have a kustomization file of
// their own, which are not searched further.
func (f *fileSystem) list(dir string, listed []string) ([]string, error) {
	entries, err := f.entries(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if f.listed++; f.listed > f.limits.Files {
			return nil, fmt.Errorf("generate kustomization.yaml: more than %d files and directories; add a kustomization.yaml or a narrower path", f.limits.Files)
		}
		name := path.Join(dir, e.Name())
		if f.ignore != nil && f.ignore(relative(Root, name), e.IsDir()) {
			continue
		}
		ext := path.Ext(name)
		switch {
		case e.IsDir() && len(f.kustomizationFiles(name)) > 0:
			listed = append(listed, name)
		case e.IsDir():
			if err := f.ctx.Err(); err != nil {
				return nil, err
			}
			if listed, err = f.list(name, listed); err != nil {
				return nil, err
			}
		case ext == ".yaml" || ext == ".yml":
			listed = append(listed, name)
		}
	}
	return listed, nil
}

// augment adds what the Kustomization object asks for to a kustomization file (kustomization 32-34).
func (f *fileSystem) augment(k *types.Kustomization, dir string, spec Spec) error {
	if spec.TargetNamespace != "" {
		k.Namespace = spec.TargetNamespace
	}
	if spec.NamePrefix != "" {
		k.NamePrefix = spec.NamePrefix
	}
	if spec.NameSuffix != "" {
		k.NameSuffix = spec.NameSuffix
	}
	k.Patches = append(k.Patches, inline(spec.Patches)...)
	k.PatchesJson6902 = append(k.PatchesJson6902, inline(spec.PatchesJSON6902)...)
	for _, p := range spec.PatchesStrategicMerge {
		k.PatchesStrategicMerge = append(k.PatchesStrategicMerge, types.PatchStrategicMerge(p))
	}
	for _, c := range spec.Components {
		if path.IsAbs(c) || isRemote(c) {
			return fmt.Errorf("component path '%s' must be local and relative to spec.path", c)
		}
		if spec.IgnoreMissingComponents && !f.Exists(path.Join(dir, c)) {
			continue
		}
		k.Components = append(k.Components, c)
	}
	k.Images = mergeImages(k.Images, spec.Images)
	if len(spec.BuildMetadata) > 0 {
		k.BuildMetadata = spec.BuildMetadata
	}
	return nil
}

func inline(patches []types.Patch) []types.Patch {
	out := make([]types.Patch, len(patches))
	for i, p := range patches {
		out[i] = types.Patch{Patch: p.Patch, Target: p.Target, Options: p.Options}
	}
	return out
}

// mergeImages merges by name. A tag and a digest belong together: setting one drops the other of the file.
func mergeImages(images, override []types.Image) []types.Image {
	for _, o := range override {
		i := slices.IndexFunc(images, func(im types.Image) bool { return im.Name == o.Name })
		if i < 0 {
			images = append(images, o)
			continue
		}
		if o.NewName != "" {
			images[i].NewName = o.NewName
		}
		if o.NewTag != "" || o.Digest != "" {
			images[i].NewTag, images[i].Digest = o.NewTag, o.Digest
		}
	}
	return images
}

// clampPath makes spec.path an absolute path below Root; ".." cannot climb above it.
func clampPath(p string) string {
	return path.Join(Root, path.Clean("/"+p))
}
