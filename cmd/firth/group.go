package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/node"
)

func newGroupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List, describe, move and delete consumer groups",
		Example: `  firth group list
  firth group describe billing
  firth group seek billing --to start --dry-run`,
	}
	k := addKafkaFlags(cmd)
	cmd.AddCommand(newGroupList(k), newGroupDescribe(k), newGroupSeek(k), newGroupDelete(k))
	return cmd
}

type groupLine struct {
	Name     string     `json:"name"`
	State    string     `json:"state"`
	Protocol string     `json:"protocol"`
	Shared   *shareLine `json:"shared,omitempty"` // of a shared subscription
}

// shareLine is what the broker says of the group of a shared subscription, beside its name and state.
type shareLine struct {
	Members  int   `json:"members"`
	Sessions int   `json:"sessions"`
	Open     int   `json:"open"`
	Lag      int64 `json:"lag"`
}

// shareProtocol is the protocol of shared subscriptions in a list of groups.
const shareProtocol = "mqtt"

func newGroupList(k *kafkaFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List consumer groups, and the groups of shared subscriptions of MQTT",
		Long: `List consumer groups, and the groups of shared subscriptions of MQTT, named by their filter:
$share/GROUP/FILTER. JSON has for these how many members are connected, how many sessions are subscribed,
how many messages wait for an acknowledgement, and the lag: records that the group has not done with, whether
they are for it or not.

Shared subscriptions are asked for at listen.http of a broker on this machine: where -b names another broker,
only if --http is given.`,
		Example: `  firth group list
  firth group list -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	http := cmd.Flags().String("http", "127.0.0.1:8080", "listen.http of the broker, `host:port` or unix:PATH")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			groups, err := adm.ListGroups(ctx)
			if err != nil {
				return kafkaError("list groups", err, "")
			}
			lines := []groupLine{}
			rows := [][]string{}
			for _, g := range groups.Sorted() {
				lines = append(lines, groupLine{Name: g.Group, State: g.State, Protocol: g.ProtocolType})
				rows = append(rows, []string{g.Group, g.State, g.ProtocolType})
			}
			shares, err := k.shares(cmd, *http)
			if err != nil {
				return err
			}
			for _, g := range shares {
				lines = append(lines, g)
				rows = append(rows, []string{g.Name, g.State, g.Protocol})
			}
			if *form == output.FormJSON {
				return output.JSON(cmd.OutOrStdout(), lines)
			}
			return output.Table(cmd.OutOrStdout(), []string{"GROUP", "STATE", "PROTOCOL"}, rows)
		})
	}
	return cmd
}

// shares are the groups of shared subscriptions of a broker. Where nobody asked for them, and nobody answers, there are
// none, and standard error says so.
func (k *kafkaFlags) shares(cmd *cobra.Command, http string) ([]groupLine, error) {
	asked := cmd.Flags().Changed("http")
	if cmd.Flags().Changed("brokers") && !asked {
		return nil, nil
	}
	var said []struct {
		Name  string `json:"name"`
		State string `json:"state"`
		shareLine
	}
	a := adminFlags{address: http, timeout: k.timeout, data: node.Default().Data}
	err := a.call(cmd, admin.Request{Method: "GET", Path: "/shares"}, &said)
	var lines []groupLine
	for _, s := range said {
		lines = append(lines, groupLine{s.Name, s.State, shareProtocol, &s.shareLine})
	}
	if err != nil && !asked {
		cmd.PrintErrf("shared subscriptions are not shown: %v\n", err)
		return nil, nil
	}
	return lines, err
}

type lagLine struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"` // -1: nothing is committed
	Start     int64  `json:"start"`
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"` // -1: not known
	Member    string `json:"member,omitempty"`
	Host      string `json:"host,omitempty"`
}

type groupDescription struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Assignor string    `json:"assignor"`
	Members  int       `json:"members"`
	Lag      int64     `json:"lag"`
	Offsets  []lagLine `json:"offsets"`
}

func newGroupDescribe(k *kafkaFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe GROUP...",
		Short: "Show a group: its members, its offsets and how far it is behind",
		Example: `  firth group describe billing
  firth group describe billing -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			describe := func(name string) (*groupDescription, error) { return describeGroup(ctx, adm, name) }
			return describeEach(cmd, *form, names, describe, printGroup)
		})
	}
	return cmd
}

func describeGroup(ctx context.Context, adm *kadm.Client, name string) (*groupDescription, error) {
	if g, is, err := consumerGroup(ctx, adm, name); err != nil {
		return nil, err
	} else if is {
		return describeConsumers(ctx, adm, &g)
	}
	lags, err := adm.Lag(ctx, name)
	if err != nil {
		return nil, kafkaError("group "+name, err, "")
	}
	g := lags[name]
	if err := g.Error(); err != nil {
		return nil, kafkaError("group "+name, err, "")
	}
	d := &groupDescription{Name: name, State: g.State, Assignor: g.Protocol, Members: len(g.Members), Offsets: []lagLine{}}
	if g.State == "Dead" {
		return nil, fault.New(fault.NotFound, "group "+name, "no such group").WithHint("firth group list shows what there is")
	}
	for _, l := range g.Lag.Sorted() {
		line := lagLine{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At,
			Start: l.Start.Offset, End: l.End.Offset, Lag: l.Lag}
		if l.Member != nil {
			line.Member, line.Host = l.Member.MemberID, l.Member.ClientHost
		}
		d.Lag += max(l.Lag, 0)
		d.Offsets = append(d.Offsets, line)
	}
	return d, nil
}

func printGroup(cmd *cobra.Command, d *groupDescription, blank bool) error {
	out := cmd.OutOrStdout()
	if blank {
		_, _ = fmt.Fprintln(out)
	}
	assignor := d.Assignor
	if assignor == "" {
		assignor = "-"
	}
	_, err := fmt.Fprintf(out,
		"SUMMARY\nname      %s\nstate     %s\nassignor  %s\nmembers   %d\nlag       %d\n\nOFFSETS\n",
		format.Printable(d.Name), d.State, format.Printable(assignor), d.Members, d.Lag)
	if err != nil {
		return err
	}
	rows := [][]string{}
	for _, l := range d.Offsets {
		rows = append(rows, []string{l.Topic, itoa(l.Partition), dash(l.Committed), itoa(l.End), dash(l.Lag),
			l.Member, l.Host})
	}
	return output.Table(out, []string{"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"}, rows)
}

// dash is n, or - for what is not known.
func dash(n int64) string {
	if n < 0 {
		return "-"
	}
	return itoa(n)
}

type moveLine struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"` // -1: nothing was committed
	To        int64  `json:"to"`
}

type seekFlags struct {
	to          string
	topics      []string
	dryRun, yes bool
}

func newGroupSeek(k *kafkaFlags) *cobra.Command {
	var f seekFlags
	cmd := &cobra.Command{
		Use:   "seek GROUP --to POSITION",
		Short: "Move the committed offsets of a group that has no members",
		Long: `Move the committed offsets of a group that has no members: to start, end, an offset, -N (N before
the end) or @TIME (milliseconds since 1970, a date, or a duration before now such as @-1h). Without
--topics, every topic moves in which the group has committed.`,
		Example: `  firth group seek billing --to start --dry-run
  firth group seek billing --to @-1h --topics orders,payments --yes
  firth group seek billing --to @2026-01-31T08:00:00Z --yes`,
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", positionForms)
	flags.StringSliceVar(&f.topics, "topics", nil, "only these topics")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show from where to where, move nothing")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.to == "" {
			return output.Usage("--to is missing: %s", positionForms)
		}
		to, err := parsePosition(f.to, time.Now())
		if err != nil {
			return err
		}
		if to.kind == atStored || to.kind == untilTime {
			return output.Usage("%q is no position to seek to: use %s", f.to, positionForms)
		}
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			moves, err := planSeek(ctx, adm, args[0], to, f.topics)
			if err != nil {
				return err
			}
			if !f.dryRun {
				if err := confirm(cmd, f.yes, fmt.Sprintf("Move %d offsets of group %s?", len(moves), args[0])); err != nil {
					return err
				}
				if err := commitMoves(ctx, adm, args[0], moves); err != nil {
					return err
				}
			}
			return printMoves(cmd, *form, moves)
		})
	}
	return cmd
}

// planSeek finds out from where to where each partition would move.
func planSeek(ctx context.Context, adm *kadm.Client, group string, to position, topics []string) ([]moveLine, error) {
	described, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		return nil, kafkaError("group "+group, err, "")
	}
	consumers, _, err := consumerGroup(ctx, adm, group)
	if err != nil {
		return nil, err
	}
	if n := len(described[group].Members) + len(consumers.Members); n > 0 {
		return nil, fault.New(fault.Invalid, "group "+group, "it has %d members", n).
			WithHint("stop its consumers first: a member would commit over the new offsets")
	}
	committed, err := adm.FetchOffsets(ctx, group)
	if err != nil {
		return nil, kafkaError("group "+group, err, "")
	}
	if len(topics) == 0 {
		topics = sortedKeys(committed)
	}
	if len(topics) == 0 {
		return nil, fault.New(fault.NotFound, "group "+group, "it has committed nothing").
			WithHint("--topics names the topics to give it offsets in; firth group list shows the groups there are")
	}
	offsets, err := to.offsets(ctx, adm, topics...)
	if err != nil {
		return nil, err
	}
	moves := []moveLine{}
	for _, topic := range sortedKeys(offsets) {
		for _, p := range sortedKeys(offsets[topic]) {
			from := int64(-1)
			if o, ok := committed.Lookup(topic, p); ok {
				from = o.At
			}
			moves = append(moves, moveLine{topic, p, from, offsets[topic][p]})
		}
	}
	return moves, nil
}

func commitMoves(ctx context.Context, adm *kadm.Client, group string, moves []moveLine) error {
	var offsets kadm.Offsets
	for _, m := range moves {
		offsets.AddOffset(m.Topic, m.Partition, m.To, -1)
	}
	done, err := adm.CommitOffsets(ctx, group, offsets)
	if err == nil {
		err = done.Error()
	}
	return kafkaError("group "+group, err, "")
}

func printMoves(cmd *cobra.Command, form output.Form, moves []moveLine) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), moves)
	}
	rows := [][]string{}
	for _, m := range moves {
		rows = append(rows, []string{m.Topic, itoa(m.Partition), dash(m.From), itoa(m.To)})
	}
	return output.Table(cmd.OutOrStdout(), []string{"TOPIC", "PARTITION", "FROM", "TO"}, rows)
}

func newGroupDelete(k *kafkaFlags) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:     "delete GROUP...",
		Aliases: []string{"rm"},
		Short:   "Delete groups that have no members, with their committed offsets",
		Example: `  firth group delete billing --dry-run
  firth group delete billing --yes`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be deleted, delete nothing")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			if dryRun {
				return dryDelete(ctx, cmd, adm, *form, names)
			}
			if err := confirm(cmd, yes, "Delete "+strings.Join(names, ", ")+" and the committed offsets?"); err != nil {
				return err
			}
			return deleteGroups(ctx, cmd, adm, *form, names)
		})
	}
	return cmd
}

func dryDelete(ctx context.Context, cmd *cobra.Command, adm *kadm.Client, form output.Form, names []string) error {
	var results []result
	for _, name := range names {
		d, err := describeGroup(ctx, adm, name)
		if err != nil {
			return err
		}
		word := fmt.Sprintf("would be deleted: %d committed offsets", len(d.Offsets))
		if d.Members > 0 {
			word = fmt.Sprintf("would be refused: it has %d members", d.Members)
		}
		results = append(results, result{name, word})
	}
	return printResults(cmd, form, results)
}

func deleteGroups(ctx context.Context, cmd *cobra.Command, adm *kadm.Client, form output.Form, names []string) error {
	deleted, err := adm.DeleteGroups(ctx, names...)
	if err != nil {
		return kafkaError("delete group", err, "")
	}
	var results []result
	var first error
	all := deleted.Sorted()
	slices.SortFunc(all, func(a, b kadm.DeleteGroupResponse) int { return strings.Compare(a.Group, b.Group) })
	for _, g := range all {
		if g.Err == nil {
			results = append(results, result{g.Group, "deleted"})
		} else if first == nil {
			first = kafkaError("group "+g.Group, g.Err, "")
		}
	}
	if err := printResults(cmd, form, results); err != nil {
		return err
	}
	return first
}
