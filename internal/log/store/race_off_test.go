//go:build !race

package store

// RaceDetector tells tests that they run under the race detector, where pools forget on purpose.
const RaceDetector = false
