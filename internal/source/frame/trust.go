package frame

import (
	"k8s.io/apimachinery/pkg/types"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

func trustOf[O Object](upstream Upstream[O]) string {
	if s, ok := upstream.(Signed); ok {
		return s.Trust()
	}
	return ""
}

// identity tells an object from a later one of the same name.
type identity struct {
	types.NamespacedName
	types.UID
}

func identityOf(obj Object) identity {
	return identity{types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}, obj.GetUID()}
}

// trusts reports whether the artifact of the object was accepted under this trust.
func (r *Reconciler[O]) trusts(obj O, trust string) bool {
	if trust == "" {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trusted[identityOf(obj)] == trust && status.IsTrue(obj.GetConditions(), sourcev1.SourceVerifiedCondition)
}

func (r *Reconciler[O]) trust(obj O, trust string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if trust == "" {
		delete(r.trusted, identityOf(obj))
		return
	}
	if r.trusted == nil {
		r.trusted = map[identity]string{}
	}
	r.trusted[identityOf(obj)] = trust
}

func (r *Reconciler[O]) distrust(obj O) { r.trust(obj, "") }
