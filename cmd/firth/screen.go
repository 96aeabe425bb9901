package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/firthmq/firth/internal/cli/output"
)

// screened is w or, where that is a terminal, a screen before it: no control character of a payload, a name or an
// error gets there. What does not go to a terminal stays as it is.
func screened(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &output.Screen{Raw: w}
	}
	return w
}

func flushScreens(writers ...io.Writer) {
	for _, w := range writers {
		if s, ok := w.(*output.Screen); ok {
			_ = s.Flush() // a terminal that is gone misses nothing
		}
	}
}

// unscreened is the terminal behind a screen, for a command that makes printable by itself what is foreign, or w where
// there is none.
func unscreened(w io.Writer) (raw io.Writer, terminal bool) {
	if s, ok := w.(*output.Screen); ok {
		return s.Raw, true
	}
	return w, false
}
