// Package buckettest is the suite that every kind of bucket runs, and servers of the three protocols to run it against:
// they hold objects in memory, and answer and refuse as their services document it.
package buckettest
