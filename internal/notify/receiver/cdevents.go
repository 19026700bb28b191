package receiver

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"
)

// cdEventType is the form of context.type: dev.cdevents.<subject>.<predicate>.<version>, or dev.cdeventsx.<tool>-<subject>... for events
// that a tool has made up.
var cdEventType = regexp.MustCompile(`^dev\.cdeventsx?\.[a-z0-9-]+\.[a-z0-9]+\.[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)

// cdEvents is any sender of CDEvents, version 0.4 of the specification (receiver 27).
func cdEvents() Type {
	return Type{
		Name: "cdevents", Title: "CDEvents", Events: "Ce-Type", NoSecret: true,
		Proof: "none but knowing the path; the body must be a CDEvent, version 0.4",
		Verify: func(_ context.Context, c *Call) (*Verified, error) {
			return &Verified{}, checkCDEvent(c.Body)
		},
	}
}

// checkCDEvent checks what the specification requires of every event.
func checkCDEvent(body []byte) error {
	var version, id, source, kind, timestamp, subjectID, subjectSource, subjectType string
	var content map[string]any
	err := decodeObject(body, map[string]any{
		"context": map[string]any{"version": &version, "id": &id, "source": &source, "type": &kind, "timestamp": &timestamp},
		"subject": map[string]any{"id": &subjectID, "source": &subjectSource, "type": &subjectType, "content": &content},
	})
	if err != nil {
		return err
	}
	switch {
	case version != "0.4" && !strings.HasPrefix(version, "0.4."):
		return errors.New("context.version is not 0.4")
	case id == "" || source == "":
		return errors.New("context.id or context.source is missing")
	case !cdEventType.MatchString(kind):
		return errors.New("context.type is not the type of a CDEvent")
	case subjectID == "" || content == nil:
		return errors.New("subject.id or subject.content is missing")
	case !strings.EqualFold(subjectType, strings.Split(kind, ".")[2]):
		return errors.New("subject.type is not the subject of context.type")
	}
	if _, err := time.Parse(time.RFC3339, timestamp); err != nil {
		return errors.New("context.timestamp is missing or not a time")
	}
	return nil
}
