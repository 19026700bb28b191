package action

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	ri "helm.sh/helm/v4/pkg/release"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
)

const (
	recordType = "helm.sh/release.v1"
	recordKey  = "release"
	ownerLabel = "owner"
	helmOwner  = "helm"
	nameLabel  = "name"
	// statusLabel and versionLabel let Helm, and us, select records without decoding them.
	statusLabel  = "status"
	versionLabel = "version"
	// createdLabel and modifiedLabel hold seconds since 1970 (contract wire 9).
	createdLabel  = "createdAt"
	modifiedLabel = "modifiedAt"

	// listPage and listPages bound what is read of the records of one release.
	listPage  = 500
	listPages = 20
)

type storeOptions struct {
	Requests  *requests
	Namespace string
	Cache     *recordCache
	Listing   *Listing
	Clock     clock.PassiveClock
}

// store reads and writes the records of releases, the Secrets of Helm.
type store struct {
	o storeOptions

	mu    sync.Mutex // guards news
	news  map[string]*release.Release
	order []string
}

func newStore(o storeOptions) *store { return &store{o: o, news: map[string]*release.Release{}} }

// key is the name of a record's Secret (helmrelease 34).
func key(name string, version int) string {
	return storage.HelmStorageType + "." + name + ".v" + strconv.Itoa(version)
}

// list reads the metadata of records.
func (s *store) list(ctx context.Context, selector map[string]string) ([]metav1.PartialObjectMetadata, error) {
	var all []metav1.PartialObjectMetadata
	next := ""
	for range listPages {
		r := s.o.Requests.within(ctx)
		req := r.to(http.MethodGet, secrets, s.o.Namespace, "").SetHeader("Accept", acceptMetadataList).
			Param("labelSelector", labels.SelectorFromSet(selector).String()).Param("limit", strconv.Itoa(listPage))
		if next != "" {
			req = req.Param("continue", next)
		}
		var page metav1.PartialObjectMetadataList
		if _, err := r.decode(req, &page); err != nil {
			return nil, err
		}
		for i := range page.Items {
			all = append(all, outlined(&page.Items[i]))
		}
		if next = page.Continue; next == "" {
			return all, nil
		}
	}
	return nil, fmt.Errorf("namespace %s holds more than %d records of one release: delete old ones", s.o.Namespace, listPage*listPages)
}

// newest finds the record with the highest version.
func newest(items []metav1.PartialObjectMetadata) (*metav1.PartialObjectMetadata, error) {
	var found *metav1.PartialObjectMetadata
	highest := 0
	for i := range items {
		v, err := versionOf(&items[i])
		if err != nil {
			return nil, err
		}
		if found == nil || v > highest {
			found, highest = &items[i], v
		}
	}
	return found, nil
}

func versionOf(m *metav1.PartialObjectMetadata) (int, error) {
	v, err := strconv.Atoi(m.Labels[versionLabel])
	if err != nil || v <= 0 {
		return 0, fmt.Errorf("%w: Secret %s/%s has no usable label %q; correct or delete it", ErrCorrupt, m.Namespace, m.Name, versionLabel)
	}
	return v, nil
}

// observe lists the records of a release, for all that follows in the run.
func (s *store) observe(ctx context.Context, name string) ([]metav1.PartialObjectMetadata, error) {
	items, err := s.list(ctx, map[string]string{nameLabel: name, ownerLabel: helmOwner})
	if err != nil {
		return nil, err
	}
	s.o.Listing.set(s.o.Namespace, name, items)
	return items, nil
}

// known returns the records of a release, which are listed if they were not yet.
func (s *store) known(ctx context.Context, name string) ([]metav1.PartialObjectMetadata, error) {
	if items, ok := s.o.Listing.get(s.o.Namespace, name); ok {
		return items, nil
	}
	return s.observe(ctx, name)
}

// latest returns the newest release of those that find finds.
func (s *store) latest(ctx context.Context, name string, find func(context.Context, string) ([]metav1.PartialObjectMetadata, error)) (*release.Release, error) {
	items, err := find(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("failed to list the releases in namespace %s: %w", s.o.Namespace, err)
	}
	found, err := newest(items)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("%w: %s in namespace %s", ErrNotFound, name, s.o.Namespace)
	}
	return s.cached(ctx, found)
}

// recall returns the newest release as far as that takes no request, or nil.
func (s *store) recall(name string) *release.Release {
	items, ok := s.o.Listing.get(s.o.Namespace, name)
	if !ok {
		return nil
	}
	found, err := newest(items)
	if err != nil || found == nil {
		return nil
	}
	return s.o.Cache.get(s.o.Namespace, found.Name, found.ResourceVersion)
}

func (s *store) version(ctx context.Context, name string, version int) (*release.Release, error) {
	rec, _, err := s.load(ctx, key(name, version))
	if err != nil {
		return nil, err
	}
	return rec.release, nil
}

// cached returns the release of a listed record, which is decoded only if it is news.
func (s *store) cached(ctx context.Context, m *metav1.PartialObjectMetadata) (*release.Release, error) {
	if rel := s.o.Cache.get(s.o.Namespace, m.Name, m.ResourceVersion); rel != nil {
		return rel, nil
	}
	rec, _, err := s.load(ctx, m.Name)
	if err != nil {
		return nil, err
	}
	return rec.release, nil
}

// load reads and decodes a record.
func (s *store) load(ctx context.Context, name string) (*record, *corev1.Secret, error) {
	r := s.o.Requests.within(ctx)
	secret := &corev1.Secret{}
	if _, err := r.decode(r.to(http.MethodGet, secrets, s.o.Namespace, name), secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil, fmt.Errorf("%w: Secret %s/%s", ErrNotFound, s.o.Namespace, name)
		}
		return nil, nil, fmt.Errorf("failed to read release record Secret %s/%s: %w", s.o.Namespace, name, err)
	}
	rec, err := decodeRecord(secret.Data[recordKey])
	if err != nil {
		return nil, nil, s.corrupt(name, err)
	}
	rec.release.Labels = customLabels(secret.Labels)
	s.o.Cache.put(s.o.Namespace, name, secret.ResourceVersion, rec.release)
	return rec, secret, nil
}

func (s *store) corrupt(name string, err error) error {
	return fmt.Errorf("%w: Secret %s/%s: %w; restore or delete it", ErrCorrupt, s.o.Namespace, name, err)
}

// customLabels are the labels of a record that are not Helm's own.
func customLabels(all map[string]string) map[string]string {
	custom := maps.Clone(all)
	for _, l := range driver.GetSystemLabels() {
		delete(custom, l)
	}
	return custom
}

// write creates or updates a record. An empty resourceVersion updates whatever is there.
func (s *store) write(ctx context.Context, verb string, rel *release.Release, c storedChart, resourceVersion string) error {
	name := key(rel.Name, rel.Version)
	data, seen, err := encodeRecord(rel, c)
	if err != nil {
		return err
	}
	limit := maxRecord
	if verb == http.MethodPost {
		limit -= recordMargin
	}
	if len(data) > limit {
		return fmt.Errorf("%w: record %s has %d bytes, and a Secret holds %d: take files out of the chart, for example by .helmignore", errRecordTooLarge, name, len(data), limit)
	}
	secret := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.o.Namespace, ResourceVersion: resourceVersion, Labels: s.labels(verb, rel)},
		Type:       recordType,
		Data:       map[string][]byte{recordKey: data},
	}
	body, err := json.Marshal(secret)
	if err != nil {
		return fmt.Errorf("failed to encode Secret %s: %w", name, err)
	}
	target := name
	if verb == http.MethodPost {
		target = ""
	}
	r := s.o.Requests.within(ctx)
	live, _, err := r.metadata(r.to(verb, secrets, s.o.Namespace, target).
		SetHeader("Content-Type", runtime.ContentTypeJSON).Param("fieldManager", Manager).Body(body))
	if apierrors.IsAlreadyExists(err) {
		live, err = s.own(r, name, data, err)
	}
	if err != nil {
		return err
	}
	seen.Chart = &chart.Chart{Metadata: rel.Chart.Metadata}
	seen.Labels = customLabels(rel.Labels)
	s.o.Cache.put(s.o.Namespace, name, live.ResourceVersion, seen)
	s.o.Listing.wrote(outlined(live))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news[name] == nil {
		s.order = append(s.order, name)
	}
	s.news[name] = seen
	return nil
}

// own returns the metadata of a record that exists with exactly this content: it was created by a request whose answer got lost. Otherwise it
// returns the error about its existence.
func (s *store) own(r *requests, name string, data []byte, exists error) (*metav1.PartialObjectMetadata, error) {
	var there corev1.Secret
	if _, err := r.decode(r.to(http.MethodGet, secrets, s.o.Namespace, name), &there); err != nil {
		return nil, err
	}
	if !bytes.Equal(there.Data[recordKey], data) {
		return nil, exists
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: there.ObjectMeta}, nil
}

func (s *store) labels(verb string, rel *release.Release) map[string]string {
	all := maps.Clone(rel.Labels)
	if all == nil {
		all = map[string]string{}
	}
	stamp := modifiedLabel
	if verb == http.MethodPost {
		stamp = createdLabel
	}
	all[stamp] = strconv.FormatInt(s.o.Clock.Now().Unix(), 10)
	all[nameLabel], all[ownerLabel] = rel.Name, helmOwner
	all[statusLabel], all[versionLabel] = rel.Info.Status.String(), strconv.Itoa(rel.Version)
	return all
}

func (s *store) delete(ctx context.Context, name string) error {
	r := s.o.Requests.within(ctx)
	_, err := r.decode(r.to(http.MethodDelete, secrets, s.o.Namespace, name), nil)
	if err == nil || apierrors.IsNotFound(err) {
		s.o.Listing.deleted(s.o.Namespace, name)
	}
	return err
}

// unlock marks a pending release as failed, unless it is no longer pending.
func (s *store) unlock(ctx context.Context, name string, version int) error {
	return s.fail(ctx, name, version, func(status rcommon.Status) string {
		return fmt.Sprintf("Release was left in state %s by an action that was interrupted, and marked as failed", status)
	})
}

// fail is unlock with a description.
func (s *store) fail(ctx context.Context, name string, version int, describe func(rcommon.Status) string) error {
	rec, secret, err := s.load(ctx, key(name, version))
	if err != nil {
		return err
	}
	rel := cloned(rec.release)
	if !rel.Info.Status.IsPending() {
		return nil
	}
	c, err := rec.stored()
	if err != nil {
		return s.corrupt(secret.Name, err)
	}
	rel.SetStatus(rcommon.StatusFailed, describe(rel.Info.Status))
	if err := s.write(ctx, http.MethodPut, rel, c, secret.ResourceVersion); err != nil {
		return fmt.Errorf("failed to update release record Secret %s/%s: %w", s.o.Namespace, secret.Name, err)
	}
	return nil
}

// settle marks as failed what an action that has failed has left pending; Helm does not always do so.
func (s *store) settle(ctx context.Context, cause error) error {
	for _, rel := range s.written() {
		if !rel.Info.Status.IsPending() {
			continue
		}
		err := s.fail(ctx, rel.Name, rel.Version, func(rcommon.Status) string { return fmt.Sprintf("Release %q failed: %s", rel.Name, cause) })
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}

func (s *store) written() []*release.Release {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*release.Release, len(s.order))
	for i, name := range s.order {
		out[i] = cloned(s.news[name])
	}
	return out
}

// storeDriver is how Helm sees the store in one action.
type storeDriver struct {
	*store
	ctx   context.Context
	whole bool // Helm needs the charts of old releases

	mu     sync.Mutex // guards what follows
	charts map[*chart.Chart]chartOrigin
	hollow map[*release.Release]struct{} // of which only the name, the version and the status are known
	failed map[*release.Release]struct{} // that had failed when they were read
	// undeployed are the records of attempts that are newer than the newest deployed release.
	undeployed []string
}

// chartOrigin is where the stored form of a chart is: at hand, in a record, or to be made of a chart whose templates were not touched.
type chartOrigin struct {
	stored   storedChart
	record   string
	original *chart.Chart
}

var _ driver.Driver = (*storeDriver)(nil)

func (s *store) driver(ctx context.Context, whole bool) *storeDriver {
	return &storeDriver{store: s, ctx: ctx, whole: whole, charts: map[*chart.Chart]chartOrigin{}, hollow: map[*release.Release]struct{}{}, failed: map[*release.Release]struct{}{}}
}

// Name is that of Helm's driver for Secrets.
func (d *storeDriver) Name() string { return driver.SecretsDriverName }

// Get reads a record.
func (d *storeDriver) Get(key string) (ri.Releaser, error) {
	rec, secret, err := d.load(d.ctx, key)
	if err != nil {
		return nil, missing(err)
	}
	return d.handed(rec.release, secret.Name, rec)
}

// handed returns a release for Helm to change, and remembers where its chart is.
func (d *storeDriver) handed(rel *release.Release, name string, rec *record) (*release.Release, error) {
	rel = cloned(rel)
	if d.whole {
		if rec == nil {
			var err error
			if rec, _, err = d.load(d.ctx, name); err != nil {
				return nil, missing(err)
			}
		}
		c, err := rec.whole()
		if err != nil {
			return nil, err
		}
		rel.Chart = c
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.charts[rel.Chart] = chartOrigin{record: name}
	if rel.Info.Status == rcommon.StatusFailed {
		d.failed[rel] = struct{}{}
	}
	return rel, nil
}

// List is not part of any action.
func (d *storeDriver) List(func(ri.Releaser) bool) ([]ri.Releaser, error) { return nil, errUnused }

// Query finds the records of a release. Helm looks into the newest, and into those it asked for by status; of the others it wants to know
// that they are there.
func (d *storeDriver) Query(selector map[string]string) ([]ri.Releaser, error) {
	items, err := d.known(d.ctx, selector[nameLabel])
	if err != nil {
		return nil, fmt.Errorf("query: failed to query with labels: %w", err)
	}
	wanted := labels.SelectorFromSet(selector)
	items = slices.DeleteFunc(items, func(m metav1.PartialObjectMetadata) bool { return !wanted.Matches(labels.Set(m.Labels)) })
	if len(items) == 0 {
		return nil, driver.ErrReleaseNotFound
	}
	last, err := newest(items)
	if err != nil {
		return nil, err
	}
	if selector[statusLabel] == "" {
		d.note(items)
	}
	var out []ri.Releaser
	for i := range items {
		m := &items[i]
		if m != last && selector[statusLabel] == "" {
			rel, err := d.outline(m)
			if err != nil {
				return nil, err
			}
			out = append(out, rel)
			continue
		}
		rel, err := d.cached(d.ctx, m)
		if err == nil {
			rel, err = d.handed(rel, m.Name, nil)
		}
		if err != nil {
			return nil, missing(err)
		}
		out = append(out, rel)
	}
	return out, nil
}

// note finds out which records are newer than the newest deployed release.
func (d *storeDriver) note(items []metav1.PartialObjectMetadata) {
	deployed := 0
	for i := range items {
		if v, err := versionOf(&items[i]); err == nil && items[i].Labels[statusLabel] == string(rcommon.StatusDeployed) {
			deployed = max(deployed, v)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undeployed = nil
	for i := range items {
		status := rcommon.Status(items[i].Labels[statusLabel])
		if v, err := versionOf(&items[i]); err == nil && v > deployed && (status == rcommon.StatusFailed || status.IsPending()) {
			d.undeployed = append(d.undeployed, items[i].Name)
		}
	}
}

// outline is a release of which only the metadata of the record was read.
func (d *storeDriver) outline(m *metav1.PartialObjectMetadata) (*release.Release, error) {
	v, err := versionOf(m)
	if err != nil {
		return nil, err
	}
	rel := &release.Release{
		Name: m.Labels[nameLabel], Version: v, Labels: customLabels(m.Labels), Chart: &chart.Chart{},
		Info: &release.Info{Status: rcommon.Status(m.Labels[statusLabel])},
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hollow[rel] = struct{}{}
	return rel, nil
}

// Create creates a record. The chart is compressed and let go of: the action may wait for long.
func (d *storeDriver) Create(_ string, r ri.Releaser) error {
	rel := v1(r)
	c, err := d.chart(rel)
	if err != nil {
		return fmt.Errorf("create: failed to encode release %q: %w", rel.Name, err)
	}
	if err := d.write(d.ctx, http.MethodPost, rel, c, ""); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return driver.ErrReleaseExists
		}
		return fmt.Errorf("create: failed to create: %w", err)
	}
	d.mu.Lock()
	delete(d.charts, rel.Chart)
	d.mu.Unlock()
	rel.Chart = &chart.Chart{Metadata: rel.Chart.Metadata}
	d.remember(rel.Chart, c)
	return nil
}

// Update replaces a record.
func (d *storeDriver) Update(_ string, r ri.Releaser) error {
	rel := v1(r)
	d.mu.Lock()
	_, failed := d.failed[rel]
	d.mu.Unlock()
	if failed && rel.Info.Status == rcommon.StatusSuperseded {
		// Helm does so when a rollback fails. It would pass for a release to go back to.
		rel.Info.Status = rcommon.StatusFailed
		return nil
	}
	c, err := d.chart(rel)
	if err != nil {
		return fmt.Errorf("update: failed to encode release %q: %w", rel.Name, err)
	}
	if err := d.write(d.ctx, http.MethodPut, rel, c, ""); err != nil {
		return fmt.Errorf("update: failed to update: %w", err)
	}
	return nil
}

// chart returns the chart of a release as it is stored.
func (d *storeDriver) chart(rel *release.Release) (storedChart, error) {
	d.mu.Lock()
	_, hollow := d.hollow[rel]
	origin, ok := d.charts[rel.Chart]
	d.mu.Unlock()
	switch {
	case hollow:
		return nil, fmt.Errorf("version %d was not read", rel.Version)
	case !ok:
		return compressChart(rel.Chart)
	case origin.stored != nil:
		return origin.stored, nil
	case origin.original != nil:
		c := *origin.original
		c.Values = rel.Chart.Values
		return compressChart(&c)
	}
	stored, err := d.loadChart(origin.record)
	if err == nil {
		d.remember(rel.Chart, stored)
	}
	return stored, err
}

// Delete deletes a record. A chart in it that is still to be stored elsewhere, by a rollback, is read first.
func (d *storeDriver) Delete(key string) (ri.Releaser, error) {
	d.rescue(key)
	err := d.delete(d.ctx, key)
	if apierrors.IsNotFound(err) {
		return nil, driver.ErrReleaseNotFound
	}
	return nil, err
}

// rescue reads a chart that is about to be deleted. If that fails, nobody may need it; else storing it tells.
func (d *storeDriver) rescue(key string) {
	d.mu.Lock()
	var found *chart.Chart
	for c, origin := range d.charts {
		if origin.record == key && origin.stored == nil {
			found = c
		}
	}
	d.mu.Unlock()
	if found == nil {
		return
	}
	if stored, err := d.loadChart(key); err == nil {
		d.remember(found, stored)
	}
}

// original says that a chart that Helm is given is to be stored as another one.
func (d *storeDriver) original(given, original *chart.Chart) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.charts[given] = chartOrigin{original: original}
}

// remember keeps the stored form of a chart for the rest of the action.
func (d *storeDriver) remember(c *chart.Chart, stored storedChart) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.charts[c] = chartOrigin{stored: stored}
}

func (d *storeDriver) loadChart(key string) (storedChart, error) {
	rec, _, err := d.load(d.ctx, key)
	if err != nil {
		return nil, err
	}
	stored, err := rec.stored()
	if err != nil {
		return nil, d.corrupt(key, err)
	}
	return stored, nil
}

// missing puts Helm's error in the place of ours.
func missing(err error) error {
	if isNotFound(err) {
		return driver.ErrReleaseNotFound
	}
	return err
}
