package receiver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// reconciler checks Receivers and gives them their paths.
type reconciler struct {
	index  *index
	reader client.Reader // reads live
}

// Reconcile implements loop.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, obj *notificationv1.Receiver, run *loop.Run) error {
	run.Progress("Reconciliation in progress")
	r.index.begin(obj.DeepCopy())
	outcome := findings{uid: obj.UID, generation: obj.Generation, path: obj.Status.WebhookPath}
	err := r.look(ctx, obj, &outcome)
	outcome.ready = err == nil
	// Before the status: whoever reads there that the Receiver is ready can call it.
	r.index.found(client.ObjectKeyFromObject(obj), outcome)
	obj.Status.WebhookPath = outcome.path
	if err != nil {
		return err
	}
	run.Event(event.Event{
		Severity: event.Info, Reason: meta.SucceededReason, Message: fmt.Sprintf("Reconciliation finished, next run in %s", obj.GetInterval()),
	})
	return run.Ready("Receiver initialized for path: %s", outcome.path)
}

// Finalize implements loop.Finalizer: a Receiver that is to go answers no more.
func (r *reconciler) Finalize(_ context.Context, obj *notificationv1.Receiver, _ *loop.Run) error {
	r.index.forget(obj.Namespace, obj.Name)
	return nil
}

// look finds out whether the Receiver can serve, and where.
func (r *reconciler) look(ctx context.Context, obj *notificationv1.Receiver, outcome *findings) error {
	kind, err := validate(&obj.Spec)
	if err != nil {
		return loop.Stall(notificationv1.ValidationFailedReason, err)
	}
	if r.index.compiled(obj) == nil {
		compiled, err := compile(obj)
		if err != nil {
			return loop.Stall(meta.InvalidCELExpressionReason, err)
		}
		r.index.keep(client.ObjectKeyFromObject(obj), compiled)
	}
	token, err := r.token(ctx, obj, kind)
	if err != nil {
		if _, none := errors.AsType[noToken](err); none {
			outcome.path = ""
		}
		return loop.Fail(notificationv1.TokenNotFoundReason, err)
	}
	outcome.path = obj.GetWebhookPath(token)
	return nil
}

// token returns what the path is made of, empty for types without a Secret (receiver 5, 6, 25).
func (r *reconciler) token(ctx context.Context, obj *notificationv1.Receiver, kind Type) (string, error) {
	if obj.Spec.SecretRef == nil {
		return "", nil
	}
	name := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Spec.SecretRef.Name}
	data, err := readSecret(ctx, r.reader, name)
	if err != nil {
		err = fmt.Errorf("unable to read token from secret '%s' error: %w", name, err)
		if apierrors.IsNotFound(err) {
			return "", noToken{err}
		}
		return "", err
	}
	var missing []string
	for _, key := range append([]string{secret.TokenKey}, kind.SecretKeys...) {
		if len(data[key]) == 0 {
			missing = append(missing, "'"+key+"'")
		}
	}
	if len(missing) > 0 {
		return "", noToken{fmt.Errorf("invalid '%s' secret data: required fields %s", name, strings.Join(missing, ", "))}
	}
	return string(data[secret.TokenKey]), nil
}

// noToken is the error of a Secret that is known to hold no token, other than one that could not be read for now. It takes the path away
// (receiver 5).
type noToken struct{ error }

// readSecret reads the data of a Secret live (receiver 12).
func readSecret(ctx context.Context, reader client.Reader, name types.NamespacedName) (map[string][]byte, error) {
	var s corev1.Secret
	if err := reader.Get(ctx, name, &s); err != nil {
		return nil, err
	}
	return s.Data, nil
}

// onSecret wakes the Receivers that refer to a watched Secret (receiver 1).
func (s *Server) onSecret(before, after client.Object) []types.NamespacedName {
	obj := after
	switch {
	case after == nil:
		obj = before
	case before != nil && before.GetResourceVersion() == after.GetResourceVersion():
		return nil
	}
	return s.index.usersOf(client.ObjectKeyFromObject(obj))
}

// validate checks what the API server also checks, for objects that were stored before it did (receiver 3, 4).
func validate(spec *notificationv1.ReceiverSpec) (Type, error) {
	kind, ok := Find(spec.Type)
	if !ok {
		return Type{}, fmt.Errorf("spec.type '%s' is unknown", spec.Type)
	}
	switch providers := len(spec.OIDCProviders); {
	case kind.OIDC && providers == 0:
		return Type{}, fmt.Errorf("%s receivers must define at least one oidcProvider", spec.Type)
	case !kind.OIDC && providers > 0:
		return Type{}, errors.New("oidcProviders can only be set when type is generic-oidc")
	case kind.OIDC && spec.SecretRef != nil:
		return Type{}, errors.New("secretRef cannot be set when type is generic-oidc")
	case !kind.OIDC && (spec.SecretRef == nil || spec.SecretRef.Name == ""):
		return Type{}, errors.New("secretRef is required when type is not generic-oidc")
	}
	seen := map[string]bool{}
	for n, p := range spec.OIDCProviders {
		field := fmt.Sprintf("spec.oidcProviders[%d]", n)
		if u, err := url.Parse(p.IssuerURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return Type{}, fmt.Errorf("%s.issuerURL is not an http or https URL", field)
		}
		if seen[p.IssuerURL] {
			return Type{}, fmt.Errorf("%s.issuerURL '%s' is there twice: give each issuer one entry", field, p.IssuerURL)
		}
		seen[p.IssuerURL] = true
		if err := validateExpressions(field, &p); err != nil {
			return Type{}, err
		}
	}
	return kind, nil
}

func validateExpressions(field string, p *notificationv1.OIDCProvider) error {
	if len(p.Validations) == 0 {
		return fmt.Errorf("%s.validations is empty: say what a token must hold, or every token of the issuer would do", field)
	}
	for n, v := range p.Validations {
		if strings.TrimSpace(v.Expression) == "" {
			return fmt.Errorf("%s.validations[%d].expression is empty", field, n)
		}
	}
	for n, v := range p.Variables {
		if v.Name == "" || strings.TrimSpace(v.Expression) == "" {
			return fmt.Errorf("%s.variables[%d] needs a name and an expression", field, n)
		}
	}
	return nil
}
