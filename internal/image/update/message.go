package update

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"k8s.io/apimachinery/pkg/types"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/internal/image/update/setters"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

const (
	defaultMessage = "Update from image update automation"
	templateName   = "commit message"
	// messageTimeout and maxMessage bound what a template may do.
	messageTimeout = 5 * time.Second
	maxMessage     = 1 << 20
	templateHelp   = "https://fluxcd.io/flux/components/image/imageupdateautomations/#message-template"
)

// messageData is what the template of a commit message sees (imageupdateautomation 25). The names are part of the API.
type messageData struct {
	AutomationObject types.NamespacedName
	Changed          changed
	Values           map[string]string
}

// changed tells the changes by file and object, by object, and as a list.
type changed struct {
	FileChanges map[string]map[objectID][]change
	Objects     map[objectID][]change
	Changes     []change
}

// objectID names an object in templates (imageupdateautomation 51).
type objectID struct{ APIVersion, Kind, Name, Namespace string }

// change is one value that was replaced.
type change struct{ OldValue, NewValue, Setter string }

func newMessageData(obj *imagev1.ImageUpdateAutomation, changes []fileChange) *messageData {
	data := &messageData{
		AutomationObject: types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name},
		Changed:          changed{FileChanges: map[string]map[objectID][]change{}, Objects: map[objectID][]change{}},
		Values:           obj.Spec.Git.Commit.MessageTemplateValues,
	}
	seen := map[change]bool{}
	for _, c := range changes {
		id := idOf(c.Object)
		one := change{OldValue: c.Old, NewValue: c.New, Setter: c.Setter}
		if data.Changed.FileChanges[c.file] == nil {
			data.Changed.FileChanges[c.file] = map[objectID][]change{}
		}
		data.Changed.FileChanges[c.file][id] = append(data.Changed.FileChanges[c.file][id], one)
		data.Changed.Objects[id] = append(data.Changed.Objects[id], one)
		if !seen[one] {
			seen[one] = true
			data.Changed.Changes = append(data.Changed.Changes, one)
		}
	}
	return data
}

func idOf(o setters.Object) objectID { return objectID{o.APIVersion, o.Kind, o.Name, o.Namespace} }

// message renders the commit message (imageupdateautomation 24-26, 50).
func message(ctx context.Context, obj *imagev1.ImageUpdateAutomation, changes []fileChange) (string, error) {
	text := obj.Spec.Git.Commit.MessageTemplate
	if text == "" {
		return defaultMessage, nil
	}
	ctx, cancel := context.WithTimeout(ctx, messageTimeout)
	defer cancel()
	box := &sandbox{ctx: ctx}
	t, err := template.New(templateName).Funcs(box.funcs()).Parse(text)
	if err != nil {
		return "", fmt.Errorf("unable to create commit message template from spec: %w", err)
	}
	if err := box.guard(t); err != nil {
		return "", err
	}
	out := &boundedText{}
	if err := t.Execute(out, newMessageData(obj, changes)); err != nil {
		return "", templateFailed(err)
	}
	return out.text.String(), nil
}

// templateFailed tells fields that templates of older versions use from other mistakes.
func templateFailed(err error) error {
	for field, instead := range map[string]string{
		"Updated": "template uses removed '.Updated' field. Please use '.Changed' instead. See: " + templateHelp,
		"ImageResult": "template uses removed '.Changed.ImageResult' field. " +
			"Please use '.Changed.FileChanges' or '.Changed.Objects' instead. See: " + templateHelp,
	} {
		if strings.Contains(err.Error(), "can't evaluate field "+field+" in type ") {
			return loop.Stall(imagev1.RemovedTemplateFieldReason, errors.New(instead))
		}
	}
	return fmt.Errorf("failed to run template from spec: %w", err)
}

// boundedText collects what a template writes.
type boundedText struct{ text strings.Builder }

func (b *boundedText) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > maxMessage {
		return 0, fmt.Errorf("the message has more than %d bytes", maxMessage)
	}
	return b.text.Write(p)
}
