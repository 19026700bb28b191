package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/internal/ops"
)

// LogOptions narrow what a LogSource reads.
type LogOptions struct {
	// Follow goes on with new lines until the context ends.
	Follow bool
	// Tail is how many of the last lines to start with; negative: all.
	Tail int64
	// Since leaves out older lines; zero: all. Sources that cannot tell the age of a line leave it to the reader.
	Since time.Time
}

// LogSource gives the log lines of controllers, wherever these run.
type LogSource interface {
	// Lines calls see with every line, without its line break, from one goroutine at a time. The slice is only
	// valid during the call.
	Lines(ctx context.Context, o LogOptions, see func(line []byte)) error
}

// LogSourceFunc finds the source of the logs of the controllers that work on the cluster of a connection. It
// returns nil when it knows of none, such as no local environment of this kubeconfig.
type LogSourceFunc func(context.Context, *rest.Config) (LogSource, error)

// maxLogLine bounds one line: a controller's message is at most 39000 characters, its stack trace a few times that.
const maxLogLine = 1 << 20

// scanLines hands every line of a stream to see; longer ones than maxLogLine are dropped.
func scanLines(r io.Reader, see func([]byte)) error {
	br := bufio.NewReaderSize(r, maxLogLine)
	for {
		line, err := br.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			line = nil
			_, err = br.ReadSlice('\n')
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			see(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// LogFile is the log of controllers that run as processes of this machine.
type LogFile struct {
	Path  string
	Clock clock.WithTicker
}

// followInterval is how often a followed file is looked at.
const followInterval = 250 * time.Millisecond

// Lines implements LogSource. A file that is truncated or replaced is read on from its start.
func (l LogFile) Lines(ctx context.Context, o LogOptions, see func([]byte)) error {
	file, err := os.Open(l.Path)
	if err != nil {
		return fmt.Errorf("read controller log: %w", err)
	}
	defer func() { file.Close() }()
	if err := tail(file, o.Tail, see); err != nil || !o.Follow {
		return err
	}
	ticker := l.Clock.NewTicker(followInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		at, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("read controller log: %w", err)
		}
		now, err := os.Stat(l.Path)
		if err != nil {
			continue
		}
		same, err := file.Stat()
		if err != nil {
			return fmt.Errorf("read controller log: %w", err)
		}
		if !os.SameFile(now, same) || now.Size() < at {
			next, err := os.Open(l.Path)
			if err != nil {
				continue
			}
			file.Close()
			file = next
		}
		if err := wholeLines(file, see); err != nil {
			return err
		}
	}
}

// tail hands the last n lines of a file to see, and leaves the file positioned behind its last whole line.
func tail(file *os.File, n int64, see func([]byte)) error {
	if n < 0 {
		return wholeLines(file, see)
	}
	ring := make([][]byte, 0, min(n, 4096))
	err := wholeLines(file, func(line []byte) {
		if n == 0 {
			return
		}
		if int64(len(ring)) == n {
			copy(ring, ring[1:])
			ring = ring[:n-1]
		}
		ring = append(ring, bytes.Clone(line))
	})
	for _, line := range ring {
		see(line)
	}
	return err
}

// wholeLines reads to the last line break: what follows it is still being written.
func wholeLines(file *os.File, see func([]byte)) error {
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("read controller log: %w", err)
	}
	br := bufio.NewReaderSize(file, 64<<10)
	for {
		line, err := br.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			_, err = file.Seek(at, io.SeekStart)
			return err
		}
		if err != nil {
			return fmt.Errorf("read controller log: %w", err)
		}
		at += int64(len(line))
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 && len(line) <= maxLogLine {
			see(line)
		}
	}
}

// podLogs are the logs of the controllers' pods.
type podLogs struct {
	client    *ops.Client
	pods      corev1client.CoreV1Interface
	namespace string
}

// partOf selects the objects of an installation (wire 3).
const partOf = "app.kubernetes.io/part-of=flux"

// managerContainer is the container of the controller in its pod.
const managerContainer = "manager"

// Lines implements LogSource: the pods one after the other, or all at once when following (cli 62).
func (p *podLogs) Lines(ctx context.Context, o LogOptions, see func([]byte)) error {
	names, err := p.names(ctx)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return hinted(fmt.Errorf("no controller pods found in \"%s\" namespace", p.namespace), "flux check")
	}
	if !o.Follow {
		for _, name := range names {
			if err := p.stream(ctx, name, o, see); err != nil {
				return err
			}
		}
		return nil
	}
	// mu lets one pod's line through at a time.
	var mu sync.Mutex
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			errs[i] = p.stream(ctx, name, o, func(line []byte) {
				mu.Lock()
				defer mu.Unlock()
				see(line)
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// names are the pods behind the Deployments of the installation.
func (p *podLogs) names(ctx context.Context) ([]string, error) {
	deployments, err := p.client.Dynamic.Resource(appsv1.SchemeGroupVersion.WithResource("deployments")).
		Namespace(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: partOf})
	if err != nil {
		return nil, fmt.Errorf("list deployments in %s: %w", p.namespace, err)
	}
	var names []string
	for i := range deployments.Items {
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(deployments.Items[i].Object, &d); err != nil {
			return nil, fmt.Errorf("read Deployment/%s/%s: %w", p.namespace, deployments.Items[i].GetName(), err)
		}
		pods, err := p.pods.Pods(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
		if err != nil {
			return nil, fmt.Errorf("list pods of Deployment/%s/%s: %w", p.namespace, d.Name, err)
		}
		for _, pod := range pods.Items {
			names = append(names, pod.Name)
		}
	}
	return names, nil
}

func (p *podLogs) stream(ctx context.Context, pod string, o LogOptions, see func([]byte)) error {
	opts := &corev1.PodLogOptions{Container: managerContainer, Follow: o.Follow}
	if o.Tail >= 0 {
		opts.TailLines = &o.Tail
	}
	if !o.Since.IsZero() {
		since := metav1.NewTime(o.Since)
		opts.SinceTime = &since
	}
	r, err := p.pods.Pods(p.namespace).GetLogs(pod, opts).Stream(ctx)
	if err == nil {
		defer r.Close()
		err = scanLines(r, see)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log of Pod/%s/%s: %w", p.namespace, pod, err)
	}
	return nil
}
