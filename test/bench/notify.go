package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// Sizes of the storm: every object changes with every commit, and every event goes to every Alert.
const (
	stormObjects   = 500
	stormAlerts    = 20
	stormProviders = 5
	stormCommits   = 4
	stormEvery     = 10 * time.Second
	hookCalls      = 20
)

// storm: objects that flap every ten seconds, without anybody to tell, then with Alerts to five Providers of which one hangs and one is
// slow, and at last with an event receiver elsewhere that hangs. What a reconcile takes must not depend on that.
func storm(ctx context.Context, l *lab) ([]figure, error) {
	l.components = append(l.components, "notification-controller")
	if err := l.start(ctx, l.plane.Kubeconfig, "--kustomize-concurrent=20"); err != nil {
		return nil, err
	}
	repo, err := l.source(ctx, "storm", stormFiles(l.namespace, 0))
	if err != nil {
		return nil, err
	}
	for i := range stormObjects {
		name := fmt.Sprintf("app-%03d", i)
		if err := l.create(ctx, repo.kustomization(name, "./"+name)); err != nil {
			return nil, err
		}
	}
	if err := repo.applied(ctx, stormObjects); err != nil {
		return nil, err
	}
	quiet, err := repo.flap(ctx, 1)
	if err != nil {
		return nil, err
	}
	told, stop := services()
	defer stop()
	if err := l.alerts(ctx, told); err != nil {
		return nil, err
	}
	loud, err := repo.flap(ctx, 1+stormCommits)
	if err != nil {
		return nil, err
	}
	memory, err := peak(l.sut.PID())
	if err != nil {
		return nil, err
	}
	results, err := l.notifications(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.sut.Stop(); err != nil {
		return nil, err
	}
	hang, stopHanging := hanging()
	defer stopHanging()
	l.components = l.components[:2]
	if err := l.start(ctx, l.plane.Kubeconfig, "--kustomize-concurrent=20", "--events-addr="+hang.URL); err != nil {
		return nil, err
	}
	if err := repo.applied(ctx, stormObjects); err != nil {
		return nil, err
	}
	hung, err := repo.flap(ctx, 1+2*stormCommits)
	if err != nil {
		return nil, err
	}
	if err := l.sut.Stop(); err != nil {
		return nil, err
	}
	if err := l.start(ctx, l.plane.Kubeconfig, "--kustomize-concurrent=20"); err != nil {
		return nil, err
	}
	if err := repo.applied(ctx, stormObjects); err != nil {
		return nil, err
	}
	again, err := repo.flap(ctx, 1+3*stormCommits)
	if err != nil {
		return nil, err
	}
	// The API server gets slower with what it has recorded: the quiet runs before and after say how much that is.
	noise := 1.1 * seconds(max(quiet, again))
	note := fmt.Sprintf("%d Kustomizations change every %s; from the artifact to Ready", stormObjects, stormEvery)
	return []figure{
		tell("storm/quiet-p95", seconds(quiet), "s", note+"; nobody is told"),
		tell("storm/quiet-again-p95", seconds(again), "s", "of the same, after the others"),
		measure("storm/alerts-p95", seconds(loud), noise, "s",
			fmt.Sprintf("of the same; %d Alerts to %d Providers, one hangs, one takes a second: %s", stormAlerts, stormProviders, results)),
		measure("storm/hung-receiver-p95", seconds(hung), noise, "s", "of the same; events are posted to an address that does not answer"),
		tell("storm/own-peak-rss", memory, "MiB", "with the Alerts"),
	}, nil
}

func stormFiles(namespace string, turn int) map[string]*testkit.GitFile {
	files := map[string]*testkit.GitFile{}
	for i := range stormObjects {
		name := fmt.Sprintf("app-%03d", i)
		files[name+"/all.yaml"] = &testkit.GitFile{Content: fmt.Sprintf(
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\ndata: {turn: %q}\n", name, namespace, strconv.Itoa(turn))}
	}
	return files
}

// flap commits changes of all objects and returns the 95th percentile of the times until they are Ready, in the worst half of which the
// queue counts, not the reconcile.
func (r *repository) flap(ctx context.Context, turn int) (time.Duration, error) {
	var took []time.Duration
	for i := range stormCommits {
		began := time.Now()
		if err := r.commit(stormFiles(r.lab.namespace, turn+i)); err != nil {
			return 0, err
		}
		if err := r.request(ctx); err != nil {
			return 0, err
		}
		fetched, err := r.fetched(ctx)
		if err != nil {
			return 0, err
		}
		err = r.lab.await(ctx, &kustomizev1.KustomizationList{}, stormObjects, func() func(client.Object) bool {
			seen := map[string]bool{}
			return func(o client.Object) bool {
				k := o.(*kustomizev1.Kustomization)
				good := k.Status.LastAppliedRevision == r.revision && status(k.Status.Conditions, meta.ReadyCondition) == metav1.ConditionTrue
				if good && !seen[k.Name] {
					seen[k.Name] = true
					took = append(took, time.Since(fetched))
				}
				return good
			}
		}())
		if err != nil {
			return 0, err
		}
		select {
		case <-time.After(time.Until(began.Add(stormEvery))):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	slices.Sort(took)
	return took[len(took)*95/100], nil
}

// services are five webhooks: three answer, one after a second, one never.
func services() (urls []string, stop func()) {
	var stops []func()
	for range stormProviders - 2 {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		urls, stops = append(urls, s.URL), append(stops, s.Close)
	}
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
		}
	}))
	hang, stopHanging := hanging()
	return append(urls, slow.URL, hang.URL), func() {
		for _, s := range stops {
			s()
		}
		slow.Close()
		stopHanging()
	}
}

// hanging is a server that does not answer.
func hanging() (*httptest.Server, func()) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	return s, func() {
		close(release)
		s.Close()
	}
}

// alerts creates a Provider for each URL, and Alerts that share them.
func (l *lab) alerts(ctx context.Context, urls []string) error {
	for i, url := range urls {
		p := &notificationv1beta3.Provider{ObjectMeta: l.meta(fmt.Sprintf("p%d", i))}
		p.Spec.Type, p.Spec.Address = "generic", url
		if err := l.create(ctx, p); err != nil {
			return err
		}
	}
	for i := range stormAlerts {
		a := &notificationv1beta3.Alert{ObjectMeta: l.meta(fmt.Sprintf("a%02d", i))}
		a.Spec.ProviderRef.Name = fmt.Sprintf("p%d", i%len(urls))
		a.Spec.EventSources = []notificationv1.ObjectSelector{{Kind: "Kustomization", Name: "*"}}
		if err := l.create(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// notifications reads what became of the notifications.
func (l *lab) notifications(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.sut.MetricsAddr+"/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("reading the metrics: %w", err)
	}
	defer resp.Body.Close()
	counts := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "flux_notifications_total{") {
			continue
		}
		_, result, _ := strings.Cut(lines.Text(), `result="`)
		result, _, _ = strings.Cut(result, `"`)
		value, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
		if err != nil {
			return "", fmt.Errorf("reading the metrics: %w", err)
		}
		counts[result] += value
	}
	return fmt.Sprintf("%g sent, %g failed, %g dropped", counts["sent"], counts["failed"], counts["dropped"]), lines.Err()
}

// hook: from a call of a webhook to the GitRepository that has fetched.
func hook(ctx context.Context, l *lab) ([]figure, error) {
	l.components = append(l.components, "notification-controller")
	if err := l.start(ctx, l.plane.Kubeconfig); err != nil {
		return nil, err
	}
	repo, err := l.source(ctx, "hook", map[string]*testkit.GitFile{"a.yaml": {Content: "a: 0\n"}})
	if err != nil {
		return nil, err
	}
	if _, err := repo.fetched(ctx); err != nil {
		return nil, err
	}
	receiver := &notificationv1.Receiver{ObjectMeta: l.meta("hook")}
	receiver.Spec.Type, receiver.Spec.SecretRef = "generic", &meta.LocalObjectReference{Name: "hook"}
	receiver.Spec.Resources = []notificationv1.ReceiverResource{{ObjectSelector: notificationv1.ObjectSelector{Kind: sourcev1.GitRepositoryKind, Name: "hook"}}}
	err = l.create(ctx, &corev1.Secret{ObjectMeta: l.meta("hook"), Data: map[string][]byte{"token": []byte("token")}}, receiver)
	if err != nil {
		return nil, err
	}
	path := ""
	err = l.await(ctx, &notificationv1.ReceiverList{}, 1, func(o client.Object) bool {
		path = o.(*notificationv1.Receiver).Status.WebhookPath
		return path != ""
	})
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range hookCalls {
		if err := repo.commit(map[string]*testkit.GitFile{"a.yaml": {Content: fmt.Sprintf("a: %d\n", i+1)}}); err != nil {
			return nil, err
		}
		each, err := l.call(ctx, repo, "http://"+l.sut.HookAddr+path)
		if err != nil {
			return nil, err
		}
		took = append(took, each)
	}
	slices.Sort(took)
	note := fmt.Sprintf("%d calls of a webhook, each after a commit; from the call to the new artifact", hookCalls)
	return []figure{
		measure("hook/median", seconds(took[len(took)/2]), 0.1, "s", note),
		tell("hook/slowest", seconds(took[len(took)-1]), "s", "of the same"),
	}, nil
}

// call calls a webhook and returns how long it took until the repository offered its latest commit.
func (l *lab) call(ctx context.Context, repo *repository, url string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// The watch is there before the call, so that it is no part of what is measured.
	w, err := l.client.Watch(ctx, &sourcev1.GitRepositoryList{}, client.InNamespace(l.namespace))
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	began := time.Now()
	resp, err := http.Post(url, "application/json", strings.NewReader("{}"))
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the webhook answers %d", resp.StatusCode)
	}
	for ev := range w.ResultChan() {
		g, ok := ev.Object.(*sourcev1.GitRepository)
		if ok && g.Name == repo.name && g.Status.Artifact != nil && g.Status.Artifact.Revision == repo.revision {
			return time.Since(began), nil
		}
	}
	return 0, errors.Join(errors.New("the artifact did not come"), ctx.Err())
}
