package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/image/tags"
)

// Where the tags are kept: where the flag says, beside the artifacts of a process that has them, or where 2.9 has them.
func TestReflectorStoragePath(t *testing.T) {
	artifacts := t.TempDir()
	sources := &component.Storage{}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	sources.BindFlags(fs)
	if err := fs.Parse([]string{"--storage-path=" + artifacts}); err != nil {
		t.Fatal(err)
	}
	shared := &component.Host{}
	if err := sources.Open(shared); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sources.Close(); err != nil {
			t.Error(err)
		}
	})
	tests := map[string]struct {
		host *component.Host
		args []string
		dir  string
		err  string
	}{
		"alone":                  {&component.Host{}, nil, "/data", ""},
		"told":                   {&component.Host{}, []string{"--storage-path=/tags"}, "/tags", ""},
		"beside artifacts":       {shared, nil, filepath.Join(artifacts, "image-reflector"), ""},
		"beside artifacts, told": {shared, []string{"--storage-path=/data"}, "/data", ""},
		"a negative threshold":   {&component.Host{}, []string{"--storage-compression-threshold=-1"}, "", "--storage-compression-threshold=-1: want at least 0"},
		"a negative interval":    {&component.Host{}, []string{"--gc-interval=-1"}, "", "--gc-interval=-1: want at least 0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := Reflector().New().(*reflector)
			fs := pflag.NewFlagSet("", pflag.ContinueOnError)
			r.BindFlags(fs)
			if err := fs.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			err := r.Prepare(tt.host)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || r.dir != tt.dir {
				t.Errorf("the tags are in %s (error %v), want %s", r.dir, err, tt.dir)
			}
		})
	}
}

// imagerepository 20, 31: the tags of objects that are gone go, those of a namespace that cannot be listed stay.
func TestCollector(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := imagev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	database, err := tags.Open(tags.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := database.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range []string{"app", "gone"} {
		if _, err := database.Put(types.NamespacedName{Namespace: "apps", Name: name}, "ghcr.io/team/app", []string{"1.0.0"}); err != nil {
			t.Fatal(err)
		}
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&imagev1.ImageRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app"}}).Build()
	c := collector{database: database, reader: api, every: time.Minute, log: logr.Discard()}
	c.collect(t.Context())
	for name, want := range map[string]bool{"app": true, "gone": false} {
		_, err := os.Stat(filepath.Join(dir, "imagerepository", "apps", name))
		if kept := !errors.Is(err, os.ErrNotExist); kept != want {
			t.Errorf("the tags of %s are kept: %t, want %t", name, kept, want)
		}
	}
}

// The manifest asks for no more than the component does (reliability 163).
func TestReflectorManifest(t *testing.T) {
	c := Reflector()
	for _, rule := range c.Rules {
		for _, group := range rule.APIGroups {
			if group != imagev1.GroupName {
				t.Errorf("the component asks for rights in the group %q", group)
			}
		}
	}
	for _, crd := range c.CRDs {
		if !strings.HasSuffix(crd, "."+imagev1.GroupName) {
			t.Errorf("CRD %s", crd)
		}
	}
}
