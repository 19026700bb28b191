package artifact

// WithoutLinks makes a store behave as on a file system without hard links.
func (s *Store) WithoutLinks() *Store {
	s.linked = false
	return s
}
