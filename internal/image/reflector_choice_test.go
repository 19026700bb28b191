package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// imagepolicy 2, 16-18, 27, 38: choices, from the first on.
func TestChoiceStory(t *testing.T) {
	l := newReflectorLab(t)
	l.push("1.0.0")
	l.repository()
	l.policy()
	l.scan()
	ready, again := l.chooseAgain()
	const one = "Latest image tag for HOST/app resolved to 1.0.0"
	expectText(t, "Ready", ready, "True Succeeded: "+one)
	expectLines(t, "events", l.lines(l.choices), "info Succeeded: "+one)
	if again != 0 {
		t.Errorf("imagepolicy 2: looked at again after %s", again)
	}
	obj := l.getPolicy()
	want := imagev1.ImagePolicyStatus{
		ObservedGeneration: 1, Conditions: obj.Status.Conditions, LatestRef: &imagev1.ImageRef{Name: l.host() + "/app", Tag: "1.0.0"},
	}
	if diff := cmp.Diff(want, obj.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	l.choose()
	expectLines(t, "events of a run nobody asked for", l.lines(l.choices))

	l.push("1.1.0")
	l.rescan()
	const two = "Latest image tag for HOST/app resolved to 1.1.0 (previously HOST/app:1.0.0)"
	expectText(t, "Ready", l.choose(), "True Succeeded: "+two)
	expectLines(t, "events", l.lines(l.choices), "info Succeeded: "+two)
	if got := l.getPolicy().Status.ObservedPreviousRef; got == nil || got.Tag != "1.0.0" {
		t.Errorf("the previous one is %v", got)
	}

	l.editPolicy(func(obj *imagev1.ImagePolicy) {
		obj.Spec.Policy = imagev1.ImagePolicyChoice{Alphabetical: &imagev1.AlphabeticalPolicy{}}
	})
	expectText(t, "imagepolicy 27: Ready after another way to the same tag", l.choose(), "True Succeeded: "+two)
	expectLines(t, "events", l.lines(l.choices), "trace Succeeded: "+two+" (local)")
	l.request(&imagev1.ImagePolicy{}, "token")
	l.choose()
	if got := l.getPolicy().Status; got.LastHandledReconcileAt != "token" || got.ObservedPreviousRef.Tag != "1.0.0" {
		t.Errorf("status: %+v", got)
	}
}

// imagepolicy 3, 4, 6-9, 13, 26, 40: what keeps a policy from choosing. What it has chosen before stays.
func TestChoiceRefusals(t *testing.T) {
	tests := map[string]struct {
		change     func(*imagev1.ImagePolicy)
		repository func(*imagev1.ImageRepository)
		ready      string
		again      time.Duration
	}{
		"imagepolicy 3: no interval": {
			func(obj *imagev1.ImagePolicy) { obj.Spec.DigestReflectionPolicy = imagev1.ReflectAlways }, nil,
			"False IntervalNotConfigured: spec.interval must be set when spec.digestReflectionPolicy is set to 'Always'", 0,
		},
		"imagepolicy 4: no repository": {
			func(obj *imagev1.ImagePolicy) { obj.Spec.ImageRepositoryRef.Name = "absent" }, nil,
			`False DependencyNotReady: failed to get the referred ImageRepository: referenced ImageRepository does not exist: ImageRepository.image.toolkit.fluxcd.io "absent" not found`, -1,
		},
		"imagepolicy 6: an image that is none": {
			nil, func(obj *imagev1.ImageRepository) { obj.Spec.Image = "app:latest" },
			"False ImageURLInvalid: image 'app:latest' should not include a tag; remove ':latest'", 0,
		},
		"imagepolicy 6: an identity that is not allowed": {
			nil, func(obj *imagev1.ImageRepository) {
				obj.Spec.Provider, obj.Spec.ServiceAccountName = imagev1.AWSProvider, "account"
			},
			"False FeatureGateDisabled: use the service account 'apps/account' with provider 'aws': the feature gate ObjectLevelWorkloadIdentity is off: switch it on, or remove serviceAccountName", 0,
		},
		"imagepolicy 7: no range": {
			func(obj *imagev1.ImagePolicy) { obj.Spec.Policy.SemVer.Range = "not a range" }, nil,
			`False InvalidPolicy: invalid policy: improper constraint: "not a range"`, 0,
		},
		"imagepolicy 7: no policy": {
			func(obj *imagev1.ImagePolicy) { obj.Spec.Policy = imagev1.ImagePolicyChoice{} }, nil,
			"False InvalidPolicy: invalid policy: spec.policy has none of semver, alphabetical and numerical", 0,
		},
		"imagepolicy 7: no pattern": {
			func(obj *imagev1.ImagePolicy) { obj.Spec.FilterTags = &imagev1.TagFilter{Pattern: "(["} }, nil,
			"False InvalidPolicy: failed to filter tags: invalid regular expression pattern '([': error parsing regexp: missing closing ]: `[`", 0,
		},
		"imagepolicy 9: nothing in the range": {
			func(obj *imagev1.ImagePolicy) { obj.Spec.Policy.SemVer.Range = ">=3" }, nil,
			"False Failure: unable to determine latest version from provided list", -1,
		},
		"imagepolicy 13: not a number": {
			func(obj *imagev1.ImagePolicy) {
				obj.Spec.Policy = imagev1.ImagePolicyChoice{Numerical: &imagev1.NumericalPolicy{}}
			}, nil,
			"False Failure: failed to parse invalid numeric value '1.0.0'", -1,
		},
		"imagepolicy 26: the filter leaves nothing": {
			func(obj *imagev1.ImagePolicy) { obj.Spec.FilterTags = &imagev1.TagFilter{Pattern: "^never$"} }, nil,
			"False Failure: version list argument cannot be empty", -1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newReflectorLab(t)
			l.push("1.0.0")
			l.repository()
			l.policy()
			l.scan()
			l.choose()
			l.lines(l.choices)
			if tt.change != nil {
				l.editPolicy(tt.change)
			}
			if tt.repository != nil {
				l.edit(tt.repository)
			}
			ready, again := l.chooseAgain()
			expectText(t, "Ready", ready, tt.ready)
			if again != tt.again {
				t.Errorf("looked at again after %s, want %s", again, tt.again)
			}
			if stalled := l.condition(&imagev1.ImagePolicy{}, meta.StalledCondition); (stalled != "-") != (tt.again == 0) {
				t.Errorf("Stalled = %s", stalled)
			}
			reason, message, _ := strings.Cut(strings.TrimPrefix(tt.ready, "False "), ": ")
			expectLines(t, "events", l.lines(l.choices), "error "+reason+": "+message)
			expectText(t, "what was chosen before", l.tag(), "1.0.0")
		})
	}
	t.Run("imagepolicy 35: an API server that fails", func(t *testing.T) {
		l := newReflectorLab(t)
		l.repository()
		l.policy()
		l.picker.Client = interceptor.NewClient(l.client.(client.WithWatch), interceptor.Funcs{
			Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
				return errors.New("no answer")
			},
		})
		if ready, again := l.chooseAgain(); ready != "False Failure: failed to get the referred ImageRepository: no answer" || again >= 0 {
			t.Errorf("Ready = %s, again after %s", ready, again)
		}
	})
}

// imagepolicy 8: before the first scan there is nothing to choose from. Tags of another image do not count.
func TestChoiceWithoutTags(t *testing.T) {
	const none = "retrying in 30s error: no tags in database"
	l := newReflectorLab(t)
	l.push("1.0.0")
	l.repository()
	l.policy()
	ready, again := l.chooseAgain()
	expectText(t, "Ready", ready, "False DependencyNotReady: "+none)
	expectText(t, "Reconciling", l.condition(&imagev1.ImagePolicy{}, meta.ReconcilingCondition), "True ProgressingWithRetry: processing object: new generation -1 -> 1")
	expectLines(t, "events", l.lines(l.choices), "error DependencyNotReady: "+none)
	if got := l.getPolicy().Status.ObservedGeneration; again != 30*time.Second || got != -1 {
		t.Errorf("again after %s, observedGeneration %d", again, got)
	}
	l.scan()
	if _, err := l.database.Put(appKey, "ghcr.io/team/other", []string{"9.0.0"}); err != nil {
		t.Fatal(err)
	}
	expectText(t, "Ready with tags of another image", l.choose(), "False DependencyNotReady: "+none)
	l.rescan()
	expectText(t, "Ready after a scan", l.choose(), "True Succeeded: Latest image tag for HOST/app resolved to 1.0.0")
}

// imagepolicy 8: after a restart without a disk, policies that have chosen before wait for the scan and do not complain.
func TestChoiceAfterRestart(t *testing.T) {
	l := newReflectorLab(t)
	l.push("1.0.0")
	l.repository()
	l.policy()
	l.scan()
	l.choose()
	l.lines(l.choices)
	l.openDatabase(t.TempDir())
	l.scanner.Tags, l.picker.Tags = l.database, l.database
	done := make(chan string)
	go func() { done <- l.choose() }()
	l.scan()
	expectText(t, "Ready", <-done, "True Succeeded: Latest image tag for HOST/app resolved to 1.0.0")
	expectLines(t, "events", l.lines(l.choices))
}

// _common 42; imagerepository 19; imagepolicy 4, 5, 36, 37: who may refer to an ImageRepository of another namespace (reliability 035).
func TestChoiceAcrossNamespaces(t *testing.T) {
	selectors := func(labels ...map[string]string) *meta.AccessFrom {
		access := &meta.AccessFrom{NamespaceSelectors: []meta.NamespaceSelector{}}
		for _, l := range labels {
			access.NamespaceSelectors = append(access.NamespaceSelectors, meta.NamespaceSelector{MatchLabels: l})
		}
		return access
	}
	tests := map[string]struct {
		access *meta.AccessFrom
		locked bool
		want   string
	}{
		"nobody is let in":           {nil, false, "False AccessDenied: cannot access 'ImageRepository/apps/app': its spec.accessFrom does not admit the namespace 'team'"},
		"no selectors":               {selectors(), false, "False AccessDenied: cannot access 'ImageRepository/apps/app': its spec.accessFrom does not admit the namespace 'team'"},
		"the labels match":           {selectors(map[string]string{"a": "b"}, map[string]string{"team": "one"}), false, "True"},
		"the labels do not match":    {selectors(map[string]string{"team": "two"}), false, "False AccessDenied: cannot access 'ImageRepository/apps/app': its spec.accessFrom does not admit the namespace 'team'"},
		"one of two labels is there": {selectors(map[string]string{"team": "one", "stage": "x"}), false, "False AccessDenied: cannot access 'ImageRepository/apps/app': its spec.accessFrom does not admit the namespace 'team'"},
		"everybody is let in":        {selectors(nil), false, "True"},
		"an empty map is no label":   {selectors(map[string]string{}), false, "True"},
		"lockdown wins":              {selectors(nil), true, "False AccessDenied: cannot access 'ImageRepository/apps/app', cross-namespace references have been blocked"},
	}
	key := types.NamespacedName{Namespace: "team", Name: "app"}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newReflectorLab(t)
			l.picker.NoCrossNamespaceRefs = tt.locked
			l.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", Labels: map[string]string{"team": "one"}}})
			l.push("1.0.0")
			l.repository(func(obj *imagev1.ImageRepository) { obj.Spec.AccessFrom = tt.access })
			l.scan()
			l.policy(func(obj *imagev1.ImagePolicy) { obj.Namespace, obj.Spec.ImageRepositoryRef.Namespace = "team", "apps" })
			run := func() (string, time.Duration) {
				t.Helper()
				result, err := l.choices.Run(t.Context(), key)
				obj := &imagev1.ImagePolicy{}
				if err := l.client.Get(t.Context(), key, obj); err != nil {
					t.Fatal(err)
				}
				c := obj.Status.Conditions[len(obj.Status.Conditions)-1]
				return string(c.Status) + " " + c.Reason + ": " + c.Message, after(result, err)
			}
			ready, again := run()
			if !strings.HasPrefix(ready, tt.want) || strings.HasPrefix(tt.want, "False") && again >= 0 {
				t.Errorf("Ready = %s, again after %s; want %s, retried", ready, again, tt.want)
			}
			if tt.access == nil {
				l.edit(func(obj *imagev1.ImageRepository) {
					obj.Spec.AccessFrom = selectors(map[string]string{"team": "one"})
				})
				if ready, _ := run(); !strings.HasPrefix(ready, "True") {
					t.Errorf("imagepolicy 36: after it was let in: Ready = %s", ready)
				}
			}
		})
	}
	t.Run("the same namespace needs nobody's leave", func(t *testing.T) {
		l := newReflectorLab(t)
		l.picker.NoCrossNamespaceRefs = true
		l.push("1.0.0")
		l.repository()
		l.scan()
		l.policy(func(obj *imagev1.ImagePolicy) { obj.Spec.ImageRepositoryRef.Namespace = "apps" })
		if ready := l.choose(); !strings.HasPrefix(ready, "True") {
			t.Errorf("Ready = %s", ready)
		}
	})
}

// imagepolicy 15, 28-33: digests.
func TestChoiceOfDigests(t *testing.T) {
	l := newReflectorLab(t)
	first := l.push("1.0.0")
	l.create(l.loginOf("login", "user"))
	l.repository(func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "login"} })
	l.policy(func(obj *imagev1.ImagePolicy) { obj.Spec.DigestReflectionPolicy = imagev1.ReflectNever })
	l.protect("user")
	l.scan()
	l.choose()
	if got := l.getPolicy().Status.LatestRef.Digest; got != "" {
		t.Errorf("Never: the digest is %s", got)
	}
	l.editPolicy(func(obj *imagev1.ImagePolicy) { obj.Spec.DigestReflectionPolicy = imagev1.ReflectIfNotPresent })
	const name = "Latest image tag for HOST/app resolved to 1.0.0"
	expectText(t, "IfNotPresent: Ready", l.choose(), "True Succeeded: "+name+" with digest "+first+" (previously HOST/app:1.0.0)")

	second := l.push("2.0.0", "1.0.0")
	l.untag("2.0.0")
	l.request(&imagev1.ImagePolicy{}, "one")
	l.choose()
	expectText(t, "IfNotPresent: the digest of a tag that has moved", l.getPolicy().Status.LatestRef.Digest, first)

	l.editPolicy(func(obj *imagev1.ImagePolicy) {
		obj.Spec.DigestReflectionPolicy, obj.Spec.Interval = imagev1.ReflectAlways, "5m"
	})
	ready, again := l.chooseAgain()
	expectText(t, "Always: Ready", ready, "True Succeeded: "+name+" with digest "+second+" (previously HOST/app:1.0.0@"+first+")")
	if again != 5*time.Minute {
		t.Errorf("imagepolicy 33: looked at again after %s", again)
	}
	third := l.push("3.0.0", "1.0.0")
	l.untag("3.0.0")
	l.choose()
	expectText(t, "Always: the digest of a tag that has moved", l.getPolicy().Status.LatestRef.Digest, third)

	l.registry.Fail(testkit.RegistryDown)
	if ready, again := l.chooseAgain(); !strings.HasPrefix(ready, "False ReadOperationFailed: failed to get the digest of 'HOST/app:1.0.0': ") || again >= 0 {
		t.Errorf("imagepolicy 30: Ready = %s, again after %s", ready, again)
	}
	expectText(t, "imagepolicy 30: the digest after an outage", l.getPolicy().Status.LatestRef.Digest, third)

	l.seen()
	l.editPolicy(func(obj *imagev1.ImagePolicy) {
		obj.Spec.DigestReflectionPolicy, obj.Spec.Interval = imagev1.ReflectIfNotPresent, ""
	})
	if l.choose(); len(l.seen()) > 0 || l.getPolicy().Status.LatestRef.Digest != third {
		t.Error("imagepolicy 29: a digest that is known was fetched")
	}
	l.registry.Fail(testkit.RegistryWorks)
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef = nil })
	l.editPolicy(func(obj *imagev1.ImagePolicy) {
		obj.Spec.DigestReflectionPolicy, obj.Spec.Interval = imagev1.ReflectAlways, "5m"
	})
	if ready := l.choose(); !strings.HasPrefix(ready, "False ReadOperationFailed: ") {
		t.Errorf("imagepolicy 32: without the credentials of the repository: Ready = %s", ready)
	}
	l.edit(func(obj *imagev1.ImageRepository) { obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "absent"} })
	expectText(t, "imagepolicy 32: Ready without the Secret", l.choose(), `False AuthenticationFailed: failed to configure authentication options: secrets "absent" not found`)
	l.editPolicy(func(obj *imagev1.ImagePolicy) {
		obj.Spec.DigestReflectionPolicy, obj.Spec.Interval = imagev1.ReflectNever, ""
	})
	expectText(t, "imagepolicy 28: Ready without a digest", l.choose(), "True Succeeded: "+name+" (previously HOST/app:1.0.0@"+third+")")
}

// A registry that lists less than it has moves no policy back, in whatever way it fails, also after a restart.
func TestChoiceNeverBackwards(t *testing.T) {
	for name, fault := range map[string]testkit.RegistryFault{
		"cut": testkit.TagsCut, "empty": testkit.TagsEmpty, "reordered": testkit.TagsReordered, "stale": testkit.TagsStale, "broken page": testkit.TagsBrokenPage,
		"torn": testkit.TagsTorn, "throttled": testkit.TagsThrottled, "an outage": testkit.RegistryDown, "reset": testkit.RegistryResets,
	} {
		t.Run(name, func(t *testing.T) {
			l := newReflectorLab(t)
			l.push("1.0.0", "1.1.0", "1.2.0")
			l.repository(func(obj *imagev1.ImageRepository) { obj.Spec.Timeout = "2s" })
			l.policy()
			if fault == testkit.TagsStale {
				l.registry.Fail(fault)
			}
			l.push("2.0.0")
			l.registry.Fail(testkit.RegistryWorks)
			l.scan()
			l.choose()
			expectText(t, "tag", l.tag(), "2.0.0")
			if fault == testkit.TagsStale {
				l.untag("2.0.0")
				l.registry.Fail(fault)
				l.push("2.0.0")
			} else {
				l.registry.Fail(fault)
			}
			for i := range 6 {
				if i == 3 {
					l.openDatabase(t.TempDir())
					l.scanner.Tags, l.picker.Tags = l.database, l.database
					l.edit(func(*imagev1.ImageRepository) {})
				}
				l.request(&imagev1.ImageRepository{}, fmt.Sprint(i))
				l.clock.Step(time.Hour)
				l.scan()
				if list, err := l.database.Get(appKey); err == nil && len(list.Tags) == 0 {
					// Who waits for tags that do not come would only make the test slow.
					continue
				}
				l.choose()
				expectText(t, "tag", l.tag(), "2.0.0")
			}
			l.registry.Fail(testkit.RegistryWorks)
			l.push("3.0.0")
			l.rescan()
			expectText(t, "Ready at rest", l.choose(), "True Succeeded: Latest image tag for HOST/app resolved to 3.0.0 (previously HOST/app:2.0.0)")
		})
	}
}

// What is said while a choice is held, and what ends it.
func TestChoiceHeld(t *testing.T) {
	l := newReflectorLab(t)
	digest := l.push("1.0.0", "2.0.0")
	l.repository()
	l.policy(func(obj *imagev1.ImagePolicy) {
		obj.Spec.DigestReflectionPolicy, obj.Spec.Interval = imagev1.ReflectAlways, "1h"
	})
	l.scan()
	l.choose()
	l.lines(l.choices)

	l.registry.Show("app", "1.0.0")
	l.rescan()
	ready, again := l.chooseAgain()
	resolved := "Latest image tag for HOST/app resolved to 2.0.0 with digest " + digest
	held := resolved + "; the list of tags lacks 2.0.0, which the registry still has"
	expectText(t, "Ready", ready, "True Succeeded: "+held)
	expectLines(t, "events", l.lines(l.choices), "info Succeeded: "+held)
	if again != 10*time.Minute {
		t.Errorf("looked at again after %s", again)
	}

	l.registry.Fail(testkit.RegistryDown)
	ready, again = l.chooseAgain()
	if !strings.HasPrefix(ready, "False ReadOperationFailed: the list of tags lacks 2.0.0, and the registry does not tell whether it still has it: ") || again >= 0 {
		t.Errorf("Ready = %s, again after %s", ready, again)
	}
	expectText(t, "tag", l.tag(), "2.0.0")
	l.registry.Fail(testkit.RegistryWorks)
	l.lines(l.choices)

	l.untag("2.0.0")
	ready, again = l.chooseAgain()
	expectText(t, "Ready", ready, "True Succeeded: "+resolved+"; the registry has 2.0.0 no longer, 1.0.0 follows unless it comes back")
	if again != 10*time.Second {
		t.Errorf("looked at again after %s", again)
	}
	l.clock.Step(4 * time.Second)
	if _, again = l.chooseAgain(); again != 6*time.Second || l.tag() != "2.0.0" {
		t.Errorf("looked at again after %s, the tag is %s", again, l.tag())
	}
	l.clock.Step(6 * time.Second)
	ready, again = l.chooseAgain()
	expectText(t, "Ready", ready, "True Succeeded: Latest image tag for HOST/app resolved to 1.0.0 with digest "+digest+" (previously HOST/app:2.0.0@"+digest+")")
	if again != time.Hour {
		t.Errorf("looked at again after %s", again)
	}
}

// What a user asks for is done at once: a policy, a filter, an exclusion or an image that rules the choice out.
func TestChoiceGoesBackOnDemand(t *testing.T) {
	tests := map[string]struct {
		policy     func(*imagev1.ImagePolicy)
		repository func(*imagev1.ImageRepository)
		want       string
	}{
		"a range":       {func(obj *imagev1.ImagePolicy) { obj.Spec.Policy.SemVer.Range = "1.x" }, nil, "1.0.0"},
		"a filter":      {func(obj *imagev1.ImagePolicy) { obj.Spec.FilterTags = &imagev1.TagFilter{Pattern: "^1"} }, nil, "1.0.0"},
		"an exclusion":  {nil, func(obj *imagev1.ImageRepository) { obj.Spec.ExclusionList = []string{"^2"} }, "1.0.0"},
		"another image": {nil, func(obj *imagev1.ImageRepository) { obj.Spec.Image += "-old" }, "0.1.0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newReflectorLab(t)
			l.push("1.0.0", "2.0.0")
			if err := l.registry.Push("app-old:0.1.0", picture(t, "old")); err != nil {
				t.Fatal(err)
			}
			l.repository()
			l.policy()
			l.scan()
			l.choose()
			if tt.policy != nil {
				l.editPolicy(tt.policy)
			}
			if tt.repository != nil {
				l.edit(tt.repository)
			}
			l.scan()
			l.choose()
			expectText(t, "tag", l.tag(), tt.want)
		})
	}
}

// imagepolicy 19, 39
func TestChoiceLife(t *testing.T) {
	l := newReflectorLab(t)
	l.push("1.0.0")
	l.repository()
	l.policy()
	l.scan()
	l.choose()
	l.editPolicy(func(obj *imagev1.ImagePolicy) { obj.Spec.Suspend = true })
	l.push("2.0.0")
	l.rescan()
	l.choose()
	expectText(t, "the tag of a suspended policy", l.tag(), "1.0.0")
	if err := l.client.Delete(t.Context(), l.getRepository()); err != nil {
		t.Fatal(err)
	}
	l.editPolicy(func(obj *imagev1.ImagePolicy) { obj.Spec.Suspend = false })
	if _, err := l.scans.Run(t.Context(), appKey); err != nil {
		t.Fatal(err)
	}
	if ready := l.choose(); !strings.HasPrefix(ready, "False DependencyNotReady: ") || l.tag() != "1.0.0" {
		t.Errorf("imagepolicy 40: without its repository: Ready = %s, the tag is %s", ready, l.tag())
	}
	if err := l.client.Delete(t.Context(), l.getPolicy()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.choices.Run(t.Context(), appKey); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Get(t.Context(), appKey, &imagev1.ImagePolicy{}); err == nil {
		t.Error("imagepolicy 19: the policy is still there")
	}
}

// imagepolicy 1, 20, 34: which changes of an ImageRepository wake which policies.
func TestChoiceEdges(t *testing.T) {
	l := newReflectorLab(t)
	l.policy()
	l.policy(func(obj *imagev1.ImagePolicy) { obj.Namespace, obj.Spec.ImageRepositoryRef.Namespace = "team", "apps" })
	l.policy(func(obj *imagev1.ImagePolicy) { obj.Name, obj.Spec.ImageRepositoryRef.Name = "other", "other" })
	watches := l.picker.Controller(ReflectorName).Watches
	var policies imagev1.ImagePolicyList
	if err := l.client.List(t.Context(), &policies); err != nil {
		t.Fatal(err)
	}
	for _, obj := range policies.Items {
		if woken := watches[0].Map(nil, &obj); len(woken) > 0 {
			t.Errorf("a policy wakes %v", woken)
		}
	}
	scanned := func(revision string, change ...func(*imagev1.ImageRepository)) *imagev1.ImageRepository {
		obj := &imagev1.ImageRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app", Generation: 1}}
		if revision != "" {
			obj.Status.LastScanResult = &imagev1.ScanResult{Revision: revision}
		}
		for _, f := range change {
			f(obj)
		}
		return obj
	}
	ready := func(obj *imagev1.ImageRepository) {
		obj.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition}}
	}
	tests := map[string]struct {
		before, after client.Object
		want          bool
	}{
		"created":              {nil, scanned(""), true},
		"deleted":              {scanned("1"), nil, true},
		"the first scan":       {scanned(""), scanned("1"), true},
		"other tags":           {scanned("1"), scanned("2"), true},
		"the same tags":        {scanned("1"), scanned("1", ready), false},
		"another image":        {scanned("1"), scanned("1", func(obj *imagev1.ImageRepository) { obj.Status.CanonicalImageName = "x" }), true},
		"another spec":         {scanned("1"), scanned("1", func(obj *imagev1.ImageRepository) { obj.Generation = 2 }), true},
		"one nobody refers to": {scanned("1"), scanned("2", func(obj *imagev1.ImageRepository) { obj.Name = "nobody" }), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var want []types.NamespacedName
			if tt.want {
				want = []types.NamespacedName{appKey, {Namespace: "team", Name: "app"}}
			}
			if diff := cmp.Diff(want, watches[1].Map(tt.before, tt.after)); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		})
	}
	for _, obj := range policies.Items {
		watches[0].Map(&obj, nil)
	}
	if woken := watches[1].Map(scanned("1"), scanned("2")); len(woken) > 0 {
		t.Errorf("policies that are gone are woken: %v", woken)
	}
}
