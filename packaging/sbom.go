package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// sbom writes the bill of materials of a binary, in the JSON of CycloneDX: the modules that are linked into it, and
// the standard library.
func (r *release) sbom(b *binary) error {
	text, err := r.materials(b)
	if err != nil {
		return err
	}
	return os.WriteFile(r.name(b, "cdx.json"), text, 0o644)
}

func (r *release) materials(b *binary) ([]byte, error) {
	code, err := b.read()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(code)
	self := component(cdx.ComponentTypeApplication, b.info.Main.Path, "v"+b.version)
	self.Name = "firth"
	self.Licenses = &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}
	self.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}
	self.Properties = &[]cdx.Property{}
	for _, s := range b.info.Settings {
		*self.Properties = append(*self.Properties, cdx.Property{Name: "go:" + s.Key, Value: s.Value})
	}

	parts := []cdx.Component{component(cdx.ComponentTypeLibrary, "std", strings.TrimPrefix(b.info.GoVersion, "go"))}
	for _, m := range b.info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component(cdx.ComponentTypeLibrary, m.Path, m.Version)
		if m.Sum != "" { // as in go.sum; it is no plain hash of an archive
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
		}
		parts = append(parts, c)
	}
	refs := make([]string, len(parts))
	for i := range parts {
		refs[i] = parts[i].BOMRef
	}

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: r.time.Format(time.RFC3339), Component: &self}
	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: self.BOMRef, Dependencies: &refs}}
	var text bytes.Buffer
	err = cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return text.Bytes(), err
}

// component is a Go module, by its package URL.
func component(kind cdx.ComponentType, module, version string) cdx.Component {
	url := "pkg:golang/" + module + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cdx.Component{Type: kind, BOMRef: url, PackageURL: url, Name: module, Version: version}
}
