package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/api/meta"
)

const maxRedirects = 5

// errStalled is the cause of a try that made no progress.
var errStalled = errors.New("no data within the time limit")

func newClient(o OpenerOptions) *http.Client {
	transport := o.Transport
	if transport == nil {
		transport = &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			// The digest is that of the file as it is: nothing may unpack it on the way.
			DisableCompression:    true,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: o.StallTimeout,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   4,
			ForceAttemptHTTP2:     true,
		}
	}
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			return allow(o, r.URL)
		},
	}
}

func allow(o OpenerOptions, u *url.URL) error {
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%w: the URL is not an http or https URL with a host", ErrHostDenied)
	}
	if o.AllowHost != nil && !o.AllowHost(u.Host) {
		return fmt.Errorf("%w: '%s'", ErrHostDenied, u.Host)
	}
	return nil
}

// fetch downloads the artifact into a draft. Answers that may pass, and no answer, are tried again (kustomization 22).
func (o *Opener) fetch(ctx context.Context, a *meta.Artifact, d Digest) (*draft, error) {
	target, err := o.target(a)
	if err != nil {
		return nil, err
	}
	wait := o.options.RetryWaitMin
	for try := 0; ; try++ {
		got, err := o.try(ctx, target, a, d)
		if err == nil {
			return got, nil
		}
		err = fmt.Errorf("fetch from '%s': %w", target.Host, err)
		if _, again := errors.AsType[*passing](err); !again || ctx.Err() != nil || try >= o.options.Retries {
			return nil, err
		}
		timer := o.options.Clock.NewTimer(wait)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
		wait = min(2*wait, o.options.RetryWaitMax)
	}
}

// target checks the URL of the artifact and puts in the host to ask.
func (o *Opener) target(a *meta.Artifact) (*url.URL, error) {
	u, err := url.Parse(a.URL)
	if err != nil {
		// The error of net/url quotes the URL, which may hold a password.
		return nil, fmt.Errorf("%w: the URL cannot be parsed", ErrHostDenied)
	}
	if err := allow(o.options, u); err != nil {
		return nil, err
	}
	host := o.options.Hosts.SourceController
	if strings.Contains(a.URL, "//source-watcher") {
		host = o.options.Hosts.SourceWatcher
	}
	if host != "" {
		u.Host = host
	}
	return u, nil
}

// passing marks errors that another try may not meet.
type passing struct{ error }

func (p *passing) Unwrap() error { return p.error }

func (o *Opener) try(ctx context.Context, target *url.URL, a *meta.Artifact, d Digest) (*draft, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(o.options.StallTimeout, func() { cancel(errStalled) })
	defer watchdog.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: the URL cannot be requested", ErrHostDenied)
	}
	// Asking for the bytes as they are also keeps servers from packing them once more.
	request.Header.Set("Accept-Encoding", "identity")
	if o.options.UserAgent != "" {
		request.Header.Set("User-Agent", o.options.UserAgent)
	}
	response, err := o.client.Do(request)
	if err != nil {
		return nil, failed(ctx, err)
	}
	defer response.Body.Close()
	if err := answer(response); err != nil {
		return nil, err
	}
	body := &progressReader{r: response.Body, watchdog: watchdog, timeout: o.options.StallTimeout}
	return o.receive(ctx, body, a, d)
}

// failed tells a refusal of ours, which is final, from trouble on the way. The URL that net/http puts in front is left out.
func failed(ctx context.Context, err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	if errors.Is(err, ErrHostDenied) {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		err = cause
	}
	return &passing{err}
}

func answer(r *http.Response) error {
	switch code := r.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound, code == http.StatusGone:
		return ErrNotFound
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return &passing{fmt.Errorf("the server answers '%s'", r.Status)}
	default:
		return fmt.Errorf("the server answers '%s'", r.Status)
	}
}

// receive writes the body to a draft and checks it.
func (o *Opener) receive(ctx context.Context, body io.Reader, a *meta.Artifact, d Digest) (*draft, error) {
	limit := o.options.MaxBytes
	if a.Size != nil && *a.Size >= 0 && *a.Size < limit {
		limit = *a.Size
	}
	var readErr error
	got, err := o.files.blobs.write(d.Algo, func(w io.Writer) error {
		n, err := io.Copy(w, &errorKeeper{r: io.LimitReader(body, limit+1), err: &readErr})
		if err == nil && n > limit {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		return err
	})
	switch {
	case readErr != nil:
		return nil, failed(ctx, readErr)
	case err != nil:
		return nil, err
	case got.digest != d:
		return nil, errors.Join(fmt.Errorf("%w: the content has digest %s, not %s", ErrMismatch, got.digest, d), o.files.blobs.remove(got.path))
	}
	return got, nil
}

// errorKeeper tells failures of the network from failures of the disk, which io.Copy mixes.
type errorKeeper struct {
	r   io.Reader
	err *error
}

func (k *errorKeeper) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if err != nil && err != io.EOF {
		*k.err = err
	}
	return n, err
}

// progressReader puts the watchdog off as long as bytes come.
type progressReader struct {
	r        io.Reader
	watchdog *time.Timer
	timeout  time.Duration
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.watchdog.Reset(p.timeout)
	}
	return n, err
}
