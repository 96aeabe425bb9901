package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers itself, as does the other
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// system writes a package for a system: a .deb or an .rpm. What is in it stands in nfpm.yaml.
func (r *release) system(b *binary, format string) error {
	if b.os != "linux" {
		return nil
	}
	sbom, err := r.materials(b)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "firth-packaging-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	bom := filepath.Join(scratch, "sbom.cdx.json")
	if err := os.WriteFile(bom, sbom, 0o644); err != nil {
		return err
	}
	given := map[string]string{
		"VERSION": b.version, "ARCH": b.arch + b.variant, "BINARY": b.path, "SBOM": bom,
		"ROOT": r.root, "FILES": filepath.Join(r.root, "packaging", "files"),
	}
	text, err := os.ReadFile(filepath.Join(r.root, "packaging", "nfpm.yaml"))
	if err != nil {
		return err
	}
	expand := func(key string) string { return given[key] }
	config, err := nfpm.ParseWithEnvMapping(strings.NewReader(os.Expand(string(text), expand)), expand)
	if err != nil {
		return err
	}
	info, err := config.Get(format)
	if err != nil {
		return err
	}
	info = nfpm.WithDefaults(info)
	info.MTime = r.time
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	name := filepath.Join(r.out, packager.ConventionalFileName(info))
	if err := create(name, func(w io.Writer) error { return packager.Package(info, w) }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
