package main

import (
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

func newBanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ban",
		Short: "Keep MQTT clients out: by client identifier, user name or address",
		Example: `  firth ban add client meter-17 --for 12h --reason "floods"
  firth ban add address 192.0.2.0/24
  firth ban list
  firth ban remove address 192.0.2.0/24`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newBanAdd(a), newBanList(a), newBanRemove(a))
	return cmd
}

// banLine is what the broker says of a ban.
type banLine struct {
	Kind   string     `json:"kind"`
	Who    string     `json:"who"`
	Since  *time.Time `json:"since"`
	Until  *time.Time `json:"until,omitempty"`
	By     string     `json:"by,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

func newBanAdd(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add client|user|address WHO",
		Short: "Ban a client identifier, a user name, an address or a prefix of addresses",
		Long: `Ban a client identifier, a user name, an address or a prefix of addresses: for a time, until one, or else for
ever. A ban survives a restart. It takes the place of one for the same.

CONNECT is refused with reason 0x8A, Banned, in MQTT 3 with return code 5. Connections that are there end with
0x98, administrative action; their wills are published and their sessions stay.`,
		Example: `  firth ban add client meter-17 --for 12h --reason "floods"
  firth ban add user guest --until 2030-01-31T12:00:00Z
  firth ban add address 2001:db8::/32`,
		Args: cobra.ExactArgs(2),
	}
	form := formFlag(cmd)
	var length, until, reason string
	flags := cmd.Flags()
	flags.StringVar(&length, "for", "", "how `long`: 90s, 12h, 7d")
	flags.StringVar(&until, "until", "", "until `when`: 2030-01-31T12:00:00Z")
	flags.StringVar(&reason, "reason", "", "`why`: the client is told with MQTT 5")
	cmd.MarkFlagsMutuallyExclusive("for", "until")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{"kind": {args[0]}, "who": {args[1]}, "for": {length}, "until": {until}, "reason": {reason},
			"by": {"firth ban"}}
		return a.changeBan(cmd, *form, admin.Request{Method: "POST", Path: "/ban", Query: q})
	}
	return cmd
}

func newBanRemove(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove client|user|address WHO",
		Aliases: []string{"rm"},
		Short:   "Remove a ban",
		Example: `  firth ban remove client meter-17
  firth ban remove address 192.0.2.0/24`,
		Args: cobra.ExactArgs(2),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{"kind": {args[0]}, "who": {args[1]}}
		return a.changeBan(cmd, *form, admin.Request{Method: "DELETE", Path: "/ban", Query: q})
	}
	return cmd
}

// changeBan asks for a change, and prints the ban that it was about where JSON is wanted.
func (a *adminFlags) changeBan(cmd *cobra.Command, form output.Form, q admin.Request) error {
	var line banLine
	if err := a.call(cmd, q, &line); err != nil {
		return err
	}
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), line)
	}
	return nil
}

func newBanList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the bans that are in force",
		Example: `  firth ban list
  firth ban list -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lines []banLine
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/bans"}, &lines); err != nil {
			return err
		}
		return printList(cmd, *form, lines, []string{"KIND", "WHO", "SINCE", "UNTIL", "BY", "REASON"},
			func(b *banLine) []string {
				until := "for ever"
				if b.Until != nil {
					until = stamp(b.Until)
				}
				return []string{b.Kind, b.Who, stamp(b.Since), until, b.By, b.Reason}
			})
	}
	return cmd
}
