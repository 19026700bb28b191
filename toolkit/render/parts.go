package render

import (
	"bytes"
	"context"
	"errors"
	"path"
	"reflect"
	"slices"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

// partObjects is about how many objects kustomize gets at once when a build is made in parts.
const partObjects = 250

// errNotInParts says that a build must be made in one go. It is never shown.
var errNotInParts = errors.New("the build cannot be made in parts")

// parted is a build of independent parts. Kustomize compares every object with every other one several times, so that
// 5,000 of them take it half a minute. Where a kustomization only lists files, sets a namespace and replaces images, objects
// meet in two ways only: two may not have one name, which is checked here, and a reference made of name and namespace takes
// both from what it refers to, so that such objects stay in one part.
type parted struct {
	*build
	dir, name string // of the kustomization, and its file
	k         types.Kustomization
	content   []byte
	files     []partFile
}

// partFile is a file that the kustomization lists.
type partFile struct {
	entry   string // as listed
	objects []*resource.Resource
	built   []*resource.Resource
}

// inParts builds a kustomization in parts of about size objects, with the result that kustomize would give. Any error says that
// this cannot be done, or went wrong: building in one go gives the result, or the error to show.
func (b *build) inParts(dir string, size int) ([]*resource.Resource, error) {
	p, err := b.newParted(dir, size)
	if err != nil {
		return nil, err
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	defer func() { b.fs.files[p.name] = p.content }()
	for _, part := range p.split(size) {
		if err := context.Cause(b.ctx); err != nil {
			return nil, err
		}
		if err := p.run(part); err != nil {
			return nil, err
		}
	}
	var all []*resource.Resource
	seen := map[resid.ResId]bool{}
	for _, f := range p.files {
		for _, r := range f.built {
			id := r.CurId()
			id.Namespace = id.EffectiveNamespace()
			if seen[id] {
				return nil, errNotInParts
			}
			seen[id] = true
			all = append(all, r)
		}
	}
	return all, nil
}

// newParted reads the kustomization file and refuses one that does more than listing files, setting the namespace and
// replacing images, and one that is small.
func (b *build) newParted(dir string, size int) (*parted, error) {
	p := &parted{build: b, dir: dir}
	for _, n := range konfig.RecognizedKustomizationFileNames() {
		if content, ok := b.fs.files[path.Join(dir, n)]; ok {
			if p.name != "" {
				return nil, errNotInParts
			}
			p.name, p.content = path.Join(dir, n), content
		}
	}
	if p.name == "" || p.k.Unmarshal(p.content) != nil {
		return nil, errNotInParts
	}
	more := p.k
	more.TypeMeta, more.Resources, more.Namespace, more.Images = types.TypeMeta{}, nil, "", nil
	if !reflect.DeepEqual(more, types.Kustomization{}) || len(p.k.Resources) < 2 {
		return nil, errNotInParts
	}
	// Fewer files cannot hold many objects unless they are large, and then they cannot be parted.
	if size > 1 && len(p.k.Resources) < size/10 {
		return nil, errNotInParts
	}
	return p, nil
}

// load reads and parses the listed files. They stay in memory, so that they are read, and counted, once.
func (p *parted) load() error {
	for _, entry := range p.k.Resources {
		name, err := p.fs.resolve(path.Join(p.dir, entry))
		if err != nil || path.IsAbs(entry) || isRemote(entry) || p.fs.IsDir(name) || isKustomizationFile(name) {
			return errNotInParts
		}
		content, err := p.fs.ReadFile(name)
		if err != nil {
			return errNotInParts
		}
		p.fs.files[name] = content
		// Annotations of this domain tell kustomize what to do with an object.
		if bytes.Contains(content, []byte("config.kubernetes.io")) || bytes.Contains(content, []byte("config.k8s.io")) {
			return errNotInParts
		}
		objects, err := p.factory.SliceFromBytes(content)
		if err != nil {
			return errNotInParts
		}
		p.files = append(p.files, partFile{entry: entry, objects: objects})
	}
	return nil
}

// split gives each part the indices of its files. The first part holds the references of name and namespace with what they may
// refer to.
func (p *parted) split(size int) [][]int {
	names := map[string]bool{}
	for _, f := range p.files {
		for _, r := range f.objects {
			if refers(r) {
				collectNames(r.YNode(), names)
			}
		}
	}
	var tied, part []int
	var parts [][]int
	held := 0
	for i, f := range p.files {
		if slices.ContainsFunc(f.objects, func(r *resource.Resource) bool { return refers(r) || names[r.GetName()] }) {
			tied = append(tied, i)
			continue
		}
		part = append(part, i)
		if held += len(f.objects); held >= size {
			parts, part, held = append(parts, part), nil, 0
		}
	}
	for _, rest := range [][]int{part, tied} {
		if len(rest) > 0 {
			parts = append(parts, rest)
		}
	}
	return parts
}

// refers reports whether a kind of object has references that kustomize completes with a namespace.
func refers(r *resource.Resource) bool {
	switch r.GetKind() {
	case "RoleBinding", "ClusterRoleBinding", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "APIService",
		"StorageClass", "Node":
		return true
	}
	return false
}

// collectNames adds all values of fields called name.
func collectNames(n *kyaml.Node, names map[string]bool) {
	for i, c := range n.Content {
		if n.Kind == kyaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "name" {
			names[c.Value] = true
		}
		collectNames(c, names)
	}
}

// run builds one part, and gives each file what it has become.
func (p *parted) run(part []int) error {
	k := p.k
	k.Resources = make([]string, len(part))
	for i, f := range part {
		k.Resources[i] = p.files[f].entry
	}
	content, err := yaml.Marshal(k)
	if err != nil {
		return err
	}
	p.fs.files[p.name] = content
	m, err := newKustomizer().Run(p.fs, p.dir)
	if err != nil {
		return err
	}
	built := m.Resources()
	for _, i := range part {
		f := &p.files[i]
		if len(built) < len(f.objects) {
			return errNotInParts
		}
		f.built, built = built[:len(f.objects)], built[len(f.objects):]
		f.objects = nil
	}
	if len(built) > 0 {
		return errNotInParts
	}
	return nil
}
