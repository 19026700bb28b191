// Package health tells whether objects have become what they should be, by kstatus or by CEL expressions, and waits for it without
// polling what a watch already shows.
package health
