// Command packaging makes what is released of binaries of Firth: an archive and a bill of materials of each, a .deb and
// an .rpm of those for Linux, one OCI image for all of these, and SHA256SUMS.
//
//	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) packaging -out build/release build/release/bin/*
//
// What it writes depends on the binaries, the files of this folder and SOURCE_DATE_EPOCH, and on nothing else. It is a
// module of its own: what packages need is not what Firth needs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// release is where things come from and go to.
type release struct {
	root string // of the repository
	out  string
	time time.Time // of every file in what is written
}

// kinds are what can be made, in the order of making.
var kinds = []string{"sbom", "archive", "deb", "rpm", "image", "sums"}

func run(args []string) error {
	flags := flag.NewFlagSet("packaging", flag.ContinueOnError)
	var r release
	flags.StringVar(&r.root, "root", ".", "the `folder` of the repository")
	flags.StringVar(&r.out, "out", "build/release", "the `folder` to write to")
	version := flags.String("version", "", "the `version` of a binary that has none")
	only := flags.String("only", strings.Join(kinds, ","), "the `kinds` to make, with commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH is no number of seconds: %w", err)
	}
	r.time = time.Unix(epoch, 0).UTC()
	wanted := strings.Split(*only, ",")
	for _, kind := range wanted {
		if !slices.Contains(kinds, kind) {
			return fmt.Errorf("%q is none of %s", kind, strings.Join(kinds, ", "))
		}
	}
	var binaries []*binary
	for _, path := range flags.Args() {
		b, err := readBinary(path, *version)
		if err != nil {
			return err
		}
		binaries = append(binaries, b)
	}
	if len(binaries) == 0 {
		return errors.New("no binary is given")
	}
	return r.make(binaries, wanted)
}

// make makes the kinds that are wanted.
func (r *release) make(binaries []*binary, wanted []string) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	for _, b := range binaries {
		for _, kind := range wanted {
			var err error
			switch kind {
			case "sbom":
				err = r.sbom(b)
			case "archive":
				err = r.archive(b)
			case "deb", "rpm":
				err = r.system(b, kind)
			}
			if err != nil {
				return err
			}
		}
	}
	if slices.Contains(wanted, "image") {
		if err := r.image(binaries); err != nil {
			return err
		}
	}
	if slices.Contains(wanted, "sums") {
		return r.sums()
	}
	return nil
}

// name is that of a file of the release: firth_VERSION_PLATFORM.EXTENSION.
func (r *release) name(b *binary, extension string) string {
	return filepath.Join(r.out, "firth_"+b.version+"_"+b.platform()+"."+extension)
}
