// Package firth holds the pages of the repository, for the binary to serve.
package firth

import (
	"embed"
	"io/fs"
)

//go:embed README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md docs bench/README.md bench/RESULTS.md bench/CURVES.md
//go:embed examples/README.md examples/*/README.md
var pages embed.FS

// Pages are the pages in Markdown and what they show, by their paths below the root of the repository.
func Pages() fs.FS { return pages }
