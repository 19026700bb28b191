//go:build race

package image

// raceDetector tells that the race detector is on, which allocates on its own account.
const raceDetector = true
