package buckettest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

const (
	// processStart bounds the start of the server, a cold one on a busy machine included.
	processStart = time.Minute
	// processEndpoint is a name for what listens on no port.
	processEndpoint = "s3.test:9000"
)

// Process is an S3 server of another make, running as a process of its own: what the fakes here only imitate.
type Process struct {
	// Endpoint is where requests are sent to; Transport knows the way.
	Endpoint  string
	Transport *http.Transport
	// Access and Secret are the keys of its owner.
	Access, Secret string

	client *minio.Client
}

// StartProcess starts the server with an empty bucket. With -short the test is skipped: the program has to be built first.
func StartProcess(t testing.TB) *Process {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an S3 server, and -short asks for tests without programs")
	}
	program, err := testkit.FindProgram("s3", "S3_BIN", "make s3")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"buckets", "sidecar"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// A socket's path has to be short, and a port may be taken by another before the server has it.
	short, err := os.MkdirTemp("", "s3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(short); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(short, "s3.sock")
	p := &Process{Endpoint: processEndpoint, Access: "owner", Secret: "secret-" + Canary, Transport: &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	t.Cleanup(p.Transport.CloseIdleConnections)
	p.start(t, program, "--port", socket, "--access", p.Access, "--secret", p.Secret, "--quiet", "posix", "--sidecar", filepath.Join(dir, "sidecar"), filepath.Join(dir, "buckets"))
	p.client, err = minio.New(p.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(p.Access, p.Secret, ""), Transport: p.Transport, Region: "us-east-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.client.MakeBucket(t.Context(), Bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// start runs the program until the test ends, and waits until it answers.
func (p *Process) start(t testing.TB, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-ended
	})
	ctx, cancel := context.WithTimeout(t.Context(), processStart)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Endpoint+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := p.Transport.RoundTrip(r); err == nil {
			_ = answer.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("the S3 server ended:\n%s", output.String())
		case <-ctx.Done():
			t.Fatal("the S3 server does not answer")
		}
	}
}

// Put writes an object.
func (p *Process) Put(t testing.TB, key, content string) {
	t.Helper()
	if _, err := p.client.PutObject(t.Context(), Bucket, key, strings.NewReader(content), int64(len(content)), minio.PutObjectOptions{}); err != nil {
		t.Fatalf("writing %q: %v", key, err)
	}
}

// Delete removes an object.
func (p *Process) Delete(t testing.TB, key string) {
	t.Helper()
	if err := p.client.RemoveObject(t.Context(), Bucket, key, minio.RemoveObjectOptions{}); err != nil {
		t.Fatalf("removing %q: %v", key, err)
	}
}

// Clear removes all objects.
func (p *Process) Clear(t testing.TB) {
	t.Helper()
	for o := range p.client.ListObjectsIter(t.Context(), Bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		p.Delete(t, o.Key)
	}
}
