package frame

import (
	"context"
	"io"

	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// Object is a source: what the loop needs, and an artifact.
type Object interface {
	loop.Object
	meta.ArtifactHolder
	meta.Timeoutable
	SetArtifact(*meta.Artifact)
}

// linked is a source whose status tells the address of the latest artifact under a name that does not change.
type linked interface{ SetURL(string) }

// Kind is what a source kind adds to the frame.
type Kind[O Object] interface {
	// Connect checks the spec and reads the credentials. Its errors are verdicts.
	Connect(ctx context.Context, obj O, run *loop.Run) (Upstream[O], error)
}

// Forgetter is a Kind that keeps something for each object, such as cached credentials.
type Forgetter interface {
	// Forget drops it: the object is gone.
	Forget(key types.NamespacedName)
}

// Upstream is a connection of one run. Its errors are verdicts. Observe, Fetch and Prove must not touch the object: where
// a server hangs they go on while the loop writes what the run has told so far.
type Upstream[O Object] interface {
	// Settled reports whether the parts of the spec that shape the content, and what else goes into it, are those the
	// stored artifact was made with (gitrepository 39).
	Settled(obj O) bool
	// Settle records them in the status.
	Settle(obj O)
	// Observe returns the revision upstream now, at the cost of one small request, and "" when it takes a fetch to tell.
	Observe(ctx context.Context) (string, error)
	// Fetch downloads the content; dir is a directory of the run for what does not fit in memory.
	Fetch(ctx context.Context, dir string) (*Content, error)
	// Close ends the connection.
	Close()
}

// Hosted is an Upstream that names its server, as host:port: a server that hangs costs only its own sources time.
type Hosted interface{ Host() string }

// Lister is an Upstream whose Fetch downloads what Observe has found: it is observed first, also where nothing is stored,
// and each of the two has its own time (bucket 38).
type Lister interface{ ObservesFirst() }

// Signed is an Upstream whose content has to be signed.
type Signed interface {
	// Trust identifies whose signatures count: keys, policy and mode. Content is checked anew whenever it changes, also
	// content that is stored already (reliability 066). Empty: no signature is asked for.
	Trust() string
}

// Prover is a Signed Upstream whose Observe always tells the revision, and which can check its signature without its
// content. One that is not checks signatures while it fetches.
type Prover interface {
	Signed
	// Prove checks the signature of the revision that Observe returned.
	Prove(ctx context.Context, revision string) error
}

// Content is what was fetched.
type Content struct {
	// Revision of the artifact.
	Revision string
	// File is the last element of the artifact's path.
	File string
	// News is the message of the event of a new artifact; empty: that of the kind's Words.
	News string
	// Reason and Stored are what the artifact made of this content stands under, in place of the kind's Words.Stored; empty:
	// those.
	Reason, Stored string
	// Metadata of the artifact; may be nil.
	Metadata map[string]string
	// Write produces the artifact's bytes.
	Write func(ctx context.Context, w io.Writer) error
	// Close releases what Write reads; may be nil.
	Close func() error
}

func (c *Content) close() error {
	if c.Close == nil {
		return nil
	}
	return c.Close()
}

// Words is what a kind says in conditions and events.
type Words[O Object] struct {
	// Outdated says which revision is new; "building artifact: " stands before it while the run goes on.
	Outdated func(obj O, revision string) string
	// OutdatedReason is the reason of the condition ArtifactOutdated; empty: NewRevision.
	OutdatedReason string
	// Stored is the message of Ready and ArtifactInStorage. A reason replaces Succeeded in both, and NewArtifact or
	// Succeeded in the event.
	Stored func(obj O) (reason, message string)
	// News is the message of the event about the artifact in the status: a new one, or one of an object that recovered.
	News func(obj O) string
	// NoChange is the event of a requested run that found nothing new without a fetch; nil: as with a fetch.
	NoChange func(revision string) event.Event
}
