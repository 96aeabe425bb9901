package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/apps/mosquitto"
	"github.com/firthmq/firth/internal/kit/fault"
)

// newImportCommand groups what reads the configurations of others.
func newImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Take over the configuration of another broker",
	}
	cmd.AddCommand(newImportMosquittoCommand(), newImportMosquittoAccessCommand())
	return cmd
}

func newImportMosquittoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "mosquitto FILE",
		Short: "Print a mosquitto.conf as firth.yaml",
		Long: `Print a mosquitto.conf as firth.yaml, with the files of its include_dir. What has no key here goes to standard
error, line by line, with the reason. A listener with shared keys (PSK) is left out, and one beyond this machine
is open only where allow_anonymous was true. A connection becomes a bridge; its password is to be written to a file,
which is named, and is never printed.`,
		Example: `  firth import mosquitto /etc/mosquitto/mosquitto.conf > firth.yaml
  firth config check -c firth.yaml
  firth serve --mosquitto /etc/mosquitto/mosquitto.conf     # or start with it as it is`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := fromMosquitto(args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

// fromMosquitto translates a mosquitto.conf and says what was not translated.
func fromMosquitto(file string, notes io.Writer) (text []byte, err error) {
	text, err = os.ReadFile(file)
	if err != nil {
		return nil, fault.New(fault.NotFound, "import", "%w", err)
	}
	all, err := mosquitto.Parse(file, text, includeDir)
	if err != nil {
		return nil, err
	}
	t, err := mosquitto.Translate(all)
	if err != nil {
		return nil, err
	}
	for _, n := range t.Notes {
		fmt.Fprintln(notes, n)
	}
	return t.YAML(), nil
}

// includeDir reads the files of a folder as Mosquitto does: those that end with .conf, in the order of their names.
func includeDir(dir string) (names []string, texts [][]byte, err error) {
	if names, err = filepath.Glob(filepath.Join(dir, "*.conf")); err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, fault.Wrap(fault.IO, "import", err)
		}
		texts = append(texts, text)
	}
	return names, texts, nil
}
