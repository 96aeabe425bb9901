package node

import (
	"bytes"
	"io"
	"slices"
	"sync"
)

const (
	mostLines = 500
	longLine  = 4 * kib // what is longer is cut
)

// lastLines passes log lines on, and keeps the last ones for firth diagnose: 2 MB at most.
type lastLines struct {
	out io.Writer

	mu   sync.Mutex
	kept [][]byte
	next int // which is written over, once there are mostLines
}

// Write implements io.Writer: a line, as loggers write it.
func (l *lastLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	short := bytes.Clone(line[:min(len(line), longLine)])
	if len(l.kept) < mostLines {
		l.kept = append(l.kept, short)
	} else {
		l.kept[l.next] = short
		l.next = (l.next + 1) % mostLines
	}
	l.mu.Unlock()
	return l.out.Write(line)
}

// text is the lines that are kept, the oldest first.
func (l *lastLines) text() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Join(slices.Concat(l.kept[l.next:], l.kept[:l.next]), nil)
}
