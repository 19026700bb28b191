package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"k8s.io/apimachinery/pkg/runtime"

	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/expr"
)

// maxKept is how many compiled expressions are kept.
const maxKept = 256

// expressions computes ids of commit statuses.
type expressions struct {
	mu   sync.Mutex // guards kept
	kept map[string]cel.Program
}

// commitStatus is the id of a commit status: what the expression of the Provider yields, or kind, name and the beginning of the
// Provider's UID (provider 10).
func (x *expressions) commitStatus(ctx context.Context, e *event.Payload, alert *notificationv1beta3.Alert, p *notificationv1beta3.Provider) (string, error) {
	if p.Spec.CommitStatusExpr == "" {
		first, _, _ := strings.Cut(string(p.UID), "-")
		return strings.ToLower(fmt.Sprintf("%s/%s/%s", e.InvolvedObject.Kind, e.InvolvedObject.Name, first)), nil
	}
	program, err := x.compile(p.Spec.CommitStatusExpr)
	if err != nil {
		return "", fmt.Errorf("spec.commitStatusExpr: %w", err)
	}
	variables := map[string]any{}
	for name, value := range map[string]any{"event": e, "alert": alert, "provider": p} {
		if variables[name], err = runtime.DefaultUnstructuredConverter.ToUnstructured(value); err != nil {
			return "", fmt.Errorf("spec.commitStatusExpr: converting the %s: %w", name, err)
		}
	}
	value, _, err := program.ContextEval(ctx, variables)
	if err != nil {
		return "", fmt.Errorf("spec.commitStatusExpr: failed to evaluate the CEL expression: %w", err)
	}
	id, ok := value.(types.String)
	if !ok || id == "" {
		return "", errors.New("spec.commitStatusExpr: the expression must yield a text that is not empty")
	}
	return string(id), nil
}

func (x *expressions) compile(text string) (cel.Program, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if found, ok := x.kept[text]; ok {
		return found, nil
	}
	env, err := expr.Env("event", "alert", "provider")
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("failed to compile the CEL expression: %w", err)
	}
	program, err := expr.Program(env, ast)
	if err != nil {
		return nil, fmt.Errorf("failed to compile the CEL expression: %w", err)
	}
	if x.kept == nil || len(x.kept) >= maxKept {
		x.kept = map[string]cel.Program{}
	}
	x.kept[text] = program
	return program, nil
}
