// Command firth is the broker and the tools that go with it: one binary.
//
// Each command has a file of its own, named like it, with a function newXxxCommand that root.go lists.
// A command parses its flags, calls a room of internal/ and prints; it holds no logic of the broker.
package main

import (
	"context"
	"io"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// stdio is where a command reads and writes: data goes to out, all else to err.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}
