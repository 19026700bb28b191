package helmrepo

import (
	"container/list"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

const (
	// cacheBytes is the memory that parsed indexes may take, whatever their number.
	cacheBytes = 64 << 20
	// shortMemory is how long an index is kept without --helm-cache-max-size: the charts of a repository wake together, and
	// one reading of its index serves them all.
	shortMemory = 30 * time.Second
	// storedFactor is how much larger an index may be as it is stored than as it was fetched: indented, and with the names
	// of fields in each line.
	storedFactor = 8
)

// CacheOptions are the flags of the cache.
type CacheOptions struct {
	// MaxItems is the number of indexes (--helm-cache-max-size); 0 keeps indexes for half a minute, and counts nothing.
	MaxItems int
	// TTL is how long an index is kept that nobody asks for (--helm-cache-ttl).
	TTL time.Duration
	// PurgeInterval is how often old ones are removed (--helm-cache-purge-interval).
	PurgeInterval time.Duration
	// Limits of parsing.
	Limits Limits
	// Registerer gets gotk_cache_events_total; nil: nobody counts.
	Registerer prometheus.Registerer
	// Clock tells ages; nil is the system's clock.
	Clock clock.WithTicker
}

// Cache keeps parsed indexes, the least recently used leave first. It is safe for concurrent use
// (helmrepository 31, 32, 51-53).
type Cache struct {
	o      CacheOptions
	events *prometheus.CounterVec
	flight singleflight.Group

	mu    sync.Mutex // guards what follows
	items map[string]*list.Element
	order *list.List // of *item, the most recently used first
	bytes int64
}

type item struct {
	digest  string
	index   *Index
	size    int64
	expires time.Time
}

// NewCache returns an empty cache. It fails when its metric is registered already.
func NewCache(o CacheOptions) (*Cache, error) {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.MaxItems <= 0 {
		o.TTL, o.Registerer = shortMemory, nil
	}
	if o.PurgeInterval <= 0 {
		o.PurgeInterval = time.Minute
	}
	o.Limits.IndexBytes *= storedFactor
	c := &Cache{o: o, items: map[string]*list.Element{}, order: list.New()}
	if o.Registerer == nil {
		return c, nil
	}
	c.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gotk_cache_events_total", Help: "Total number of cache retrieval events for a Gitops Toolkit resource reconciliation.",
	}, []string{"event_type", "name", "namespace"})
	return c, o.Registerer.Register(c.events)
}

// Index returns the index with the digest of a stored artifact, which open reads when it is not in the cache. object is
// the HelmRepository it belongs to. Concurrent calls for one digest read it once; errors are those of open and Parse.
func (c *Cache) Index(ctx context.Context, object types.NamespacedName, digest string, open func(context.Context) (io.ReadCloser, error)) (*Index, error) {
	if index := c.get(digest); index != nil {
		c.count("cache_hit", object)
		return index, nil
	}
	c.count("cache_miss", object)
	for first := true; ; first = false {
		v, err, shared := c.flight.Do(digest, func() (any, error) {
			r, err := open(ctx)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			index, err := Parse(ctx, r, c.o.Limits)
			if err != nil {
				return nil, err
			}
			c.put(digest, index)
			return index, nil
		})
		if err != nil {
			if first && shared && ctx.Err() == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
				// It was the context of another caller that ended.
				continue
			}
			return nil, err
		}
		return v.(*Index), nil
	}
}

func (c *Cache) count(event string, object types.NamespacedName) {
	if c.events != nil {
		c.events.WithLabelValues(event, object.Name, object.Namespace).Inc()
	}
}

// Forget drops the series of an object that is gone (helmrepository 32).
func (c *Cache) Forget(object types.NamespacedName) {
	if c.events != nil {
		c.events.DeletePartialMatch(prometheus.Labels{"name": object.Name, "namespace": object.Namespace})
	}
}

// Start removes old indexes until the context ends.
func (c *Cache) Start(ctx context.Context) error {
	ticker := c.o.Clock.NewTicker(c.o.PurgeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			c.purge()
		}
	}
}

func (c *Cache) get(digest string) *Index {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[digest]
	if e == nil {
		return nil
	}
	i := e.Value.(*item)
	if !c.o.Clock.Now().Before(i.expires) {
		c.remove(e)
		return nil
	}
	i.expires = c.o.Clock.Now().Add(c.o.TTL)
	c.order.MoveToFront(e)
	return i.index
}

func (c *Cache) put(digest string, index *Index) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[digest]; e != nil {
		c.remove(e)
	}
	i := &item{digest: digest, index: index, size: index.Size(), expires: c.o.Clock.Now().Add(c.o.TTL)}
	c.items[digest] = c.order.PushFront(i)
	c.bytes += i.size
	for c.bytes > cacheBytes || c.o.MaxItems > 0 && c.order.Len() > c.o.MaxItems {
		c.remove(c.order.Back())
	}
}

func (c *Cache) remove(e *list.Element) {
	i := c.order.Remove(e).(*item)
	delete(c.items, i.digest)
	c.bytes -= i.size
}

func (c *Cache) purge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Clock.Now()
	for e := c.order.Back(); e != nil; {
		older := e.Prev()
		if !now.Before(e.Value.(*item).expires) {
			c.remove(e)
		}
		e = older
	}
}
