package sops

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// maxAnswer and maxReason bound answers of key services, and what is told of a refusal, in bytes.
	maxAnswer = 64 << 10
	maxReason = 256
	// callTimeout bounds one call: a file may name other keys that work.
	callTimeout = 15 * time.Second
)

// client follows no redirect, which would take the credentials along.
func client(base *http.Client) *http.Client {
	out := &http.Client{}
	if base != nil {
		*out = *base
	}
	if out.Timeout == 0 {
		out.Timeout = callTimeout
	}
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return out
}

// post sends JSON and reads JSON.
func (d *Decrypter) post(ctx context.Context, url string, header http.Header, body, out any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "flux")
	answer, err := d.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(answer.Body, maxReason))
		return fmt.Errorf("%s answered %d %s: %s", r.URL.Host, answer.StatusCode, http.StatusText(answer.StatusCode),
			strings.Join(strings.Fields(strings.ToValidUTF8(string(reason), "")), " "))
	}
	content, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", r.URL.Host, err)
	}
	// What cannot be read may hold a key: it is not quoted.
	if len(content) > maxAnswer || json.Unmarshal(content, out) != nil {
		return fmt.Errorf("%s sent an answer that is not the expected JSON", r.URL.Host)
	}
	return nil
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
