package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

func newSessionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "session",
		Short: "List, show, kick and trace the sessions of MQTT clients",
		Example: `  firth session list --state away
  firth session show meter-17
  firth session kick meter-17`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newSessionList(a), newSessionShow(a), newSessionKick(a), newSessionTrace(a), newSessionEvents(a),
		newSessionSlow(a))
	return cmd
}

// sessionLine is what the broker says of a session in a list.
type sessionLine struct {
	Client        string     `json:"client"`
	State         string     `json:"state"`
	Since         *time.Time `json:"since,omitempty"`
	Remote        string     `json:"remote,omitempty"`
	Listener      string     `json:"listener,omitempty"`
	User          string     `json:"user,omitempty"`
	Version       string     `json:"version"`
	Expiry        *uint32    `json:"expiry,omitempty"`
	Subscriptions int        `json:"subscriptions"`
	InFlight      int        `json:"in_flight"`
	Behind        int        `json:"behind"`
	Gateway       string     `json:"gateway,omitempty"` // that has it, where gateways share sessions
}

func newSessionList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List sessions by client identifier: who is connected or away, since when",
		Long: `List sessions by client identifier: who is connected or away, and since when; the address of the client,
the version of MQTT, how many subscriptions there are, how many messages are in flight, and in how many
partitions the session is behind what is new. Where gateways share sessions the list is of all of them, whichever is
asked; what one of them has that does not answer is missing, and the command says so and fails.`,
		Example: `  firth session list
  firth session list --state away --prefix meter-
  firth session list -n 10 --after meter-17 -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	var state, prefix, after string
	var limit int
	flags := cmd.Flags()
	flags.StringVar(&state, "state", "", "only those that are `connected|away`")
	flags.StringVar(&prefix, "prefix", "", "only those whose client identifier begins with `TEXT`")
	flags.StringVar(&after, "after", "", "only those behind this client `ID`: the last of the page before")
	flags.IntVarP(&limit, "limit", "n", 1000, "at most so many, up to 10000")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{"state": {state}, "prefix": {prefix}, "after": {after}, "limit": {strconv.Itoa(limit)}}
		var lines []sessionLine
		return a.callAll(cmd, admin.Request{Method: "GET", Path: "/sessions", Query: q}, &lines, func() error {
			head := []string{"CLIENT", "STATE", "SINCE", "REMOTE", "MQTT", "SUBSCRIPTIONS", "IN FLIGHT", "BEHIND"}
			shared := slices.ContainsFunc(lines, func(s sessionLine) bool { return s.Gateway != "" })
			if shared {
				head = append(head, "GATEWAY")
			}
			return printList(cmd, *form, lines, head, func(s *sessionLine) []string { return s.row()[:len(head)] })
		})
	}
	return cmd
}

func (s *sessionLine) row() []string {
	return []string{s.Client, s.State, stamp(s.Since), s.Remote, s.Version, strconv.Itoa(s.Subscriptions),
		strconv.Itoa(s.InFlight), strconv.Itoa(s.Behind), s.Gateway}
}

func stamp(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.Format(time.RFC3339)
}

type sessionDetail struct {
	sessionLine
	KeepAlive uint16             `json:"keep_alive"`
	Window    int                `json:"window"`
	Will      string             `json:"will,omitempty"`
	Filters   []subscriptionLine `json:"filters"`
	Lag       []sessionLag       `json:"lag"`
	Drops     map[string]uint64  `json:"drops,omitempty"`
}

type sessionLag struct {
	Filter    string `json:"filter,omitempty"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Next      int64  `json:"next"`
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
}

type subscriptionLine struct {
	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	ID                uint32 `json:"id,omitempty"`
	NoLocal           bool   `json:"no_local,omitempty"`
	RetainAsPublished bool   `json:"retain_as_published,omitempty"`
	RetainHandling    byte   `json:"retain_handling,omitempty"`
	From              string `json:"from,omitempty"`
	Where             bool   `json:"where,omitempty"`
}

func newSessionShow(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show CLIENT",
		Short: "Show a session: its connection, what it subscribed to, and its lag in each partition",
		Long: `Show a session: its connection, what it subscribed to, its lag in each partition in which it is behind, and
what was dropped. The lag counts the records that are to be looked at, whether they are for the session or not.`,
		Example: `  firth session show meter-17
  firth session show meter-17 -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var s sessionDetail
		q := admin.Request{Method: "GET", Path: "/session", Query: url.Values{"client": args[:1]}}
		if err := a.call(cmd, q, &s); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), s)
		}
		return s.print(cmd)
	}
	return cmd
}

func (s *sessionDetail) print(cmd *cobra.Command) error {
	expiry := "never"
	if s.Expiry != nil {
		expiry = fmt.Sprintf("%d s after the connection", *s.Expiry)
	}
	facts := [][]string{
		{"client", s.Client}, {"state", strings.TrimSpace(s.State + " " + stamp(s.Since))}, {"remote", s.Remote},
		{"listener", s.Listener}, {"user", s.User}, {"MQTT", s.Version}, {"keep alive", fmt.Sprintf("%d s", s.KeepAlive)},
		{"ends", expiry}, {"in flight", fmt.Sprintf("%d of %d", s.InFlight, s.Window)}, {"will", s.Will},
		{"gateway", s.Gateway},
	}
	rows := facts[:0]
	for _, f := range facts {
		if f[1] != "" {
			rows = append(rows, f)
		}
	}
	out := cmd.OutOrStdout()
	if err := output.Table(out, []string{"SESSION", ""}, rows); err != nil {
		return err
	}
	rows = nil
	for _, f := range s.Filters {
		rows = append(rows, []string{f.Filter, strconv.Itoa(int(f.QoS)), f.options()})
	}
	_, _ = fmt.Fprintln(out)
	if err := output.Table(out, []string{"FILTER", "QOS", "OPTIONS"}, rows); err != nil {
		return err
	}
	if rows = nil; len(s.Lag) > 0 {
		for _, l := range s.Lag {
			rows = append(rows, []string{l.Topic, strconv.Itoa(int(l.Partition)), strconv.FormatInt(l.Next, 10),
				strconv.FormatInt(l.End, 10), strconv.FormatInt(l.Lag, 10), l.Filter})
		}
		_, _ = fmt.Fprintln(out)
		if err := output.Table(out, []string{"TOPIC", "PARTITION", "NEXT", "END", "LAG", "OF"}, rows); err != nil {
			return err
		}
	}
	if rows = nil; len(s.Drops) == 0 {
		return nil
	}
	for _, why := range slices.Sorted(maps.Keys(s.Drops)) {
		rows = append(rows, []string{why, strconv.FormatUint(s.Drops[why], 10)})
	}
	_, _ = fmt.Fprintln(out)
	return output.Table(out, []string{"DROPPED", "MESSAGES"}, rows)
}

func (f *subscriptionLine) options() string {
	var all []string
	if f.ID > 0 {
		all = append(all, fmt.Sprintf("id=%d", f.ID))
	}
	if f.NoLocal {
		all = append(all, "no-local")
	}
	if f.RetainAsPublished {
		all = append(all, "retain-as-published")
	}
	if f.RetainHandling > 0 {
		all = append(all, fmt.Sprintf("retain-handling=%d", f.RetainHandling))
	}
	if f.From != "" {
		all = append(all, "from="+f.From)
	}
	if f.Where {
		all = append(all, "where")
	}
	return strings.Join(all, " ")
}

func newSessionKick(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kick CLIENT...",
		Short: "End the connection of a client, and with --forget its session",
		Long: `End the connection of a client: MQTT 5 is told reason 0x98, administrative action, and the will is published.
The session stays, and the client may come back at once. With --forget the session ends, too: its subscriptions,
what is in flight, and where it stands.`,
		Example: `  firth session kick meter-17
  firth session kick meter-17 --forget`,
		Args: cobra.MinimumNArgs(1),
	}
	form := formFlag(cmd)
	forget := cmd.Flags().Bool("forget", false, "end the session, too")
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		for _, id := range ids {
			q := url.Values{"client": {id}, "forget": {strconv.FormatBool(*forget)}}
			var done struct {
				Client    string `json:"client"`
				Connected bool   `json:"connected"`
				Forgotten bool   `json:"forgotten"`
			}
			if err := a.call(cmd, admin.Request{Method: "DELETE", Path: "/session", Query: q}, &done); err != nil {
				return err
			}
			if *form == output.FormJSON {
				if err := output.JSON(cmd.OutOrStdout(), done); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return cmd
}
