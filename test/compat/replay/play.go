package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// manager is the field manager of apply and patch steps that name none.
	manager = "replayer"
	// settle is how long the recorder waited before it looked (README, "steps").
	settle = 1200 * time.Millisecond
	// leftovers bounds the wait for namespaces of an earlier run.
	leftovers = 2 * time.Minute
)

// Options of one Play.
type Options struct {
	// MaxWait cuts the timeout of every wait step; zero keeps the recorded ones.
	MaxWait time.Duration
}

// player plays one recording.
type player struct {
	lab     *Lab
	r       *Recording
	options Options
	vars    Vars
	clean   *normaliser
	seen    *history
	diffs   []Diff
}

// Play performs the recording's steps and compares every snapshot. The differences are what an
// observer would notice; an error means that the lab itself failed.
func (l *Lab) Play(ctx context.Context, r *Recording, o Options) ([]Diff, error) {
	p := &player{lab: l, r: r, options: o, vars: l.vars(r), seen: newHistory()}
	p.clean = newNormaliser(p.vars, l.system)
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	for i := 0; i < len(r.Steps); i++ {
		step := &r.Steps[i]
		err := p.perform(ctx, i, step)
		var unmet *unmetError
		if errors.As(err, &unmet) {
			// The state at the time of the failure says why; what comes after it says nothing more.
			p.diffs = append(p.diffs, Diff{Path: fmt.Sprintf("steps[%d] %s", i, step), Want: "met", Ours: unmet.Error()})
			return p.diffs, p.lastLook(ctx, i)
		}
		if err != nil {
			return nil, fmt.Errorf("step %d (%s): %w", i, step, err)
		}
	}
	return p.diffs, nil
}

// unmetError is a wait that ran out of time.
type unmetError struct{ error }

// prepare creates the recording's namespaces, after removing those of an earlier run.
func (p *player) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leftovers)
	defer cancel()
	leftBehind := p.r.clusterScoped()
	for _, name := range p.r.AllNamespaces() {
		leftBehind = append(leftBehind, objectID{corev1.SchemeGroupVersion.WithKind("Namespace"), "", name})
	}
	for _, id := range leftBehind {
		if err := p.lab.objectGone(ctx, id); err != nil {
			return fmt.Errorf("removing %s %s of an earlier run: %w", id.Kind, id.name, err)
		}
	}
	for _, name := range p.r.AllNamespaces() {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := p.lab.core.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating namespace %s: %w", name, err)
		}
	}
	return nil
}

// clusterScoped lists the objects outside of namespaces that the recording saw, such as the CRDs of a chart and the
// Namespace that a release asked for: they may stay, by the rules, when their owner goes.
func (r *Recording) clusterScoped() []objectID {
	seen := map[objectID]bool{}
	var all []objectID
	for _, label := range sortedKeys(r.Observed) {
		for _, o := range asList(r.Observed[label]["cluster"]) {
			if _, namespaced := o["namespace"]; namespaced || o["absent"] == true {
				continue
			}
			u := unstructured.Unstructured{Object: map[string]any{"apiVersion": o["apiVersion"], "kind": o["kind"]}}
			id := objectID{u.GroupVersionKind(), "", fmt.Sprint(o["name"])}
			if !seen[id] {
				seen[id] = true
				all = append(all, id)
			}
		}
	}
	return all
}

// Clean deletes the recording's namespaces and what it left in other places. It does not wait:
// the binary under test works through the finalizers meanwhile.
func (l *Lab) Clean(ctx context.Context, r *Recording) error {
	var failed error
	for _, resource := range l.toolkit {
		for _, ns := range r.AllNamespaces() {
			// Toolkit objects go first: while their namespace ends, their finalizers may need ServiceAccounts of it.
			err := l.dynamic.Resource(resource.gvr).Namespace(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
			failed = errors.Join(failed, ignoreNotFound(err))
		}
	}
	for _, ns := range r.AllNamespaces() {
		failed = errors.Join(failed, ignoreNotFound(l.core.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{})))
	}
	for _, id := range r.clusterScoped() {
		client, _, err := l.resource(id.GroupVersionKind, "")
		if err == nil {
			err = ignoreNotFound(client.Delete(ctx, id.name, metav1.DeleteOptions{}))
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func (p *player) perform(ctx context.Context, index int, s *Step) error {
	switch {
	case s.unknown != "":
		return fmt.Errorf("this replayer does not know the step %q", s.unknown)
	case s.Commit != "":
		return p.commit(s.Commit)
	case s.Bundle != "":
		return p.bundle(s.Bundle)
	case s.EmptyRepository != "":
		_, err := p.lab.git.repo(p.r.Namespace + "-" + s.EmptyRepository)
		return err
	case s.Push != "":
		return p.push(s.Push)
	case s.Serve != "":
		path, content, err := p.r.file(s.Serve, p.vars)
		if err == nil {
			p.lab.files.Put(p.r.Namespace+"/"+path, content)
		}
		return err
	case s.Apply != "":
		return p.apply(ctx, index, s)
	case s.Patch != "":
		return p.patch(ctx, s)
	case s.Delete != "":
		return p.delete(ctx, s)
	case s.Wait != "":
		return p.wait(ctx, index, s)
	case s.Sleep != "":
		d, err := time.ParseDuration(s.Sleep)
		if err != nil {
			return fmt.Errorf("reading the duration: %w", err)
		}
		return pause(ctx, d)
	case s.EditHelmRelease != "":
		return p.editHelmRelease(ctx, s)
	case s.CreateHelmRelease != "":
		return p.createHelmRelease(ctx, s)
	case s.HTTP != nil:
		return p.request(ctx, index, s)
	case s.GitLog != nil:
		return p.gitLog(s.GitLog)
	default:
		if err := pause(ctx, settle); err != nil {
			return err
		}
		return p.look(ctx, s.Snapshot)
	}
}

// lastLook takes the first snapshot after a step that failed.
func (p *player) lastLook(ctx context.Context, failed int) error {
	for i := failed + 1; i < len(p.r.Steps); i++ {
		if label := p.r.Steps[i].Snapshot; label != "" {
			return p.look(ctx, label)
		}
	}
	return nil
}

// look takes a snapshot and compares it with the recorded one.
func (p *player) look(ctx context.Context, label string) error {
	want, ok := p.r.Observed[label]
	if !ok {
		return fmt.Errorf("the recording has no snapshot %q", label)
	}
	ours, err := p.snapshot(ctx, want)
	if err != nil {
		return fmt.Errorf("taking snapshot %q: %w", label, err)
	}
	for _, d := range Compare(want, ours) {
		d.Path = label + "." + d.Path
		p.diffs = append(p.diffs, d)
	}
	return nil
}

func (p *player) commit(key string) error {
	name, c, err := p.r.commit(key, p.vars)
	if err != nil {
		return err
	}
	repo, err := p.lab.git.repo(p.r.Namespace + "-" + name)
	if err != nil {
		return err
	}
	_, err = repo.Commit(c)
	return err
}

func (p *player) bundle(key string) error {
	name, content, err := p.r.bundle(key)
	if err != nil {
		return err
	}
	repo, err := p.lab.git.repo(p.r.Namespace + "-" + name)
	if err != nil {
		return err
	}
	return repo.Bundle(content)
}

func (p *player) push(key string) error {
	ref, tags, img, err := p.r.image(key, p.vars)
	if err != nil {
		return err
	}
	return p.lab.registry.Push(p.r.Namespace+"/"+ref, img, tags...)
}

// apply applies every object of a manifest and compares what the API server refused.
func (p *player) apply(ctx context.Context, index int, s *Step) error {
	objects, err := p.r.manifest(s.Apply, p.vars)
	if err != nil {
		return err
	}
	var rejected []string
	for _, o := range objects {
		if err := p.applyObject(ctx, &unstructured.Unstructured{Object: o}, s.FieldManager); err != nil {
			rejected = append(rejected, p.clean.text(err.Error()))
		}
	}
	if len(s.Rejected) == 0 && len(rejected) > 0 {
		return fmt.Errorf("the API server refused it: %s", strings.Join(rejected, "; "))
	}
	if !slices.Equal(rejected, s.Rejected) {
		p.diffs = append(p.diffs, Diff{Path: fmt.Sprintf("steps[%d].rejected", index), Want: s.Rejected, Ours: rejected})
	}
	return nil
}

func (p *player) applyObject(ctx context.Context, o *unstructured.Unstructured, fieldManager string) error {
	namespace := o.GetNamespace()
	if namespace == "" {
		namespace = p.r.Namespace
	}
	client, namespaced, err := p.lab.resource(o.GroupVersionKind(), namespace)
	if err != nil {
		return err
	}
	if namespaced {
		o.SetNamespace(namespace)
	}
	_, err = client.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: managerOr(fieldManager), Force: true})
	return err
}

func (p *player) patch(ctx context.Context, s *Step) error {
	client, name, err := p.lab.target(s.Patch, p.r.Namespace)
	if err != nil {
		return err
	}
	body, err := json.Marshal(s.With)
	if err != nil {
		return fmt.Errorf("encoding the patch: %w", err)
	}
	_, err = client.Patch(ctx, name, types.MergePatchType, []byte(p.vars.Expand(string(body))), metav1.PatchOptions{FieldManager: managerOr(s.FieldManager)})
	return err
}

func (p *player) delete(ctx context.Context, s *Step) error {
	client, name, err := p.lab.target(s.Delete, p.r.Namespace)
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	return client.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
}

func (p *player) wait(ctx context.Context, index int, s *Step) error {
	client, name, err := p.lab.target(s.Wait, p.r.Namespace)
	if err != nil {
		return err
	}
	limit := time.Duration(s.Timeout)
	if m := p.options.MaxWait; m > 0 && limit > m {
		limit = m
	}
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = await(waiting, client, name, until(p.expected(index, s)))
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		return &unmetError{fmt.Errorf("unmet after %s: %w", limit, err)}
	}
	return err
}

// expected is what a wait step waits for. An object may be unready for more than one reason on its way, e.g. while
// its source has no artifact yet; the recorded wait ended with the one that the snapshot after it shows.
func (p *player) expected(index int, s *Step) map[string]any {
	if s.Until["ready"] != "False" || s.Until["reason"] != nil || index+1 >= len(p.r.Steps) {
		return s.Until
	}
	kind, name, _ := strings.Cut(s.Wait, "/")
	objects, _ := p.r.Observed[p.r.Steps[index+1].Snapshot]["objects"].([]any)
	for _, o := range objects {
		obj, _ := o.(map[string]any)
		if obj["kind"] != kind || obj["name"] != name {
			continue
		}
		if ready := condition(&unstructured.Unstructured{Object: obj}, "Ready"); ready["reason"] != nil {
			until := maps.Clone(s.Until)
			until["reason"] = ready["reason"]
			return until
		}
	}
	return s.Until
}

// tooLarge stands in recordings for a body nobody wants to read.
const tooLarge = "<JSON object of a little more than 3 MiB>"

// request performs an HTTP step; the answer is part of what is compared.
func (p *player) request(ctx context.Context, index int, s *Step) error {
	content := p.vars.Expand(s.HTTP.Body)
	if content == tooLarge {
		content = `{"message":"` + strings.Repeat("x", 3<<20) + `"}`
	}
	req, err := http.NewRequestWithContext(ctx, s.HTTP.Method, p.vars.Expand(s.HTTP.URL), strings.NewReader(content))
	if err != nil {
		return fmt.Errorf("building the request: %w", err)
	}
	for key, value := range s.HTTP.Headers {
		req.Header.Set(key, p.vars.Expand(value))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("sending the request: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	ours := Answer{Code: resp.StatusCode, Body: p.clean.text(string(body))}
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		ours.Body = "<gzip data>"
	}
	if s.Answer != nil && ours != *s.Answer {
		p.diffs = append(p.diffs, Diff{Path: fmt.Sprintf("steps[%d].answer", index), Want: *s.Answer, Ours: ours})
	}
	return nil
}

func managerOr(name string) string {
	if name == "" {
		return manager
	}
	return name
}

// pause is real time passing: recordings name the time that an unaware observer must wait.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Drain waits until no toolkit object of the recordings is left.
func (l *Lab) Drain(ctx context.Context, all []*Recording) error {
	ours := map[string]bool{}
	for _, r := range all {
		for _, ns := range r.AllNamespaces() {
			ours[ns] = true
		}
	}
	for _, resource := range l.toolkit {
		client := l.dynamic.Resource(resource.gvr)
		list, err := client.List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("listing %s: %w", resource.gvr.Resource, err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			if !ours[o.GetNamespace()] {
				continue
			}
			if err := await(ctx, client.Namespace(o.GetNamespace()), o.GetName(), gone); err != nil {
				return fmt.Errorf("%s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
			}
		}
	}
	return nil
}
