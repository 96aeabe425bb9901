package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

// loginLine is a session of somebody who has logged in by HTTP, as the broker tells it.
type loginLine struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Method  string    `json:"method"`
	Address string    `json:"address,omitempty"`
	Began   time.Time `json:"began"`
	Used    time.Time `json:"used"`
	Ends    time.Time `json:"ends"`
}

func newUserSessions(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sessions [NAME]",
		Short: "List who is logged in with a browser",
		Long: `List the sessions of people who have logged in by HTTP, of all or of one user: how, from where, when they were
used last, and when they end unless they are used. The sessions of MQTT clients are others: firth session list.`,
		Example: `  firth user sessions
  firth user sessions alice -o json`,
		Args: cobra.MaximumNArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{}
		if len(args) > 0 {
			q.Set("user", args[0])
		}
		var lines []loginLine
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/logins", Query: q}, &lines); err != nil {
			return err
		}
		return printList(cmd, *form, lines, []string{"ID", "USER", "LOGGED IN BY", "FROM", "USED", "ENDS"},
			func(s *loginLine) []string {
				return []string{s.ID, s.User, s.Method, s.Address, s.Used.Format(time.RFC3339),
					s.Ends.Format(time.RFC3339)}
			})
	}
	return cmd
}

func newUserLogout(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logout NAME",
		Short: "End the sessions that a user has with browsers",
		Long: `End the sessions that a user has by HTTP, or one of them. It may log in again: firth user disable keeps it out.
Connections of MQTT and Kafka go on.`,
		Example: `  firth user logout alice
  firth user logout --id 6f3f1c7a9be02d41`,
		Args: cobra.MaximumNArgs(1),
	}
	id := cmd.Flags().String("id", "", "the `id` of the one session to end, as of firth user sessions")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 0) == (*id == "") {
			return output.Usage("it takes the name of a user, or --id")
		}
		q := url.Values{"id": {*id}}
		if *id == "" {
			q = url.Values{"user": args}
		}
		var said struct {
			Ended int `json:"ended"`
		}
		if err := a.call(cmd, admin.Request{Method: "DELETE", Path: "/logins", Query: q}, &said); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "ended: %d\n", said.Ended)
		return err
	}
	return cmd
}
