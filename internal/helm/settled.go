package helm

import (
	"sync"
	"time"

	rcommon "helm.sh/helm/v4/pkg/release/common"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// trustWatch is how long a watch is believed that nothing has happened to the records of a release. Then they are read again as whom the
// HelmRelease acts, which also finds out that it may read them no longer (helmrelease 90).
const trustWatch = time.Hour

// settled is how a release was found in order. While the watch shows the same record, and the object is the same, it still is.
type settled struct {
	// generation of the object: another spec may name another release, or act as somebody else.
	generation int64
	// record is the resource version of the newest record.
	record string
	// digest is that of the entry of the history about this record.
	digest string
	at     time.Time
	// compared: its objects were found as they should be, so many.
	compared bool
	objects  int
}

// settledReleases remembers what was settled, by object. It is safe for concurrent use.
type settledReleases struct {
	mu    sync.Mutex // guards known
	known map[kube.Owner]settled
}

func (s *settledReleases) get(o kube.Owner) (settled, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.known[o]
	return found, ok
}

// put remembers how a release was found. What was found out by comparing it stays, if it is the same.
func (s *settledReleases) put(o kube.Owner, found settled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[kube.Owner]settled{}
	}
	before := s.known[o]
	if before.generation == found.generation && before.record == found.record && before.digest == found.digest {
		found.compared, found.objects = before.compared, before.objects
	}
	s.known[o] = found
}

// compared notes whether all objects of a settled release, n of them, are as they should be.
func (s *settledReleases) compared(o kube.Owner, well bool, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.known[o]; ok {
		found.compared, found.objects = well, n
		s.known[o] = found
	}
}

func (s *settledReleases) forget(o kube.Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, o)
}

// recollect finds out without a request how the newest release is, and reports whether it could. That is enough to leave alone what is in
// order; whatever has failed, or is not what this object has made, is read.
func (r *Releaser) recollect(w *work) bool {
	w.record, w.latest, w.known, w.targetLost, w.unread, w.untouched = nil, nil, false, false, false, false
	history := w.obj.Status.History
	if w.doubted || len(history) == 0 {
		return false
	}
	if _, failed := tested(&history[0]); failed {
		return false
	}
	if rel := w.actions.Recall(w.obj.GetReleaseName()); rel != nil {
		s, err := observe(rel, history[0].OCIDigest, r.DigestAlgorithm)
		if err != nil || !s.same(&history[0], r.seen.has(w.obj.UID, history[0].Digest)) {
			return false
		}
		w.record, w.latest = rel, s
	} else if record, ok := r.unchanged(w, &history[0]); ok {
		w.latest, w.unread = &sighting{Snapshot: history[0]}, true
		if w.untouched = r.untouched(w); !w.untouched {
			w.record = w.cluster.Watch.shared.Recorded(w.storage, history[0].Name, history[0].Version, record)
		}
	} else {
		return false
	}
	w.known = true
	return w.latest.Status == string(rcommon.StatusDeployed)
}

// unchanged reports whether the watch shows that the newest record is the one that this very object was found settled with. The watch has
// rights that the object may lack: nothing of it counts but that a record which was read with the object's own rights is still there. It
// returns the resource version of that.
func (r *Releaser) unchanged(w *work, newest *helmv2.Snapshot) (record string, ok bool) {
	watch := w.cluster.Watch
	found, ok := watch.settled.get(owner(w.obj))
	shown, sees := watch.shared.Newest(w.storage, w.obj.GetReleaseName())
	return shown, ok && sees && shown == found.record && found.generation == w.obj.Generation && found.digest == newest.Digest &&
		r.Clock.Since(found.at) < trustWatch
}

// untouched reports whether the watches show that the objects of a release are as they were when they were last compared with it.
func (r *Releaser) untouched(w *work) bool {
	watch := w.cluster.Watch
	found, ok := watch.settled.get(owner(w.obj))
	return ok && found.compared && watch.memory.Untouched(owner(w.obj), found.objects)
}

// remind remembers that storage was found as the history says.
func (r *Releaser) remind(w *work) {
	if record, ok := w.listing.Newest(); ok && w.known {
		w.cluster.Watch.settled.put(owner(w.obj), settled{
			generation: w.obj.Generation, record: record, digest: w.obj.Status.History[0].Digest, at: r.Clock.Now(),
		})
	}
}
