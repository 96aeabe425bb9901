package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sums writes SHA256SUMS of all files of the release, for sha256sum -c.
func (r *release) sums() error {
	files, err := os.ReadDir(r.out) // by name
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, f := range files {
		if !f.Type().IsRegular() || f.Name() == "SHA256SUMS" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(r.out, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(content), f.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(text.String()), 0o644)
}
