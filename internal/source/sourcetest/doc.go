// Package sourcetest is the suite that every source kind runs: what a source owes to its user when the server is well,
// slow, lying, full of malice or gone. A kind brings its controller, a healthy server and the shape of its objects; the
// suite brings the faults.
package sourcetest
