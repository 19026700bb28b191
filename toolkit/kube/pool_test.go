package kube

import (
	"context"
	"errors"
	"testing"
)

// reliability 081: what belongs to a cluster is shared, and goes with the last who uses it.
func TestPool(t *testing.T) {
	p := NewPool[context.Context](t.Context())
	opened := 0
	use := func(owner, key string) context.Context {
		t.Helper()
		ctx, err := p.Use(Owner{Name: owner}, key, func(ctx context.Context) (context.Context, error) {
			opened++
			return context.WithValue(ctx, poolKey{}, key), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ctx
	}
	a := use("one", "a")
	if again := use("two", "a"); again != a || use("one", "a") != a || opened != 1 {
		t.Errorf("owners of one key have their own, %d in all", opened)
	}
	b := use("one", "b")
	if a.Err() != nil {
		t.Error("a has ended, though two uses it")
	}
	p.Leave(Owner{Name: "two"})
	if a.Err() == nil {
		t.Error("a goes on, though nobody uses it")
	}
	if found, ok := p.Of(Owner{Name: "one"}); !ok || found != b || p.Len() != 1 {
		t.Errorf("one uses %v, %t; %d are open", found, ok, p.Len())
	}
	if _, ok := p.Of(Owner{Name: "two"}); ok {
		t.Error("two has left and still uses something")
	}
	if renewed := use("two", "a"); renewed == a || opened != 3 {
		t.Errorf("a was dropped and is the same again, %d were opened", opened)
	}
}

// A key that cannot be opened leaves the owner where it was.
func TestPoolFails(t *testing.T) {
	p := NewPool[int](t.Context())
	open := func(n int, err error) func(context.Context) (int, error) {
		return func(context.Context) (int, error) { return n, err }
	}
	if _, err := p.Use(Owner{Name: "one"}, "a", open(1, nil)); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, err := p.Use(Owner{Name: "one"}, "b", open(2, broken)); !errors.Is(err, broken) {
		t.Errorf("error = %v", err)
	}
	if n, ok := p.Of(Owner{Name: "one"}); !ok || n != 1 || p.Len() != 1 {
		t.Errorf("one uses %d, %t", n, ok)
	}
}

type poolKey struct{}
