package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

func newTopicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, change and delete topics of the log",
		Example: `  firth topic create sensors -p 6 -c retention.ms=86400000
  firth topic list
  firth topic describe sensors`,
	}
	k := addKafkaFlags(cmd)
	cmd.AddCommand(newTopicCreate(k), newTopicList(k), newTopicDescribe(k), newTopicDelete(k),
		newTopicConfig(k), newTopicPartitions(k))
	return cmd
}

// result is what happened to one named thing.
type result struct {
	Name   string `json:"name"`
	Result string `json:"result"`
}

// printResults prints what happened, as a line or a JSON object each.
func printResults(cmd *cobra.Command, form output.Form, results []result) error {
	for _, r := range results {
		if form == output.FormJSON {
			if err := output.JSON(cmd.OutOrStdout(), r); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", format.Printable(r.Name), r.Result); err != nil {
			return err
		}
	}
	return nil
}

func newTopicCreate(k *kafkaFlags) *cobra.Command {
	var partitions int32
	var replicas int16
	var config []string
	var ifNotExists, dryRun bool
	cmd := &cobra.Command{
		Use:   "create NAME...",
		Short: "Create topics",
		Example: `  firth topic create sensors
  firth topic create orders payments -p 12 -c cleanup.policy=compact
  firth topic create sensors --if-not-exists`,
		Args: cobra.MinimumNArgs(1),
	}
	flags := cmd.Flags()
	flags.Int32VarP(&partitions, "partitions", "p", -1, "partitions of each topic; -1: the server's default")
	flags.Int16VarP(&replicas, "replicas", "r", -1, "replicas; -1: the server's default")
	flags.StringArrayVarP(&config, "config", "c", nil, "setting `name=value`, may be repeated")
	flags.BoolVar(&ifNotExists, "if-not-exists", false, "a topic that exists is no error")
	flags.BoolVar(&dryRun, "dry-run", false, "let the server check, create nothing")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		set, err := settings(config)
		if err != nil {
			return err
		}
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			do := adm.CreateTopics
			if dryRun {
				do = adm.ValidateCreateTopics
			}
			created, err := do(ctx, partitions, replicas, set, names...)
			if err != nil {
				return kafkaError("create topic", err, "")
			}
			return reportCreated(cmd, *form, created, ifNotExists, dryRun)
		})
	}
	return cmd
}

func reportCreated(cmd *cobra.Command, form output.Form, created kadm.CreateTopicResponses, ifNotExists,
	dryRun bool) error {
	var results []result
	var first error
	for _, t := range created.Sorted() {
		switch {
		case errors.Is(t.Err, kerr.TopicAlreadyExists) && ifNotExists:
			results = append(results, result{t.Topic, "exists already"})
		case t.Err != nil:
			if first == nil {
				first = kafkaError("topic "+t.Topic, t.Err, t.ErrMessage)
			}
		case dryRun:
			results = append(results, result{t.Topic, "would be created"})
		default:
			results = append(results, result{t.Topic, fmt.Sprintf("created, %d partitions", t.NumPartitions)})
		}
	}
	if err := printResults(cmd, form, results); err != nil {
		return err
	}
	return first
}

type topicLine struct {
	Name       string `json:"name"`
	Partitions int    `json:"partitions"`
	Records    int64  `json:"records"`
	Internal   bool   `json:"internal,omitempty"`
}

func newTopicList(k *kafkaFlags) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List topics with their partitions and the offsets they hold",
		Example: `  firth topic list
  firth topic list -i -o json`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&internal, "internal", "i", false, "internal topics as well")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			topics, err := adm.ListTopicsWithInternal(ctx)
			if err != nil {
				return kafkaError("list topics", err, "")
			}
			if !internal {
				topics.FilterInternal()
			}
			lines, err := topicLines(ctx, adm, topics)
			if err != nil {
				return err
			}
			if *form == output.FormJSON {
				return output.JSON(cmd.OutOrStdout(), lines)
			}
			rows := make([][]string, 0, len(lines))
			for _, l := range lines {
				rows = append(rows, []string{l.Name, itoa(l.Partitions), itoa(l.Records)})
			}
			return output.Table(cmd.OutOrStdout(), []string{"TOPIC", "PARTITIONS", "RECORDS"}, rows)
		})
	}
	return cmd
}

func topicLines(ctx context.Context, adm *kadm.Client, topics kadm.TopicDetails) ([]topicLine, error) {
	lines := []topicLine{}
	if len(topics) == 0 {
		return lines, nil
	}
	start, err := adm.ListStartOffsets(ctx, topics.Names()...)
	if err != nil {
		return nil, kafkaError("list offsets", err, "")
	}
	end, err := adm.ListEndOffsets(ctx, topics.Names()...)
	if err != nil {
		return nil, kafkaError("list offsets", err, "")
	}
	for _, t := range topics.Sorted() {
		line := topicLine{Name: t.Topic, Partitions: len(t.Partitions), Internal: t.IsInternal}
		for p := range t.Partitions {
			low, ok1 := start.Lookup(t.Topic, p)
			high, ok2 := end.Lookup(t.Topic, p)
			if ok1 && ok2 && low.Err == nil && high.Err == nil {
				line.Records += high.Offset - low.Offset
			}
		}
		lines = append(lines, line)
	}
	return lines, nil
}

type partitionLine struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"epoch"`
	Replicas  []int32 `json:"replicas"`
	Start     int64   `json:"start"`
	End       int64   `json:"end"`
}

type configLine struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

type topicDescription struct {
	Name       string          `json:"name"`
	ID         string          `json:"id"`
	Internal   bool            `json:"internal"`
	Config     []configLine    `json:"config"`
	Partitions []partitionLine `json:"partitions"`
}

func newTopicDescribe(k *kafkaFlags) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "describe NAME...",
		Short: "Show a topic: identity, settings, partitions and their offsets",
		Example: `  firth topic describe sensors
  firth topic describe sensors --all -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "settings that have their default as well")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			describe := func(name string) (*topicDescription, error) { return describeTopic(ctx, adm, name, all) }
			return describeEach(cmd, *form, names, describe, printTopic)
		})
	}
	return cmd
}

func describeTopic(ctx context.Context, adm *kadm.Client, name string, all bool) (*topicDescription, error) {
	topics, err := adm.ListTopicsWithInternal(ctx, name)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return nil, kafkaError("topic "+name, err, "")
	}
	t := topics[name]
	d := &topicDescription{Name: name, ID: t.ID.String(), Internal: t.IsInternal}
	start, err := adm.ListStartOffsets(ctx, name)
	if err != nil {
		return nil, kafkaError("topic "+name, err, "")
	}
	end, err := adm.ListEndOffsets(ctx, name)
	if err != nil {
		return nil, kafkaError("topic "+name, err, "")
	}
	for _, p := range t.Partitions.Sorted() {
		low, _ := start.Lookup(name, p.Partition)
		high, _ := end.Lookup(name, p.Partition)
		d.Partitions = append(d.Partitions, partitionLine{p.Partition, p.Leader, p.LeaderEpoch, p.Replicas,
			low.Offset, high.Offset})
	}
	d.Config, err = topicConfig(ctx, adm, name, all)
	return d, err
}

// topicConfig lists the settings of a topic by name; without all only those given for the topic itself.
func topicConfig(ctx context.Context, adm *kadm.Client, name string, all bool) ([]configLine, error) {
	resources, err := adm.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return nil, kafkaError("topic "+name, err, "")
	}
	r, err := resources.On(name, nil)
	if err == nil {
		err = r.Err
	}
	if err != nil {
		return nil, kafkaError("topic "+name, err, r.ErrMessage)
	}
	lines := []configLine{}
	for _, c := range r.Configs {
		source := strings.ToLower(strings.ReplaceAll(c.Source.String(), "_", " "))
		if all || c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			lines = append(lines, configLine{c.Key, c.MaybeValue(), source})
		}
	}
	slices.SortFunc(lines, func(a, b configLine) int { return strings.Compare(a.Name, b.Name) })
	return lines, nil
}

func printTopic(cmd *cobra.Command, d *topicDescription, blank bool) error {
	out := cmd.OutOrStdout()
	if blank {
		_, _ = fmt.Fprintln(out)
	}
	_, err := fmt.Fprintf(out, "SUMMARY\nname        %s\nid          %s\ninternal    %t\npartitions  %d\n\n",
		format.Printable(d.Name), d.ID, d.Internal, len(d.Partitions))
	if err != nil {
		return err
	}
	if len(d.Config) > 0 {
		_, _ = fmt.Fprintln(out, "CONFIG")
		if err := printConfig(cmd, d.Config); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(out)
	}
	_, _ = fmt.Fprintln(out, "PARTITIONS")
	rows := make([][]string, 0, len(d.Partitions))
	for _, p := range d.Partitions {
		rows = append(rows, []string{itoa(p.Partition), itoa(p.Leader), itoa(p.Epoch), itoa(p.Start),
			itoa(p.End), itoa(p.End - p.Start)})
	}
	return output.Table(out, []string{"PARTITION", "LEADER", "EPOCH", "START", "END", "RECORDS"}, rows)
}

func printConfig(cmd *cobra.Command, lines []configLine) error {
	rows := make([][]string, 0, len(lines))
	for _, c := range lines {
		rows = append(rows, []string{c.Name, c.Value, c.Source})
	}
	return output.Table(cmd.OutOrStdout(), []string{"NAME", "VALUE", "SOURCE"}, rows)
}

func newTopicDelete(k *kafkaFlags) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm"},
		Short:   "Delete topics and all their records",
		Example: `  firth topic delete old-sensors --dry-run
  firth topic delete old-sensors --yes`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be deleted, delete nothing")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			topics, err := adm.ListTopicsWithInternal(ctx, names...)
			if err == nil {
				err = topics.Error()
			}
			if err != nil {
				return kafkaError("topic "+strings.Join(names, ", "), err, "")
			}
			lines, err := topicLines(ctx, adm, topics)
			if err != nil {
				return err
			}
			if dryRun {
				return printResults(cmd, *form, wouldDelete(lines))
			}
			if err := confirm(cmd, yes, deleteQuestion(lines)); err != nil {
				return err
			}
			return deleteTopics(ctx, cmd, adm, *form, names)
		})
	}
	return cmd
}

func wouldDelete(lines []topicLine) []result {
	var results []result
	for _, l := range lines {
		results = append(results, result{l.Name, fmt.Sprintf("would be deleted: %d partitions, %d records",
			l.Partitions, l.Records)})
	}
	return results
}

func deleteQuestion(lines []topicLine) string {
	var records int64
	var names []string
	for _, l := range lines {
		records += l.Records
		names = append(names, l.Name)
	}
	return fmt.Sprintf("Delete %s with %d records for ever?", strings.Join(names, ", "), records)
}

func deleteTopics(ctx context.Context, cmd *cobra.Command, adm *kadm.Client, form output.Form, names []string) error {
	deleted, err := adm.DeleteTopics(ctx, names...)
	if err != nil {
		return kafkaError("delete topic", err, "")
	}
	var results []result
	var first error
	for _, t := range deleted.Sorted() {
		if t.Err == nil {
			results = append(results, result{t.Topic, "deleted"})
		} else if first == nil {
			first = kafkaError("topic "+t.Topic, t.Err, t.ErrMessage)
		}
	}
	if err := printResults(cmd, form, results); err != nil {
		return err
	}
	return first
}

func newTopicConfig(k *kafkaFlags) *cobra.Command {
	var set, unset []string
	var all, dryRun bool
	cmd := &cobra.Command{
		Use:   "config NAME",
		Short: "Show or change the settings of a topic",
		Example: `  firth topic config sensors --all
  firth topic config sensors --set retention.ms=86400000 --unset retention.bytes`,
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&set, "set", "s", nil, "set `name=value`, may be repeated")
	flags.StringArrayVarP(&unset, "unset", "u", nil, "put `name` back to its default, may be repeated")
	flags.BoolVarP(&all, "all", "a", false, "show settings that have their default as well")
	flags.BoolVar(&dryRun, "dry-run", false, "let the server check, change nothing")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		changes, err := configChanges(set, unset)
		if err != nil {
			return err
		}
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			if len(changes) > 0 {
				return changeConfig(ctx, cmd, adm, configRequest{args[0], changes, dryRun, *form})
			}
			lines, err := topicConfig(ctx, adm, args[0], all)
			if err != nil {
				return err
			}
			if *form == output.FormJSON {
				return output.JSON(cmd.OutOrStdout(), lines)
			}
			return printConfig(cmd, lines)
		})
	}
	return cmd
}

func configChanges(set, unset []string) ([]kadm.AlterConfig, error) {
	values, err := settings(set)
	if err != nil {
		return nil, err
	}
	var changes []kadm.AlterConfig
	for _, name := range sortedKeys(values) {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: values[name]})
	}
	for _, name := range unset {
		changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
	}
	return changes, nil
}

type configRequest struct {
	topic   string
	changes []kadm.AlterConfig
	dryRun  bool
	form    output.Form
}

func changeConfig(ctx context.Context, cmd *cobra.Command, adm *kadm.Client, r configRequest) error {
	do, word := adm.AlterTopicConfigs, "changed"
	if r.dryRun {
		do, word = adm.ValidateAlterTopicConfigs, "would be changed"
	}
	changed, err := do(ctx, r.changes, r.topic)
	if err != nil {
		return kafkaError("topic "+r.topic, err, "")
	}
	for _, c := range changed {
		if c.Err != nil {
			return kafkaError("topic "+r.topic, c.Err, c.ErrMessage)
		}
	}
	return printResults(cmd, r.form, []result{{r.topic, word}})
}

func newTopicPartitions(k *kafkaFlags) *cobra.Command {
	var total int
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use:   "partitions NAME --to N",
		Short: "Give a topic more partitions",
		Long: `Give a topic more partitions. Their number can only grow, and keys that were in one partition
may be in another from then on: the order of a key's records holds before and after, not across.`,
		Example: `  firth topic partitions sensors --to 12 --dry-run
  firth topic partitions sensors --to 12 --yes`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().IntVarP(&total, "to", "p", 0, "the new total number of partitions")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "let the server check, change nothing")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if total < 1 {
			return output.WithCode(output.ExitUsage, fault.New(fault.Invalid, "command line",
				"--to needs a number of partitions"))
		}
		return k.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
			do, word := adm.UpdatePartitions, "has now"
			if dryRun {
				do, word = adm.ValidateUpdatePartitions, "would have"
			} else if err := confirm(cmd, yes, fmt.Sprintf("Give %s %d partitions? That cannot be undone.",
				args[0], total)); err != nil {
				return err
			}
			changed, err := do(ctx, total, args[0])
			if err != nil {
				return kafkaError("topic "+args[0], err, "")
			}
			if r, err := changed.On(args[0], nil); err != nil || r.Err != nil {
				if err == nil {
					err = r.Err
				}
				return kafkaError("topic "+args[0], err, r.ErrMessage)
			}
			return printResults(cmd, *form, []result{{args[0], fmt.Sprintf("%s %d partitions", word, total)}})
		})
	}
	return cmd
}
