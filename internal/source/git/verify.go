package git

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// verifier checks the signatures that spec.verify asks for.
type verifier struct {
	mode  sourcev1.GitVerificationMode
	keys  *git.Keys
	trust string
}

// mode returns the mode in its one spelling (gitrepository 42).
func mode(m sourcev1.GitVerificationMode) sourcev1.GitVerificationMode {
	switch m {
	case sourcev1.VerifyTag, sourcev1.VerifyTagAndHead:
		return m
	}
	return sourcev1.VerifyHead
}

// covers reports whether what was verified in one mode is verified for another (gitrepository 50).
func covers(observed, requested sourcev1.GitVerificationMode) bool {
	return observed == requested || observed == sourcev1.VerifyTagAndHead
}

func wantsTag(m sourcev1.GitVerificationMode) bool { return m != sourcev1.VerifyHead }

func wantsHead(m sourcev1.GitVerificationMode) bool { return m != sourcev1.VerifyTag }

// verifier returns nil when nothing is to be verified (gitrepository 41). What can be told before anything is fetched is
// told here.
func (s *Source) verifier(ctx context.Context, obj *sourcev1.GitRepository, run *loop.Run) (*verifier, error) {
	spec := obj.Spec.Verify
	if spec == nil || spec.Mode == "" {
		return nil, nil
	}
	v := &verifier{mode: mode(spec.Mode)}
	if ref := reference(obj.Spec.Ref); wantsTag(v.mode) && (ref.Commit != "" || ref.Name != "" || ref.SemVer == "" && ref.Tag == "") {
		return nil, unverified(run, loop.Stall(sourcev1.InvalidVerificationModeReason,
			errors.New("cannot verify tag object's signature if a tag reference is not specified")))
	}
	key := types.NamespacedName{Namespace: obj.Namespace, Name: spec.SecretRef.Name}
	data, err := s.secret(ctx, key)
	if err == nil {
		v.keys, err = git.KeysFromSecret(data)
	}
	if err != nil {
		return nil, unverified(run, loop.Fail(sourcev1.VerificationErrorReason, fmt.Errorf("reading public keys from secret '%s': %w", key, err)))
	}
	if v.trust, err = fingerprint(v.mode, data); err != nil {
		return nil, err
	}
	return v, nil
}

// fingerprint changes with the mode and with every key.
func fingerprint(m sourcev1.GitVerificationMode, data map[string][]byte) (string, error) {
	// Keys of a map are sorted.
	text, err := json.Marshal(struct {
		Mode sourcev1.GitVerificationMode
		Data map[string][]byte
	}{m, data})
	if err != nil {
		return "", fmt.Errorf("naming the public keys: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func unverified(run *loop.Run, v *loop.Verdict) error {
	run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionFalse, loop.Reason(v, ""), "%v", v)
	return v
}

// verify checks the signatures of what was fetched: the tag before the commit (gitrepository 45-47).
func (u *upstream) verify(checkout *git.Checkout) error {
	if u.verifier == nil {
		u.run.Unset(sourcev1.SourceVerifiedCondition) // gitrepository 41
		return nil
	}
	lines := []string{"verified signature of"}
	if tag := checkout.Tag; wantsTag(u.verifier.mode) {
		if tag == nil || !tag.Signed() {
			return unverified(u.run, loop.Fail(sourcev1.InvalidGitObjectReason, fmt.Errorf("cannot verify signature of tag '%s' since it is not signed", tag)))
		}
		key, err := u.verifier.keys.VerifyTag(*tag)
		if err != nil {
			return unverified(u.run, loop.Fail(sourcev1.InvalidTagSignatureReason, err))
		}
		lines = append(lines, fmt.Sprintf("\t- tag '%s' with key '%s'", tag, key))
	}
	if wantsHead(u.verifier.mode) {
		key, err := u.verifier.keys.VerifyCommit(checkout.Commit)
		if err != nil {
			return unverified(u.run, loop.Fail(sourcev1.InvalidCommitSignatureReason, err))
		}
		lines = append(lines, fmt.Sprintf("\t- commit '%s' with key '%s'", checkout.Commit.Hash, key))
	}
	message := strings.Join(lines, "\n")
	u.run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionTrue, meta.SucceededReason, "%s", message)
	u.run.Event(event.Event{Severity: event.Info, Reason: meta.SucceededReason, Message: message, Local: true})
	return nil
}
