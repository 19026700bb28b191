package kube

import (
	"context"
	"sync"
)

// Pool keeps a value per key for as long as an owner uses it: the clients and watches of other clusters, which owners with the same
// credentials share. It is safe for concurrent use.
type Pool[T any] struct {
	ctx context.Context

	mu    sync.Mutex // guards what follows
	items map[string]*pooled[T]
	users map[Owner]string
}

type pooled[T any] struct {
	value  T
	cancel context.CancelFunc
	users  int
}

// NewPool makes an empty pool. Contexts of its values end with ctx at the latest.
func NewPool[T any](ctx context.Context) *Pool[T] {
	return &Pool[T]{ctx: ctx, items: map[string]*pooled[T]{}, users: map[Owner]string{}}
}

// Use returns the value of a key and notes that the owner uses it, and no longer what it used before. open makes the value; its
// context ends when the last owner has left. open must not block and not call the pool.
func (p *Pool[T]) Use(owner Owner, key string, open func(context.Context) (T, error)) (T, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	item := p.items[key]
	if item == nil {
		ctx, cancel := context.WithCancel(p.ctx)
		value, err := open(ctx)
		if err != nil {
			cancel()
			return value, err
		}
		item = &pooled[T]{value: value, cancel: cancel}
		p.items[key] = item
	}
	if used, ok := p.users[owner]; ok && used == key {
		return item.value, nil
	}
	p.leave(owner)
	item.users++
	p.users[owner] = key
	return item.value, nil
}

// Of returns what an owner uses.
func (p *Pool[T]) Of(owner Owner) (value T, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key, ok := p.users[owner]
	if ok {
		value = p.items[key].value
	}
	return value, ok
}

// Leave notes that the owner uses nothing any more. A value without owners is dropped.
func (p *Pool[T]) Leave(owner Owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave(owner)
}

func (p *Pool[T]) leave(owner Owner) {
	key, ok := p.users[owner]
	if !ok {
		return
	}
	delete(p.users, owner)
	item := p.items[key]
	if item.users--; item.users == 0 {
		item.cancel()
		delete(p.items, key)
	}
}

// Len counts the values, for a metric.
func (p *Pool[T]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.items)
}
