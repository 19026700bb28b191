package kustomize

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/toolkit/render"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// settled is what a good run left behind: as long as its inputs stay the same and nobody touches the objects, another one
// need not unpack, build and compare anything.
type settled struct {
	inputs    string
	digest    string
	applied   *ssa.Result
	vanishing map[ssa.ID]bool
}

// settlements remembers the last good run of each Kustomization, as long as the process lives.
type settlements struct {
	mu   sync.Mutex // guards runs
	runs map[types.UID]*settled
}

func (s *settlements) get(uid types.UID) *settled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[uid]
}

// set remembers a run; nil forgets it.
func (s *settlements) set(uid types.UID, run *settled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if run == nil {
		delete(s.runs, uid)
		return
	}
	if s.runs == nil {
		s.runs = map[types.UID]*settled{}
	}
	s.runs[uid] = run
}

// asBefore reports whether build, apply and prune would do what the last good run did, and finds its results. A run that
// somebody asked for is done whole.
func (k *Kustomizer) asBefore(ctx context.Context, w *work) bool {
	last := k.settled.get(w.obj.UID)
	w.inputs = k.inputs(ctx, w)
	if last == nil || w.inputs == "" || w.inputs != last.inputs || w.run.Requested() {
		return false
	}
	own := owner(w.obj)
	if k.touched.has(own) || w.obj.Status.LastAttemptedRevision != w.source.Revision || !inventory(w.obj).Equal(last.applied.Inventory) {
		return false
	}
	ids := make([]ssa.ID, 0, len(last.applied.Objects))
	for _, o := range last.applied.Objects {
		ids = append(ids, o.ID)
	}
	if !w.cluster.Watch.memory.Settled(own, ids) {
		return false
	}
	w.built, w.applied, w.vanishing = &render.Result{Digest: last.digest}, last.applied, last.vanishing
	return true
}

// note remembers a good run.
func (k *Kustomizer) note(w *work) {
	if w.inputs == "" || w.built.Remote || w.decryption.remote() {
		k.settled.set(w.obj.UID, nil)
		return
	}
	applied := *w.applied
	applied.Objects = make([]ssa.Applied, len(w.applied.Objects))
	for i, o := range w.applied.Objects {
		if o.Action != ssa.Skipped {
			o.Action = ssa.Unchanged
		}
		applied.Objects[i] = o
	}
	k.settled.set(w.obj.UID, &settled{inputs: w.inputs, digest: w.built.Digest, applied: &applied, vanishing: w.vanishing})
}

// inputs identifies all that decides what a run does: the content of the source, the spec and the annotations of the object,
// the keys of its decryption, the variables and the cluster. Empty: that cannot be told, and the run is done whole.
func (k *Kustomizer) inputs(ctx context.Context, w *work) string {
	keys, err := w.decryption.fingerprint(ctx)
	if err != nil {
		return "" // the build tells it
	}
	in := render.Inputs{Tree: w.source.Artifact.Digest, Spec: spec(w.obj), NoRemoteBases: k.NoRemoteBases, Decryption: keys}
	if v := k.variables(w); v != nil {
		vars, err := v.Load(ctx)
		if err != nil {
			return "" // the build tells it
		}
		in.Substitute, in.Always, in.Lenient, in.Variables = true, v.Always, v.Lenient, vars
	}
	build, err := render.Fingerprint(in)
	if err != nil {
		return ""
	}
	marks := map[string]string{}
	for key, value := range w.obj.Annotations {
		if strings.HasPrefix(key, kustomizev1.GroupVersion.Group+"/") {
			marks[key] = value
		}
	}
	rest, err := json.Marshal(marks)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %s %s", build, w.obj.Generation, w.cluster.Key(), rest)
}
