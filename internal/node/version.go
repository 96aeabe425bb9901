package node

import (
	"runtime"
	"runtime/debug"
)

// Version says what this binary is.
type Version struct {
	Version  string `json:"version"`            // module version, or "devel"
	Revision string `json:"revision,omitempty"` // commit, with "+dirty" if the tree had changes
	Go       string `json:"go"`                 // Go release, e.g. "go1.26.8"
	Platform string `json:"platform"`           // operating system and architecture, e.g. "linux/amd64"
}

// BuildVersion reads what the Go linker wrote into the binary.
func BuildVersion() Version {
	v := Version{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && v.Revision != "" {
		v.Revision += "+dirty"
	}
	return v
}
