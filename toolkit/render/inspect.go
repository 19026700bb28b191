package render

import (
	"bytes"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// visit reads the kustomizations a build will reach, before it takes its turn: what they need from other hosts or
// from a key service must not keep other builds waiting. Mistakes are left to kustomize, which words them.
func (b *build) visit(dir string) error {
	dir, err := b.fs.resolve(dir)
	if err != nil || b.visited[dir] {
		return b.fs.failure
	}
	b.visited[dir] = true
	for _, name := range b.fs.kustomizationFiles(dir) {
		content, err := b.fs.ReadFile(name)
		if err != nil {
			return b.fs.failure
		}
		b.fs.files[name] = content
	}
	for _, child := range b.children[dir] {
		if b.fs.IsDir(child) {
			if err := b.visit(child); err != nil {
				return err
			}
		}
	}
	return nil
}

// transform is what happens to a file between the disk and kustomize.
func (b *build) transform(name string, content []byte) ([]byte, error) {
	if use, ok := b.uses[name]; ok && b.opts.Decrypt != nil {
		if err := b.limits.guard(content); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		plain, err := b.opts.Decrypt.File(b.ctx, use, content)
		if err != nil {
			return nil, decryptError{err}
		}
		content = plain
	}
	if err := b.limits.guard(content); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if b.schemas[name] {
		if err := guardSchema(content); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	if isKustomizationFile(name) {
		return b.kustomization(name, content)
	}
	return content, nil
}

// kustomization looks through a kustomization file for what kustomize would do on its own and must not: start git,
// or open connections without limits. Such references are replaced by files and directories below remoteDir.
func (b *build) kustomization(name string, content []byte) ([]byte, error) {
	var k types.Kustomization
	if err := k.Unmarshal(content); err != nil {
		return content, nil // kustomize fails on it the same way
	}
	dir := path.Dir(name)
	if b.depth[dir] > b.limits.Depth {
		return nil, fmt.Errorf("read %s: more than %d kustomizations stand on each other", name, b.limits.Depth)
	}
	if len(k.OpenAPI) > 0 {
		b.openAPI = true
		if b.hasTurn && !b.alone {
			return nil, errSchemaLate
		}
	}
	e := editor{build: b, dir: dir}
	e.bases(k.Resources)
	e.bases(k.Bases)
	e.bases(k.Components)
	e.plugins(k.Generators)
	e.plugins(k.Transformers)
	e.plugins(k.Validators)
	e.loads(k.Crds)
	e.loads(k.Configurations)
	if p, ok := k.OpenAPI["path"]; ok {
		e.load(&p)
		k.OpenAPI["path"] = p
		b.schemas[path.Join(dir, p)] = true
	}
	for i := range k.Patches {
		e.patch(&k.Patches[i].Path)
	}
	for i := range k.PatchesJson6902 {
		e.patch(&k.PatchesJson6902[i].Path)
	}
	for i := range k.PatchesStrategicMerge {
		e.patch((*string)(&k.PatchesStrategicMerge[i]))
	}
	for i := range k.Replacements {
		e.load(&k.Replacements[i].Path)
	}
	for i := range k.ConfigMapGenerator {
		e.sources(&k.ConfigMapGenerator[i].KvPairSources, false)
	}
	for i := range k.SecretGenerator {
		e.sources(&k.SecretGenerator[i].KvPairSources, true)
	}
	if e.err != nil {
		return nil, e.err
	}
	if !e.changed {
		return content, nil
	}
	return yaml.Marshal(k)
}

// editor rewrites the references of one kustomization file. The first error stops it.
type editor struct {
	*build
	dir     string
	changed bool
	err     error
}

// bases handles entries that kustomize reads as a file, and failing that as a directory or Git repository.
func (e *editor) bases(entries []string) {
	for i, entry := range entries {
		if e.err != nil {
			return
		}
		local := path.Join(e.dir, entry)
		isFile := !isURL(entry) && e.fs.Exists(local) && !e.fs.IsDir(local)
		if isRemote(entry) && !isFile {
			e.replace(&entries[i], e.remoteBase)
			continue
		}
		if looksRemote(entry) {
			// Kustomize must not read a repository where this package reads a path.
			entries[i], e.changed = "./"+entry, true
		}
		e.descend(local)
	}
}

// descend notes a directory the kustomization stands on.
func (e *editor) descend(child string) {
	if within(Root, child) {
		if resolved, err := e.fs.resolve(child); err == nil {
			child = resolved
		}
	}
	e.depth[child] = max(e.depth[child], e.depth[e.dir]+1)
	e.children[e.dir] = append(e.children[e.dir], child)
}

// replace swaps a reference to another host for the path of what was fetched.
func (e *editor) replace(entry *string, fetch func(string) (string, error)) {
	target, err := fetch(*entry)
	if err != nil {
		e.err = err
		return
	}
	rel, err := filepath.Rel(e.dir, target)
	if err != nil {
		e.err = err
		return
	}
	e.names[rel] = redact(*entry)
	*entry, e.changed = rel, true
	e.descend(target)
}

// load handles a reference that kustomize reads as a file or URL.
func (e *editor) load(entry *string) {
	if e.err == nil && isURL(*entry) {
		e.replace(entry, e.remoteFile)
	}
}

func (e *editor) loads(entries []string) {
	for i := range entries {
		e.load(&entries[i])
	}
}

// patch handles the path of a patch, which may be encrypted (kustomization 45).
func (e *editor) patch(entry *string) {
	e.load(entry)
	if *entry != "" && !strings.Contains(*entry, "\n") {
		e.encrypted(*entry, FileUse{})
	}
}

// sources handles the files of a generator, each "path" or "key=path". Those of Secrets may be encrypted.
func (e *editor) sources(s *types.KvPairSources, secret bool) {
	for i := range s.FileSources {
		key, file, ok := strings.Cut(s.FileSources[i], "=")
		if !ok {
			key, file = path.Base(key), key
		}
		if isURL(file) {
			e.load(&file)
			s.FileSources[i] = key + "=" + file
		}
		if secret {
			e.encrypted(file, FileUse{Key: key})
		}
	}
	e.loads(s.EnvSources)
	e.load(&s.EnvSource)
	for _, file := range append(slices.Clone(s.EnvSources), s.EnvSource) {
		if secret && file != "" {
			e.encrypted(file, FileUse{Env: true, Key: path.Base(file)})
		}
	}
}

// encrypted asks for a local file at once, so that it is decrypted before the build.
func (e *editor) encrypted(file string, use FileUse) {
	name := file
	if !path.IsAbs(name) {
		name = path.Join(e.dir, file)
	}
	if e.opts.Decrypt == nil || e.err != nil || !within(Root, name) || within(remoteDir, name) {
		return
	}
	if _, ok := e.uses[name]; ok {
		return
	}
	use.Path = relative(Root, name)
	e.uses[name] = use
	if content, err := e.fs.ReadFile(name); err == nil {
		e.fs.files[name] = content
	}
	e.err = e.fs.failure
}

// plugins handles generators, transformers and validators: inline, a file, or a directory. Their configuration may
// name further files, so it is looked at the way kustomize will see it.
func (e *editor) plugins(entries []string) {
	for i, entry := range entries {
		if e.err != nil {
			return
		}
		if config, err := e.parse([]byte(entry)); err == nil {
			e.inline(&entries[i], config, false)
			continue
		}
		target := path.Join(e.dir, entry)
		if isRemote(entry) {
			var err error
			if target, err = e.remoteBase(entry); err != nil {
				e.err = err
				return
			}
		}
		if e.fs.IsDir(target) {
			e.descend(target)
			config, err := e.flatten(target)
			if err != nil {
				e.err = fmt.Errorf("%s: %w", redact(entry), err)
				return
			}
			e.inline(&entries[i], config, true)
			continue
		}
		content, err := e.fs.ReadFile(target)
		if err != nil {
			e.err = e.fs.failure
			continue // kustomize reports it
		}
		if config, err := e.parse(content); err == nil {
			e.inline(&entries[i], config, isRemote(entry))
		}
	}
}

// inline puts plugin configuration into the kustomization file, if it had to be changed or lies elsewhere.
func (e *editor) inline(entry *string, config []map[string]any, always bool) {
	var doc strings.Builder
	changed := always
	for i, c := range config {
		if i > 0 {
			doc.WriteString(documentSeparator)
		}
		changed = e.pluginLoads(c) || changed
		out, err := yaml.Marshal(c)
		if err != nil {
			e.err = err
			return
		}
		doc.Write(out)
	}
	if changed {
		*entry, e.changed = doc.String(), true
	}
}

// isPluginFileField knows the fields of kustomize's own plugins that name files. Their configuration is decoded without
// regard to case.
func isPluginFileField(name string) bool {
	return slices.ContainsFunc([]string{"path", "paths", "files", "env", "envs", "targetFilePath", "valuesFile",
		"additionalValuesFiles"}, func(f string) bool { return strings.EqualFold(f, name) })
}

// pluginLoads rewrites the URLs among the files a plugin configuration names.
func (e *editor) pluginLoads(v any) (changed bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if !isPluginFileField(key) {
				changed = e.pluginLoads(value) || changed
				continue
			}
			keyed := strings.EqualFold(key, "files")
			if s, ok := value.(string); ok {
				v[key] = e.pluginFile(s, keyed, &changed)
				continue
			}
			if list, ok := value.([]any); ok {
				for i := range list {
					if s, ok := list[i].(string); ok {
						list[i] = e.pluginFile(s, keyed, &changed)
					}
				}
			}
			changed = e.pluginLoads(value) || changed
		}
	case []any:
		for _, item := range v {
			changed = e.pluginLoads(item) || changed
		}
	}
	return changed
}

// pluginFile rewrites one file reference, "path" or in keyed fields also "key=path".
func (e *editor) pluginFile(entry string, keyed bool, changed *bool) string {
	key, file := path.Base(entry), entry
	if before, after, ok := strings.Cut(entry, "="); keyed && ok {
		key, file = before, after
	}
	if !isURL(file) {
		return entry
	}
	*changed = true
	e.load(&file)
	if keyed {
		return key + "=" + file
	}
	return file
}

// parse decodes objects as kustomize does.
func (b *build) parse(content []byte) ([]map[string]any, error) {
	resources, err := b.factory.SliceFromBytes(content)
	if err != nil {
		return nil, err
	}
	objects := make([]map[string]any, len(resources))
	for i, r := range resources {
		if objects[i], err = r.Map(); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// flatten builds a directory of plugin configuration ahead of the build that uses it.
func (b *build) flatten(dir string) ([]map[string]any, error) {
	if err := b.visit(dir); err != nil {
		return nil, err
	}
	wrapper := b.nextRemote()
	rel, err := filepath.Rel(wrapper, dir)
	if err != nil {
		return nil, err
	}
	var k types.Kustomization
	k.FixKustomization()
	k.Resources = []string{rel}
	// A build leaves out objects marked as local, but reading plugins does not, and plugins often are.
	k.Patches = []types.Patch{{
		Patch:  `[{"op": "remove", "path": "/metadata/annotations/config.kubernetes.io~1local-config"}]`,
		Target: &types.Selector{AnnotationSelector: "config.kubernetes.io/local-config"},
	}}
	content, err := yaml.Marshal(k)
	if err != nil {
		return nil, err
	}
	b.fs.files[path.Join(wrapper, "kustomization.yaml")] = content
	b.fs.virtual[wrapper] = true
	built, err := b.kustomize(wrapper)
	if err != nil {
		return nil, err
	}
	var docs [][]byte
	for _, r := range built {
		doc, err := r.AsYAML()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", resourceID(r), err)
		}
		docs = append(docs, doc)
	}
	return b.parse(bytes.Join(docs, []byte(documentSeparator)))
}
