// Package hostile has servers that lie, stall and flood, for tests of what clients make of them.
package hostile
