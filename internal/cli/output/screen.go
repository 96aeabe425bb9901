package output

import (
	"io"
	"sync"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/cli/format"
)

// Screen is a terminal that gets no control characters but line feeds and tabs, whoever wrote what a command prints.
// A command that draws, or has made printable itself what is foreign, writes to Raw. Its methods may be called from any
// goroutine.
type Screen struct {
	Raw io.Writer

	mu  sync.Mutex
	cut []byte // the beginning of a character whose end has not come yet
}

// Write writes b made printable (format.AppendPrintable), but for a character that is cut off at the end: that waits
// for its rest, or for Flush.
func (s *Screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := append(s.cut, b...)
	whole := len(text)
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		if last := text[len(text)-back:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				whole -= back
			}
			break
		}
	}
	s.cut = append([]byte(nil), text[whole:]...)
	if _, err := s.Raw.Write(format.AppendPrintable(nil, text[:whole], true)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Flush writes what was cut off, as the bytes it is.
func (s *Screen) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cut := s.cut
	s.cut = nil
	if len(cut) == 0 {
		return nil
	}
	_, err := s.Raw.Write(format.AppendPrintable(nil, cut, true))
	return err
}
