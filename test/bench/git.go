package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

const (
	// gitFiles of gitFileBytes make a pack of about 300 MB.
	gitFiles     = 50_000
	gitFileBytes = 6_000
	// gitHistory is how many commits stand behind the tip, each with a tenth of the files changed.
	gitHistory = 3
	// gitRefs is how many branches the other repository has.
	gitRefs     = 1_000_000
	gitInterval = 10 * time.Second
)

// largeGit: a repository of many files and some history is fetched for the first time, and looked at in an interval
// without news. Then the same look at a repository with a million branches.
func largeGit(ctx context.Context, l *lab) ([]figure, error) {
	root := filepath.Join(l.dir, "repositories")
	repo, err := testkit.NewGitRepo(filepath.Join(root, "large.git"))
	if err != nil {
		return nil, err
	}
	if err := fill(repo); err != nil {
		return nil, err
	}
	tip, err := tipPack(repo.Dir)
	if err != nil {
		return nil, err
	}
	wire, err := newWire(root)
	if err != nil {
		return nil, err
	}
	defer wire.server.Close()
	if err := l.start(ctx, l.plane.Kubeconfig, "--interval-jitter-percentage=0"); err != nil {
		return nil, err
	}
	idle, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	took, err := l.fetch(ctx, "large", wire.server.URL+"/large.git")
	if err != nil {
		return nil, err
	}
	fetched, _ := wire.take()
	memory, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d files, pack of %d MB", gitFiles, tip/1e6)
	figures := []figure{
		tell("git/large/wall", seconds(took), "s", note),
		measure("git/large/own-peak-rss", memory, 400, "MiB", fmt.Sprintf("%.0f MiB when idle", idle)),
		measure("git/large/wire", float64(fetched)/float64(tip), 1.3, "", "bytes of the fetch to bytes of the tip's pack"),
	}
	looked, err := wire.interval(ctx)
	if err != nil {
		return nil, err
	}
	figures = append(figures, measure("git/large/interval", looked, 1, "", "requests of an interval without news"))
	if err := l.client.DeleteAllOf(ctx, &sourcev1.GitRepository{}, client.InNamespace(l.namespace)); err != nil {
		return nil, err
	}
	many, err := l.manyRefs(ctx, root, wire)
	return append(figures, many...), err
}

// manyRefs looks at one branch of a repository that has very many.
func (l *lab) manyRefs(ctx context.Context, root string, wire *wire) ([]figure, error) {
	repo, err := testkit.NewGitRepo(filepath.Join(root, "refs.git"))
	if err != nil {
		return nil, err
	}
	hash, err := repo.Commit(testkit.GitCommit{Branch: "main", Message: "only", Files: map[string]*testkit.GitFile{"f": {Content: "x"}}})
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	packed.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
	for i := range gitRefs {
		fmt.Fprintf(&packed, "%s refs/heads/feature/%07d\n", hash, i)
	}
	fmt.Fprintf(&packed, "%s refs/heads/main\n", hash)
	if err := os.WriteFile(filepath.Join(repo.Dir, "packed-refs"), packed.Bytes(), 0o600); err != nil {
		return nil, err
	}
	wire.take()
	took, err := l.fetch(ctx, "refs", wire.server.URL+"/refs.git")
	if err != nil {
		return nil, err
	}
	sent, _ := wire.take()
	return []figure{
		tell("git/refs/wall", seconds(took), "s", fmt.Sprintf("the first fetch of one of %d branches", gitRefs)),
		tell("git/refs/wire", float64(sent)/1e6, "MB", "sent by the server for it"),
	}, nil
}

// fill commits the files, and changes some of them a few times.
func fill(repo *testkit.GitRepo) error {
	random := rand.NewChaCha8([32]byte{})
	for round := range gitHistory + 1 {
		files := map[string]*testkit.GitFile{}
		for i := range gitFiles {
			if round > 0 && i%10 != round {
				continue
			}
			content := make([]byte, gitFileBytes)
			_, _ = random.Read(content)
			files[fmt.Sprintf("apps/%03d/%05d.yaml", i%500, i)] = &testkit.GitFile{Content: string(content)}
		}
		if _, err := repo.Commit(testkit.GitCommit{Branch: "main", Message: fmt.Sprint(round), Files: files}); err != nil {
			return err
		}
	}
	return nil
}

// tipPack is the size of a pack with the tip alone, as git makes it.
func tipPack(dir string) (int64, error) {
	list := exec.Command("git", "-C", dir, "rev-list", "--objects", "--no-object-names", "main^{tree}")
	objects, err := list.Output()
	if err != nil {
		return 0, fmt.Errorf("listing the objects of the tip: %w", err)
	}
	pack := exec.Command("git", "-C", dir, "pack-objects", "--stdout", "--quiet", "--delta-base-offset")
	pack.Stdin = bytes.NewReader(objects)
	size := counter{}
	pack.Stdout = &size
	if err := pack.Run(); err != nil {
		return 0, fmt.Errorf("packing the tip: %w", err)
	}
	return size.n.Load(), nil
}

type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// fetch creates a GitRepository and waits for its artifact.
func (l *lab) fetch(ctx context.Context, name, url string) (time.Duration, error) {
	start := time.Now()
	err := l.client.Create(ctx, &sourcev1.GitRepository{
		ObjectMeta: l.meta(name),
		Spec: sourcev1.GitRepositorySpec{
			URL: url, Interval: meta.DurationOf(gitInterval), Timeout: "10m", Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
		},
	})
	if err != nil {
		return 0, err
	}
	ready := func(o client.Object) bool {
		return o.GetName() == name && status(o.(*sourcev1.GitRepository).Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
	}
	err = l.await(ctx, &sourcev1.GitRepositoryList{}, 1, ready)
	return time.Since(start), err
}

// wire counts what a Git server sends.
type wire struct {
	server   *httptest.Server
	sent     counter
	requests atomic.Int64
}

func newWire(root string) (*wire, error) {
	backend, err := testkit.GitHandler(root)
	if err != nil {
		return nil, err
	}
	w := &wire{}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		backend.ServeHTTP(&countingWriter{rw, &w.sent}, r)
	}))
	return w, nil
}

// take returns the bytes and requests since the last time.
func (w *wire) take() (sent, requests int64) { return w.sent.n.Swap(0), w.requests.Swap(0) }

// interval returns the requests of an interval, averaged over the two of which the begin falls into the time.
func (w *wire) interval(ctx context.Context) (float64, error) {
	w.take()
	select {
	case <-time.After(5 * gitInterval / 2):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	_, requests := w.take()
	return float64(requests) / 2, nil
}

type countingWriter struct {
	http.ResponseWriter
	sent *counter
}

func (c *countingWriter) Write(p []byte) (int, error) {
	_, _ = c.sent.Write(p)
	return c.ResponseWriter.Write(p)
}
