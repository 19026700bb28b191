package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// workTime bounds the work on a call once it has been read. A caller that hangs up does not end it: what was asked for once is done.
const workTime = time.Minute

// constantPath stands for the paths of webhooks in metrics: they are secrets to some, and many.
const constantPath = "/hook"

// refusal is why a call is answered with 400 (receiver 11, 30).
type refusal struct{ error }

// ServeHTTP answers webhooks. The answers have no body, and those to wrong calls do not tell what is wrong with them (receiver 8-11, 30).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.metrics.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(s.answer(w, r))
	}), s.label).ServeHTTP(w, r)
}

// label is the path of a Receiver where that is wanted, and never one that a caller made up.
func (s *Server) label(r *http.Request) string {
	if s.options.ExportPaths {
		if _, ok := s.index.byPath(r.RequestURI); ok {
			return r.RequestURI
		}
	}
	return constantPath
}

// answer works on a call and returns the status.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) (code int) {
	if r.ContentLength > MaxBody {
		return http.StatusRequestEntityTooLarge
	}
	backend := s.backend.Load()
	if backend == nil || !backend.synced() {
		return http.StatusServiceUnavailable
	}
	t, ok := s.index.byPath(r.RequestURI)
	if !ok {
		return http.StatusNotFound
	}
	log := s.options.Log.WithValues("controller", "receiver", "controllerGroup", notificationv1.GroupName, "controllerKind", notificationv1.ReceiverKind,
		notificationv1.ReceiverKind, klog.KRef(t.key.Namespace, t.key.Name), "namespace", t.key.Namespace, "name", t.key.Name)
	defer func() {
		if p := recover(); p != nil {
			log.Error(fmt.Errorf("%v", p), "panic while answering a webhook", "stack", string(debug.Stack()))
			code = http.StatusInternalServerError
		}
	}()
	if !t.ready || t.object.Spec.Suspend {
		return http.StatusServiceUnavailable
	}
	release, ok := t.admit()
	if !ok {
		log.Info("webhook refused: too many calls at a time", "most", maxCalls)
		return http.StatusServiceUnavailable
	}
	defer release()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return unread(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), workTime)
	defer cancel()
	err = s.work(ctx, backend, &t, r.Header, body)
	var refused refusal
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refused):
		log.Info("webhook refused", "reason", err.Error())
		return http.StatusBadRequest
	}
	log.Error(err, "webhook failed")
	return http.StatusInternalServerError
}

// unread is the status of a call whose body did not arrive.
func unread(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// work verifies a call and does what it asks for. The error is a refusal if the call is to blame.
func (s *Server) work(ctx context.Context, b *backend, t *target, header http.Header, body []byte) error {
	kind, ok := Find(t.object.Spec.Type)
	if !ok {
		return fmt.Errorf("spec.type '%s' is unknown", t.object.Spec.Type)
	}
	if t.rules == nil {
		compiled, err := compile(t.object)
		if err != nil {
			return err
		}
		t.rules = compiled
		s.index.keep(t.key, compiled)
	}
	thoughts := &thinking{turn: t.thinking, left: s.thinkingTime}
	verified, err := s.verify(ctx, b, kind, t, &Call{
		Header: header, Body: body, spec: &t.object.Spec, rules: t.rules, issuers: s.issuers, thinking: thoughts,
	})
	if err != nil {
		return refusal{err}
	}
	variables := map[string]any{}
	if kind.OIDC {
		variables[claimsVariable] = verified.Claims
	}
	if t.rules.filtering() {
		if variables[reqVariable], err = request(verified, header, body); err != nil {
			return fmt.Errorf("reading the body for the filters: %w", err)
		}
	}
	a := &action{
		options: s.options, backend: b, object: t.object, rules: t.rules, variables: variables, token: requestToken(time.Now()),
		slots: make(chan struct{}, maxRequests), thinking: thoughts,
	}
	if err := a.run(ctx); err != nil {
		return err
	}
	s.options.Log.Info("webhook answered", "receiver", t.key, "asked", a.asked.Load())
	return nil
}

// verify checks where a call comes from, and whether its event counts (receiver 12, 13).
func (s *Server) verify(ctx context.Context, b *backend, kind Type, t *target, c *Call) (*Verified, error) {
	if !kind.NoSecret && !kind.OIDC {
		name := types.NamespacedName{Namespace: t.key.Namespace}
		if ref := t.object.Spec.SecretRef; ref != nil {
			name.Name = ref.Name
		}
		var err error
		if c.Secret, err = readSecret(ctx, b.reader, name); err != nil {
			return nil, fmt.Errorf("reading the Secret '%s': %w", name, err)
		}
		if len(c.token()) == 0 {
			return nil, fmt.Errorf("the Secret '%s' has no key 'token'", name)
		}
	}
	verified, err := kind.Verify(ctx, c)
	if err != nil {
		return nil, err
	}
	if !counts(kind, &t.object.Spec, c.Header) {
		return nil, errors.New("its event is not among spec.events")
	}
	return verified, nil
}

// counts reports whether the event of a call is one that the Receiver wants (receiver 13).
func counts(kind Type, spec *notificationv1.ReceiverSpec, header http.Header) bool {
	if kind.Events == "" || len(spec.Events) == 0 {
		return true
	}
	given := header.Get(kind.Events)
	return slices.ContainsFunc(spec.Events, func(wanted string) bool { return strings.EqualFold(wanted, given) })
}

// request is what filters see as "req" (receiver 14, 31, 36).
func request(v *Verified, header http.Header, body []byte) (any, error) {
	data := v.Request
	if data == nil {
		if mediaType(header) != mediaJSON {
			return map[string]any{}, nil
		}
		data = body
	}
	var req any
	if err := decodeJSON(data, &req); err != nil {
		return nil, err
	}
	return req, nil
}
