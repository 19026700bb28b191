package kustomize

import "context"

func (k *Kustomizer) depend(ctx context.Context, w *work) error { return nil }
