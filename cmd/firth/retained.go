package main

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

func newRetainedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retained",
		Short: "List, get, clear and restore retained messages",
		Example: `  firth retained list 'plant/+/state'
  firth retained clear plant/7/state
  firth retained restore plant/7/state`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newRetainedList(a), newRetainedGet(a), newRetainedClear(a), newRetainedRestore(a))
	return cmd
}

type retainedLine struct {
	Topic string    `json:"topic"`
	Bytes int       `json:"bytes"`
	QoS   byte      `json:"qos"`
	Since time.Time `json:"since"`
}

type retainedMessage struct {
	retainedLine
	Payload       []byte      `json:"payload"`
	ContentType   string      `json:"content_type,omitempty"`
	ResponseTopic string      `json:"response_topic,omitempty"`
	Correlation   []byte      `json:"correlation_data,omitempty"`
	Format        *byte       `json:"payload_format,omitempty"`
	Expiry        *uint32     `json:"message_expiry,omitempty"`
	User          [][2]string `json:"user_properties,omitempty"`
}

func newRetainedList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [FILTER]",
		Aliases: []string{"ls"},
		Short:   "List retained messages by topic, all or those that a filter matches",
		Example: `  firth retained list
  firth retained list 'plant/+/state' -o json`,
		Args: cobra.MaximumNArgs(1),
	}
	form := formFlag(cmd)
	var after string
	var limit int
	cmd.Flags().StringVar(&after, "after", "", "only those behind this `TOPIC`: the last of the page before")
	cmd.Flags().IntVarP(&limit, "limit", "n", 1000, "at most so many, up to 10000")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
		if len(args) > 0 {
			q.Set("filter", args[0])
		}
		var lines []retainedLine
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/retained", Query: q}, &lines); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), lines)
		}
		var rows [][]string
		for _, l := range lines {
			rows = append(rows, []string{l.Topic, strconv.Itoa(l.Bytes), strconv.Itoa(int(l.QoS)),
				l.Since.Format(time.RFC3339)})
		}
		return output.Table(cmd.OutOrStdout(), []string{"TOPIC", "BYTES", "QOS", "SINCE"}, rows)
	}
	return cmd
}

func newRetainedGet(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get TOPIC",
		Short: "Print the retained message of a topic: its payload, or all of it as JSON",
		Example: `  firth retained get plant/7/state
  firth retained get plant/7/state -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var m retainedMessage
		q := admin.Request{Method: "GET", Path: "/message", Query: url.Values{"topic": args}}
		if err := a.call(cmd, q, &m); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), m)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", m.Payload)
		return err
	}
	return cmd
}

func newRetainedClear(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clear TOPIC...",
		Short: "Clear retained messages, as a PUBLISH without payload does",
		Long: `Clear retained messages, as a PUBLISH without payload does: subscribers get that, too. What was cleared can be
brought back with restore, as long as the log has it.`,
		Example: `  firth retained clear plant/7/state
  firth retained list 'plant/7/#' -o json | jq -r '.[].topic' | xargs -d '\n' firth retained clear`,
		Args: cobra.MinimumNArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, topics []string) error {
		for _, topic := range topics {
			if err := a.change(cmd, *form, "DELETE", url.Values{"topic": {topic}}); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func newRetainedRestore(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore TOPIC...",
		Short: "Bring back retained messages that were cleared or overwritten",
		Long: `Bring back retained messages that were cleared or overwritten: the one that was there before what is there now,
or before a time, is published again with the retain flag. It is looked for in the log, as far as that goes back.`,
		Example: `  firth retained restore plant/7/state
  firth retained restore plant/7/state --before 2026-01-31T12:00:00Z`,
		Args: cobra.MinimumNArgs(1),
	}
	form := formFlag(cmd)
	before := cmd.Flags().String("before", "", "the last one before this `TIME`, as 2026-01-31T12:00:00Z")
	cmd.RunE = func(cmd *cobra.Command, topics []string) error {
		for _, topic := range topics {
			if err := a.change(cmd, *form, "POST", url.Values{"topic": {topic}, "before": {*before}}); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// change has a retained message cleared or restored, and prints as JSON which one that was.
func (a *adminFlags) change(cmd *cobra.Command, form output.Form, method string, q url.Values) error {
	var m retainedMessage
	if err := a.call(cmd, admin.Request{Method: method, Path: "/message", Query: q}, &m); err != nil {
		return err
	}
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), m)
	}
	return nil
}
