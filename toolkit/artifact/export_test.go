package artifact

// WithoutLinks makes a store behave as on a file system without hard links.
func (s *Store) WithoutLinks() *Store {
	s.linked = false
	return s
}

// LimitIdleIndexes bounds the memory for indexes of unused trees.
func (o *Opener) LimitIdleIndexes(bytes int64) { o.trees.indexLimit = bytes }
