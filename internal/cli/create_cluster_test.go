package cli

import (
	"bytes"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// clusterCommands runs commands against a real API server and returns what they print.
func clusterCommands(t *testing.T, namespace string) func(line string) (code int, stdout, stderr string) {
	t.Helper()
	kubeconfig := testkit.Kubeconfig(t)
	return func(line string) (int, string, string) {
		var out, errs bytes.Buffer
		code := run(t.Context(), Config{
			Program: "flux", Version: "v2.9.0", Kinds: Kinds(), Clock: clock.RealClock{}, Getenv: func(string) string { return "" },
			Streams: Streams{In: strings.NewReader(""), Out: &out, Err: &errs},
		}, append(split(line), "--kubeconfig", kubeconfig, "--namespace", namespace))
		return code, out.String(), errs.String()
	}
}

// TestCreatedObjectsAreAccepted covers cli 22, 27, 28: a real API server knows every field of what create prints.
func TestCreatedObjectsAreAccepted(t *testing.T) {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	namespace := testkit.Namespace(t, config)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	flux := clusterCommands(t, namespace)
	for _, line := range []string{
		`receiver a-receiver --type=github --event=ping,push --secret-ref=token --resource=GitRepository/web,HelmRepository/web.charts --resource=Kustomization/web`,
		`receiver a-receiver --type=gcr --secret-ref=token --resource=ImageRepository/*`,
		`alert-provider a-provider --type=slack --channel=deployments --username=flux --address=https://slack.com/api/chat.postMessage --secret-ref=slack`,
		`alert-provider a-provider --type=otel`,
		`alert an-alert --provider-ref=slack --event-severity=error --event-source=Kustomization/*,HelmRelease/web.apps`,
		`image repository a-repository --image=registry.example.com/org/app --interval=10m --scan-timeout=1m --secret-ref=registry --cert-ref=ca`,
		`image policy a-policy --image-ref=app --select-semver=1.x`,
		`image policy a-policy --image-ref=app --select-alpha=desc --filter-regex='(?P<ts>.*)' --filter-extract='$ts' --reflect-digest=IfNotPresent`,
		`image policy a-policy --image-ref=app --select-numeric=asc --reflect-digest=Always --interval=5m`,
		`image update an-update --git-repo-ref=web --author-email=flux@example.com`,
		`image update an-update --git-repo-ref=web --git-repo-namespace=sources --git-repo-path=./clusters --checkout-branch=main --push-branch=updates ` +
			`--author-name=flux --author-email=flux@example.com --commit-template=update --signing-key-secret=key --signing-key-type=ssh`,
	} {
		t.Run(line, func(t *testing.T) {
			code, stdout, stderr := flux("create " + line + " --label=team=a --export")
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			obj := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(stdout), &obj.Object); err != nil {
				t.Fatal(err)
			}
			k, known := Kinds().ForGroupKind(obj.GroupVersionKind().GroupKind())
			if !known {
				t.Fatalf("%s is no kind of ours", obj.GroupVersionKind())
			}
			_, err := client.Resource(k.GVR()).Namespace(namespace).Create(t.Context(), obj, metav1.CreateOptions{
				DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
			})
			if err != nil {
				t.Errorf("%v\n%s", err, stdout)
			}
		})
	}
}

// TestAlertStory covers cli 8, 18, 20, 22: kinds that no controller reports on are ready as soon as they are written.
func TestAlertStory(t *testing.T) {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	namespace := testkit.Namespace(t, config)
	flux := clusterCommands(t, namespace)
	for _, step := range []struct{ line, want string }{
		{"create alert-provider chat --type=generic --address=https://example.com", "✔ Provider chat is ready"},
		{"create alert loud --provider-ref=chat --event-source=Kustomization/*", "✔ Alert created"},
		{"create alert loud --provider-ref=chat --event-source=Kustomization/* --event-severity=error", "✔ Alert updated"},
		{"export alert loud", "eventSeverity: error"},
		{"suspend alert loud", "✔ alert suspended"},
		{"get alerts loud --no-header", "loud\tTrue "},
		{"resume alert loud", "✔ Alert loud needs no reconciliation"},
		{"get alerts loud --no-header", "loud\tFalse "},
		{"delete alert loud --silent", "✔ alert deleted"},
		{"delete alert-provider chat --silent", "✔ alert-provider deleted"},
	} {
		code, stdout, stderr := flux(step.line)
		if printed := stdout + stderr; code != 0 || !strings.Contains(printed, step.want) {
			t.Fatalf("flux %s: exit code %d, %q, want %q", step.line, code, printed, step.want)
		}
	}
}
