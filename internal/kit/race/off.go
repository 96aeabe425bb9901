//go:build !race

// Package race tells tests whether they run under the race detector, where pools forget on purpose.
package race

// Detector tells whether the race detector is on.
const Detector = false
