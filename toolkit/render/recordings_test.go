package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// recording is one state of a Kustomization that Flux 2.9 was seen to reach.
type recording struct {
	Name      string                       `json:"name"`
	Digest    string                       `json:"digest"`
	Error     string                       `json:"error"`
	Files     map[string]string            `json:"files"`
	Spec      recordedSpec                 `json:"spec"`
	Sources   map[string]map[string]string `json:"sources"`
	Decrypted map[string]map[string]string `json:"decrypted"`
}

type recordedSpec struct {
	Path                    string        `json:"path"`
	TargetNamespace         string        `json:"targetNamespace"`
	Patches                 []types.Patch `json:"patches"`
	Images                  []types.Image `json:"images"`
	Components              []string      `json:"components"`
	IgnoreMissingComponents bool          `json:"ignoreMissingComponents"`
	BuildMetadata           []string      `json:"buildMetadata"`
	PostBuild               *struct {
		Substitute         map[string]string `json:"substitute"`
		SubstituteStrategy string            `json:"substituteStrategy"`
		SubstituteFrom     []struct {
			Kind     string `json:"kind"`
			Name     string `json:"name"`
			Optional bool   `json:"optional"`
		} `json:"substituteFrom"`
	} `json:"postBuild"`
}

func (s recordedSpec) spec() Spec {
	return Spec{
		Path: s.Path, TargetNamespace: s.TargetNamespace, Patches: s.Patches, Images: s.Images,
		Components: s.Components, IgnoreMissingComponents: s.IgnoreMissingComponents, BuildMetadata: s.BuildMetadata,
	}
}

func (r recording) options() Options {
	var o Options
	if r.Decrypted != nil {
		o.Decrypt = recordedPlainText(r.Decrypted)
	}
	if p := r.Spec.PostBuild; p != nil {
		o.Variables = &Substitution{Always: p.SubstituteStrategy == "Always", Load: func(context.Context) (map[string]string, error) {
			var from []map[string]string
			for _, f := range p.SubstituteFrom {
				data, ok := r.Sources[f.Kind+"/"+f.Name]
				if !ok && !f.Optional {
					return nil, fmt.Errorf("substitute from '%s/%s' error: %ss %q not found", f.Kind, f.Name, strings.ToLower(f.Kind), f.Name)
				}
				from = append(from, data)
			}
			return MergeVariables(p.Substitute, from...), nil
		}}
	}
	return o
}

// recordedPlainText stands for a decrypter: it knows the plain text of the recorded objects.
type recordedPlainText map[string]map[string]string

func (recordedPlainText) File(_ context.Context, _ FileUse, content []byte) ([]byte, error) {
	return content, nil
}

func (d recordedPlainText) Object(_ context.Context, obj *unstructured.Unstructured) (bool, error) {
	if obj.Object["sops"] == nil || obj.GetAnnotations()["kustomize.toolkit.fluxcd.io/decrypt"] != "" {
		return false, nil
	}
	delete(obj.Object, "sops")
	for _, field := range []string{"data", "stringData"} {
		data, _ := obj.Object[field].(map[string]any)
		for key := range data {
			data[key] = d[obj.GetKind()+"/"+obj.GetName()][key]
		}
	}
	return true, nil
}

// writeTree puts files into a new directory.
func writeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// disk is the tree below a directory.
func disk(t testing.TB, dir string) fs.FS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root.FS()
}

// unpacked is a directory as an artifact has it.
func unpacked(t testing.TB, dir string) fs.FS {
	t.Helper()
	var packed, content bytes.Buffer
	if err := archive.Write(t.Context(), &packed, archive.Dir(dir), archive.Matcher{}); err != nil {
		t.Fatal(err)
	}
	index, err := archive.Unpack(t.Context(), &packed, &content, archive.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return index.FS(bytes.NewReader(content.Bytes()))
}

func buildDir(t testing.TB, dir string, spec Spec, opts Options) (*Result, error) {
	t.Helper()
	return Build(t.Context(), disk(t, dir), spec, opts)
}

// TestRecordings covers kustomization 25, 28-39, 47, 51-60 and 103: digests and error texts are those of Flux 2.9.
func TestRecordings(t *testing.T) {
	content, err := os.ReadFile("testdata/recordings.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var recordings []recording
	if err := yaml.UnmarshalStrict(content, &recordings, yaml.DisallowUnknownFields); err != nil {
		t.Fatal(err)
	}
	for _, r := range recordings {
		t.Run(r.Name, func(t *testing.T) {
			res, err := Build(t.Context(), unpacked(t, writeTree(t, r.Files)), r.Spec.spec(), r.options())
			if r.Error != "" {
				want := strings.ReplaceAll(r.Error, "<dir>", Root)
				if err == nil {
					t.Fatalf("built %d objects, want error %q", len(res.Objects), want)
				}
				if diff := cmp.Diff(want, err.Error()); diff != "" {
					t.Errorf("error differs (-recorded +got):\n%s", diff)
				}
				if notFound := strings.HasPrefix(want, ErrPathNotFound.Error()); notFound != errors.Is(err, ErrPathNotFound) {
					t.Errorf("errors.Is(err, ErrPathNotFound) = %v", !notFound)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// Parts of one object each are as good as the whole, and a directory is as good as an artifact.
			options := r.options()
			options.parts = 1
			if parts, err := buildDir(t, writeTree(t, r.Files), r.Spec.spec(), options); err != nil || parts.Digest != res.Digest {
				t.Errorf("built in parts: %+v, %v", parts, err)
			}
			if res.Digest != r.Digest {
				var b strings.Builder
				_ = res.WriteYAML(&b)
				t.Errorf("digest %s, recorded %s; built:\n%s", res.Digest, r.Digest, b.String())
			}
		})
	}
}
