package main

import (
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/apps/migrate"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/node"
)

const migrateHelp = `Move what a node on this machine's disk has into a Kafka cluster, for a gateway to go on with.

While the node runs, --from copies the records of its topics through its Kafka door, as often as you like: each
run copies what came since. Then stop the node and run the command without --from: it copies the rest, and sessions,
retained messages, users, rules, tokens, bans, and what consumer groups have committed; it compares both sides and
prints the command that starts the gateway. The data of the node stay as they are.

A run that was killed is begun again, and goes on where the cluster says that it was. Offsets stay as they are where
a partition begins at 0, or so near to it that what is missing can be filled (--fill); else they are lower by the
same number in the whole partition, and what sessions and groups say of them is translated.

How to reach the cluster is said as for firth serve: with --set log.kafka.*, or in a file for the gateway (--gateway).
docs/gateway.md has a walk through it.`

// migrating are the flags of firth migrate.
type migrating struct {
	sources *sources
	to      string
	gateway string
	live    node.Brokers
	dry     bool
	fill    int64
	form    *output.Form
}

func newMigrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate --to kafka://HOST:PORT,...",
		Short: "Move a node into a Kafka cluster",
		Long:  migrateHelp,
		Example: `  firth migrate --to kafka://kafka1:9092,kafka2:9092 --dry-run
  firth migrate --to kafka://kafka1:9092 --from localhost:9092     # ahead, while the node runs
  firth migrate --to kafka://kafka1:9092 --data /var/lib/firth     # the node has stopped
  firth migrate --to kafka://kafka1:9093 --gateway gateway.yaml    # TLS and SASL as the gateway has them`,
		Args: cobra.NoArgs,
	}
	m := &migrating{sources: addSources(cmd), form: formFlag(cmd)}
	f := cmd.Flags()
	f.StringVar(&m.to, "to", "", "brokers of the cluster, `kafka://HOST:PORT,...`")
	f.StringVar(&m.gateway, "gateway", "", "configuration `FILE` of the gateway, for log.kafka.*")
	f.StringVar(&m.live.Addresses, "from", "", "copy from the Kafka door of the node that runs, `HOST:PORT`")
	f.StringVar(&m.live.SASL.User, "from-user", "", "`NAME` of a user of that node who may read all topics")
	f.StringVar(&m.live.SASL.PasswordFile, "from-password-file", "", "`FILE` with the password of that user")
	f.StringVar(&m.live.TLS.CA, "from-ca", "", "`FILE` with the authority of that door's certificate: speak TLS")
	f.BoolVar(&m.dry, "dry-run", false, "only say what would be moved, and how offsets will be")
	f.Int64Var(&m.fill, "fill", 0, "fill at most `N` offsets before the first record of a partition, so that offsets "+
		"stay (default 10000000; -1: none)")
	_ = cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return m.run(cmd) }
	return cmd
}

func (m *migrating) run(cmd *cobra.Command) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	from, to, err := m.configs()
	if err != nil {
		return asCheck(err)
	}
	meter := &meter{began: time.Now()}
	if raw, terminal := unscreened(cmd.ErrOrStderr()); terminal {
		meter.w = raw
	}
	migration := node.Migration{
		From: from, To: to, Dry: m.dry, MaxPadding: m.fill, Progress: meter.show,
		Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if m.live.Addresses != "" {
		m.live.Addresses = strings.TrimPrefix(m.live.Addresses, kafkaScheme)
		m.live.ClientID, m.live.TLS.Enabled = "firth-migrate", m.live.TLS.CA != ""
		if m.live.SASL.Mechanism = "none"; m.live.SASL.User != "" {
			m.live.SASL.Mechanism = "scram-sha-256"
		}
		migration.Live = &m.live
	}
	r, err := node.Migrate(ctx, migration)
	meter.end()
	if err != nil {
		return err
	}
	if *m.form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), r)
	}
	return m.print(cmd.OutOrStdout(), r, from, to)
}

const kafkaScheme = "kafka://"

// configs are those of the node and of the gateway: what is set of log.kafka is the gateway's.
func (m *migrating) configs() (from, to *node.Config, err error) {
	brokers, is := strings.CutPrefix(m.to, kafkaScheme)
	if !is || brokers == "" {
		return nil, nil, output.Usage("--to %q is not of the form kafka://HOST:PORT,...", m.to)
	}
	own := m.sources.loader()
	flags := []node.Assignment{{Flag: "--to", Text: "log.kafka.brokers=" + brokers}}
	own.Flags = slices.DeleteFunc(own.Flags, func(a node.Assignment) bool {
		is := strings.HasPrefix(a.Text, "log.kafka.")
		if is {
			flags = append(flags, a)
		}
		return is
	})
	if from, err = own.Load(); err != nil {
		return nil, nil, err
	}
	if m.gateway == "" {
		to, err = node.Load(node.Sources{Flags: flags})
	} else {
		to, err = node.Loader{File: m.gateway, Flags: flags}.Load()
	}
	return from, to, err
}

// print tells a person what was done, or would be.
func (m *migrating) print(w io.Writer, r *migrate.Report, from, to *node.Config) error {
	head := []string{"WHAT", "NAME", "HOW MANY", "NOW", "OFFSETS"}
	var rows [][]string
	for i := range r.Topics {
		t := &r.Topics[i]
		now := strconv.FormatInt(t.Copied, 10) + " copied, " + strconv.FormatInt(t.Verified, 10) + " compared"
		if m.dry {
			now = strconv.FormatInt(t.Offsets, 10) + " to copy"
		}
		rows = append(rows, []string{"topic", t.Name, plural(t.Partitions, "partition"), now, offsetsOf(t)})
	}
	for _, s := range r.State {
		now := strconv.Itoa(s.Written) + " written, all compared"
		if m.dry {
			now = "to move"
		}
		rows = append(rows, []string{"state", s.Name, plural(s.Keys, "key"), now, ""})
	}
	for _, g := range r.Groups {
		rows = append(rows, []string{"group", g.Name, plural(g.Offsets, "offset"), "committed, compared", ""})
	}
	for _, l := range r.Left {
		rows = append(rows, []string{"left", l.Name, "", l.Why, ""})
	}
	if err := output.Table(w, head, rows); err != nil {
		return err
	}
	var b strings.Builder
	switch {
	case m.dry:
		b.WriteString("\nNothing was done.\n")
	case !r.Finished:
		b.WriteString("\nCopied ahead. Run it again for what comes, or stop the node and run it without --from.\n")
	default:
		if keys := node.KeyFiles(from.Data); len(keys) > 0 {
			fmt.Fprintf(&b, "\nThese files of %s belong into the folder of the gateway, with their modes: %s\n", from.Data,
				strings.Join(keys, " "))
		}
		fmt.Fprintf(&b, "\nAll of it is in the cluster, and the same. Start the gateway with:\n\n    %s\n",
			to.ServeLine(m.gateway))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// offsetsOf says what becomes of the offsets of a topic.
func offsetsOf(t *migrate.Topic) string {
	if t.Kept() {
		return "kept"
	}
	var all []string
	for i, by := range t.Lower {
		if by != 0 {
			all = append(all, fmt.Sprintf("[%d] lower by %d", i, by))
		}
	}
	return strings.Join(all, ", ")
}

// meter shows on a terminal how far a run is.
type meter struct {
	w     io.Writer // nil: there is no terminal
	began time.Time
	last  time.Time
	shown bool
}

func (m *meter) show(copied, all int64) {
	const apart = 200 * time.Millisecond
	if m.w == nil || copied < all && time.Since(m.last) < apart {
		return
	}
	m.last, m.shown = time.Now(), true
	rate := float64(copied) / max(time.Since(m.began).Seconds(), 1)
	fmt.Fprintf(m.w, "\r%d of %d offsets, %d%%, %.0f/s ", copied, all, 100*copied/max(all, 1), rate)
}

func (m *meter) end() {
	if m.shown {
		fmt.Fprintln(m.w)
	}
}
