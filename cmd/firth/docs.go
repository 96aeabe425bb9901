package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth"
	"github.com/firthmq/firth/internal/apps/site"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/node"
)

func newDocsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "docs DIR",
		Short: "Write the documentation of this version as a site",
		Long: `Writes the documentation of this version as a site of plain files, for any web server or to be
opened as they are; the search needs a web server. A node serves the same site at /docs/ of its
HTTP address.`,
		Example: `  firth docs ./site
  python3 -m http.server -d ./site 8000

  # the same, from a node
  curl -s http://127.0.0.1:8080/docs/`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, err := site.New(firth.Pages(), node.BuildVersion().Version).Files()
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := putPublic(filepath.Join(args[0], filepath.FromSlash(name)), files[name]); err != nil {
				return err
			}
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), struct {
				Folder string `json:"folder"`
				Files  int    `json:"files"`
			}{args[0], len(files)})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d files: begin with %s\n", len(files), filepath.Join(args[0], "index.html"))
		return err
	}
	return cmd
}

// putPublic writes a file that everybody may read, as a web server has to.
func putPublic(name string, text []byte) error {
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, text, 0o644)
	}
	return fault.Wrap(fault.IO, "docs", err)
}
