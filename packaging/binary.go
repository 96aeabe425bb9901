package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"strings"
)

// binary is a build of firth, by what the linker wrote into it.
type binary struct {
	path    string
	info    *buildinfo.BuildInfo
	version string // of the module, without the v
	os      string
	arch    string
	variant string // of arm: 7; else empty
}

// readBinary refuses what is not firth, and what would not run everywhere: a binary with cgo. version is that of a
// binary that was built where Go sees no version.
func readBinary(path, version string) (*binary, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := &binary{path: path, info: info, version: strings.TrimPrefix(info.Main.Version, "v")}
	if b.version == "" || b.version == "(devel)" {
		b.version = version
	}
	var cgo string
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			b.os = s.Value
		case "GOARCH":
			b.arch = s.Value
		case "GOARM":
			b.variant, _, _ = strings.Cut(s.Value, ",")
		case "CGO_ENABLED":
			cgo = s.Value
		}
	}
	switch {
	case info.Path != "github.com/firthmq/firth/cmd/firth":
		return nil, fmt.Errorf("%s is %s, and not firth", path, info.Path)
	case cgo != "0":
		return nil, fmt.Errorf("%s is not static: CGO_ENABLED is %q", path, cgo)
	case b.version == "":
		return nil, fmt.Errorf("%s has no version: build it in a git checkout, or say -version", path)
	}
	return b, nil
}

// platform is the operating system and the architecture, as linux_armv7.
func (b *binary) platform() string {
	if b.variant != "" {
		return b.os + "_" + b.arch + "v" + b.variant
	}
	return b.os + "_" + b.arch
}

// file is the name of the binary where it is unpacked.
func (b *binary) file() string {
	if b.os == "windows" {
		return "firth.exe"
	}
	return "firth"
}

func (b *binary) read() ([]byte, error) { return os.ReadFile(b.path) }
