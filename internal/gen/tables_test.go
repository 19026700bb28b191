package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/api/crds"
	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/receiver"
)

func TestReplacePart(t *testing.T) {
	const begin, end = "<!-- begin: things, written by `make generate` -->\n", "<!-- end: things -->\n"
	want := "# Page\n" + begin + "\n| a |\n\n" + end + "more\n"
	for name, test := range map[string]struct{ page, err string }{
		"the first time":     {"# Page\n" + begin + end + "more\n", ""},
		"another time":       {want, ""},
		"what was there":     {"# Page\n" + begin + "old\n" + end + "more\n", ""},
		"no marks":           {"# Page\n", "once each"},
		"no end":             {begin + "more\n", "once each"},
		"the other order":    {end + begin, "once each"},
		"two ends":           {begin + end + end, "once each"},
		"two begins":         {begin + begin + end, "once each"},
		"a part of its own":  {begin + end + begin + end, "once each"},
		"marks of some else": {strings.ReplaceAll(want, "things", "others"), "once each"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := replacePart([]byte(test.page), "things", "| a |\n")
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got error %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestProviderTables(t *testing.T) {
	got, err := providerTables([]provider.Type{
		{Name: "b", Title: "B", Group: provider.Bus, Address: "x|y"}, {Name: "a", Title: "A", Group: provider.Chat, Channel: "c", Secret: "s"},
		{Name: "c", Title: "C", Group: provider.Bus},
	})
	if err != nil {
		t.Fatal(err)
	}
	const head = "| `type` | Service | `address` | `channel` | Secret |\n|---|---|---|---|---|\n"
	want := "### Chat\n\n" + head + "| `a` | A |  | c | s |\n\n### Message buses\n\n" + head + "| `b` | B | x\\|y |  |  |\n| `c` | C |  |  |  |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, bad := range map[string]provider.Type{"no title": {Name: "a", Group: provider.Chat}, "no group": {Name: "a", Title: "A"}} {
		if text, err := providerTables([]provider.Type{bad}); err == nil {
			t.Errorf("%s: got %q, want an error", name, text)
		}
	}
}

func TestReceiverTable(t *testing.T) {
	got, err := receiverTable([]receiver.Type{
		{Name: "a", Title: "A", Proof: "p", Events: "X-Event"}, {Name: "b", Title: "B", Proof: "p", NoSecret: true},
		{Name: "c", Title: "C", Proof: "p", SecretKeys: []string{"email"}}, {Name: "d", Title: "D", Proof: "p", OIDC: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "| `type` | Sender | Proof of a call | Event | Secret |\n|---|---|---|---|---|\n" +
		"| `a` | A | p | `X-Event` | `token` |\n| `b` | B | p |  | `token`, for the path alone |\n" +
		"| `c` | C | p |  | `token`, `email` |\n| `d` | D | p |  | none |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text, err := receiverTable([]receiver.Type{{Name: "a", Title: "A"}}); err == nil {
		t.Errorf("got %q without a proof, want an error", text)
	}
}

// TestCheckedInTablesAreCurrent fails when a type was changed without make generate, or a table by hand.
func TestCheckedInTablesAreCurrent(t *testing.T) {
	for _, table := range tables() {
		page, err := os.ReadFile(filepath.Join("../../docs", table.page))
		if err != nil {
			t.Fatal(err)
		}
		text, err := table.text()
		if err != nil {
			t.Errorf("%s: %v", table.name, err)
			continue
		}
		want, err := replacePart(page, table.name, text)
		if err != nil {
			t.Errorf("docs/%s: %v", table.page, err)
			continue
		}
		if diff := cmp.Diff(string(want), string(page)); diff != "" {
			t.Errorf("docs/%s is stale, run make generate (-want +got):\n%s", table.page, diff)
		}
	}
}

// TestTypesOfTheAPI compares the types that the program knows with those that the API server lets in, their order included.
func TestTypesOfTheAPI(t *testing.T) {
	var providers, receivers []string
	for _, each := range provider.Types() {
		providers = append(providers, each.Name)
	}
	for _, each := range receiver.Types() {
		receivers = append(receivers, each.Name)
	}
	for name, known := range map[string][]string{
		"providers.notification.toolkit.fluxcd.io": providers, "receivers.notification.toolkit.fluxcd.io": receivers,
	} {
		data, err := crds.Bytes(name)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			t.Fatal(err)
		}
		for _, version := range crd.Spec.Versions {
			var allowed []string
			for _, value := range version.Schema.OpenAPIV3Schema.Properties["spec"].Properties["type"].Enum {
				allowed = append(allowed, strings.Trim(string(value.Raw), `"`))
			}
			if diff := cmp.Diff(known, allowed); diff != "" {
				t.Errorf("%s %s (-known +allowed):\n%s", name, version.Name, diff)
			}
		}
	}
}
