package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// usageError says that the command was typed wrongly.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// connectError says that the kubeconfig cannot be used.
type connectError struct{ err error }

func (e *connectError) Error() string { return fmt.Sprintf("connect to the cluster: %v", e.err) }
func (e *connectError) Unwrap() error { return e.err }

// hintedError carries the command to run next.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

// hinted adds the command to run next to an error.
func hinted(err error, format string, args ...any) error {
	return &hintedError{err, fmt.Sprintf(format, args...)}
}

// describe renders an error of a command as one line that ends with a command to run next, where there is one to
// recommend.
func (f *Factory) describe(err error, command string) string {
	text := strings.TrimSpace(oneLine(err.Error()))
	if hint := f.hint(err, command); hint != "" {
		text += "; try '" + hint + "'"
	}
	return text
}

func (f *Factory) hint(err error, command string) string {
	var (
		told     *hintedError
		usage    *usageError
		absent   *ops.NotFoundError
		unserved *ops.NotInstalledError
		failed   *ops.FailedError
		late     *ops.TimeoutError
		connect  *connectError
	)
	switch {
	case errors.As(err, &told):
		return told.hint
	case errors.As(err, &usage):
		return command + " --help"
	case errors.As(err, &absent):
		return absent.Kind.ListCommand() + " -A"
	case errors.As(err, &unserved):
		return "flux check"
	case errors.As(err, &late):
		return f.eventsOf(late.Object)
	case errors.As(err, &failed):
		return f.eventsOf(failed.Object)
	case clientcmd.IsEmptyConfig(err):
		return "flux up"
	case errors.As(err, &connect):
		return "kubectl config view --minify"
	case apierrors.IsForbidden(err):
		return "kubectl auth whoami"
	case apierrors.IsUnauthorized(err):
		return "kubectl config view --minify"
	case ofNetwork(err):
		return "flux check --pre"
	}
	return ""
}

func (f *Factory) eventsOf(o kind.Object) string {
	if o.Unstructured == nil || o.GetName() == "" {
		return "flux check"
	}
	return fmt.Sprintf("flux events --for %s/%s -n %s", o.GetKind(), o.GetName(), o.GetNamespace())
}

// ofNetwork tells whether the network failed. The system's errors about files look like those about the network.
func ofNetwork(err error) bool {
	var network net.Error
	var file *fs.PathError
	return errors.As(err, &network) && !errors.As(err, &file)
}
