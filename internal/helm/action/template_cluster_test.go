package action_test

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/internal/helm/action"
)

// Rendering writes nothing, and shows what an install or an upgrade would store.
func TestTemplate(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	template := func(c ...string) string {
		t.Helper()
		a := l.actions()
		rel, err := a.Template(t.Context(), l.obj, demo("1.0.0", c...), values("message: x"), action.TemplateOptions{CRDs: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Written()) != 0 {
			t.Error("a record is written")
		}
		return rel.Manifest
	}
	revision := []string{"revision.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: revision}\ndata: {upgrade: \"{{ .Release.IsUpgrade }} {{ .Release.Revision }}\"}\n"}
	group := l.ns + ".example.com"
	crd := []string{"crds/parts.yaml", definition(group, "1"), "part.yaml", strings.ReplaceAll(partTemplate, "GROUP", group)}
	installed := template(append(revision, crd...)...)
	for _, want := range []string{"upgrade: false 1", "message: x", "helm.toolkit.fluxcd.io/name: app", "kind: CustomResourceDefinition", "kind: Part"} {
		if !strings.Contains(installed, want) {
			t.Errorf("no %q in the manifest of an install:\n%s", want, installed)
		}
	}
	if l.records() != "" || l.message() != "-" || l.get("CustomResourceDefinition", "parts."+group) != nil {
		t.Error("something is written")
	}
	l.install()
	if upgraded := template(revision...); !strings.Contains(upgraded, "upgrade: true 2") {
		t.Errorf("the manifest of an upgrade:\n%s", upgraded)
	}
	if l.records() != "v1 deployed" || l.message() != "hello" {
		t.Errorf("records %q, message %q", l.records(), l.message())
	}
}

// reliability 013: templates see the cluster as the HelmRelease, and nothing of the process.
func TestTemplateReach(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, serviceAccountName: reader}")
	l.apply("someone", "{apiVersion: v1, kind: ConfigMap, metadata: {name: seen}, data: {key: value}}")
	l.grant("reader", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "list"}})
	l.grant("reader", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list"}})
	render := func(text string) (string, error) {
		c := chartOf("1.0.0", map[string]string{"out.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: out}\ndata: {out: " + text + "}\n"})
		rel, err := l.actions().Template(t.Context(), l.obj, c, nil, action.TemplateOptions{})
		if err != nil {
			return "", err
		}
		_, out, _ := strings.Cut(rel.Manifest, "out: ")
		out, _, _ = strings.Cut(out, "\n")
		return out, nil
	}
	for text, want := range map[string]string{
		`{{ (lookup "v1" "ConfigMap" .Release.Namespace "seen").data.key }}`:            "value",
		`{{ len (lookup "v1" "ConfigMap" .Release.Namespace "absent") }}x`:              "0x",
		`{{ gt (len (lookup "v1" "ConfigMap" .Release.Namespace "").items) 0 | quote}}`: `"true"`,
		`x{{ getHostByName "canary.test" }}`:                                            "x",
		`x{{ .Files.Get "../../etc/passwd" }}`:                                          "x",
	} {
		if got, err := render(text); err != nil || got != want {
			t.Errorf("%s renders %q, want %q: %v", text, got, want, err)
		}
	}
	for text, want := range map[string]string{
		`{{ lookup "v1" "Secret" "kube-system" "" | len }}`: "forbidden",
		`{{ lookup "v1" "Nothing" "" "" | len }}`:           "no matches for kind",
		`{{ env "HOME" }}`:        `function "env" not defined`,
		`{{ expandenv "$HOME" }}`: `function "expandenv" not defined`,
	} {
		if got, err := render(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s renders %q, error %v, want %s", text, got, err, want)
		}
	}
}

// grant gives an account of the namespace rights in it.
func (l *lab) grant(account string, rule rbacv1.PolicyRule) {
	l.t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{GenerateName: account + "-"}, Rules: []rbacv1.PolicyRule{rule}}
	role, err := l.client.RbacV1().Roles(l.ns).Create(context.Background(), role, metav1.CreateOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: l.ns, Name: account}},
		RoleRef:    rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: role.Name},
	}
	if _, err := l.client.RbacV1().RoleBindings(l.ns).Create(context.Background(), binding, metav1.CreateOptions{}); err != nil {
		l.t.Fatal(err)
	}
}
