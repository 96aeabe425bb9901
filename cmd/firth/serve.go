package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/handover"
	"github.com/firthmq/firth/internal/node"
)

const serveHelp = `Serve MQTT, Kafka and HTTP from one log until SIGTERM or SIGINT.

The addresses go to standard output once everything serves, the log to standard error. A first signal
lets clients finish (shutdown.timeout) and closes; a second one ends at once. SIGHUP reads the
configuration again. SIGUSR2 starts the program that is at its path now and hands over to it, without a
connection that is refused: docs/operating.md. Sockets that systemd passes are taken. Every key of the
configuration can be set with --set or a FIRTH_* variable: docs/configuration.md lists them, firth config
print shows them.`

// newServeCommand makes `firth serve`, which is also what plain `firth` does.
func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve MQTT, Kafka and HTTP",
		Long:  serveHelp,
		Example: `  firth serve
  firth serve -c /etc/firth.yaml
  firth serve --data /var/lib/firth --set listen.mqtt=1884 --set topics.defaults.retention=30d
  firth serve --mosquitto /etc/mosquitto/mosquitto.conf
  firth serve --set log.kafka.brokers=kafka1:9092,kafka2:9092   # before a Kafka cluster
  firth serve --set listen.mqtt=0 -o json        # any free port; one line of JSON says which`,
		Args: cobra.NoArgs,
	}
	sources := addSources(cmd)
	cmd.Flags().StringVar(&sources.mosquitto, "mosquitto", "",
		"mosquitto.conf to start with, instead of a configuration file: see firth import mosquitto")
	cmd.MarkFlagsMutuallyExclusive("config", "mosquitto")
	sources.notes = cmd.ErrOrStderr
	form := formFlag(cmd)
	ready := cmd.Flags().String("ready-file", "", "write the line of JSON to `PATH` once everything serves")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, node.Signals()...)
		defer signal.Stop(signals)
		given, err := handover.Receive(os.Environ(), os.Getpid())
		if err != nil {
			return err
		}
		return asCheck(node.Run(cmd.Context(), node.Process{
			Load: sources.load, Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr(),
			JSON: *form == output.FormJSON, ReadyFile: *ready, Signals: signals,
			Notify: os.Getenv("NOTIFY_SOCKET"), Given: given,
			Next: handover.Command{Program: os.Args[0], Args: os.Args[1:], Env: os.Environ(), Out: cmd.OutOrStdout(),
				Err: cmd.ErrOrStderr()},
		}))
	}
	return cmd
}

// sources are the flags that say where the configuration comes from.
type sources struct {
	file, data string
	mosquitto  string           // translated, in the place of file
	notes      func() io.Writer // for what was not
	set        []string
	given      func(flag string) bool
}

func addSources(cmd *cobra.Command) *sources {
	s := &sources{given: cmd.Flags().Changed}
	cmd.Flags().StringVarP(&s.file, "config", "c", "", "configuration `FILE` (default firth.yaml, if there is one)")
	cmd.Flags().StringVar(&s.data, "data", "", "data `DIR`ectory, the same as --set data=DIR")
	cmd.Flags().StringArrayVar(&s.set, "set", nil, "set a `key=value` of the configuration; may be repeated")
	return s
}

func (s *sources) load() (*node.Config, error) {
	l := s.loader()
	if s.mosquitto == "" {
		return l.Load()
	}
	text, err := fromMosquitto(s.mosquitto, s.notes())
	if err != nil {
		return nil, err
	}
	return node.Load(node.Sources{File: s.mosquitto + " as firth.yaml", Text: text, Env: l.Env, Flags: l.Flags})
}

// loader reads the configuration that the flags name.
func (s *sources) loader() node.Loader {
	l := node.Loader{File: s.file, Env: os.Environ()}
	if s.given("data") { // an empty one is an error, not the default: it may be a variable that is not set
		l.Flags = append(l.Flags, node.Assignment{Flag: "--data", Text: "data=" + s.data})
	}
	for _, text := range s.set {
		l.Flags = append(l.Flags, node.Assignment{Flag: "--set", Text: text})
	}
	return l
}

// asCheck gives problems of the configuration their exit code.
func asCheck(err error) error {
	if _, ok := errors.AsType[node.Problems](err); ok {
		return output.WithCode(output.ExitCheck, err)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
