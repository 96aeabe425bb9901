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

// slowLine is what the broker says of a slow client.
type slowLine struct {
	Client   string            `json:"client"`
	Remote   string            `json:"remote"`
	LagMs    int64             `json:"lag_ms"`
	Waiting  int               `json:"waiting"`
	InFlight int               `json:"in_flight"`
	Window   int               `json:"window"`
	Behind   int               `json:"behind"`
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
}

func newSessionSlow(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "slow",
		Short: "List clients that take less than comes for them",
		Long: `List clients that take less than comes for them, those that have been so for the longest first: how many bytes
wait to be written, how many messages are not acknowledged of how many that may be, in how many partitions
messages wait in the log, and how many of QoS 0 were dropped. A client that keeps up again is not in it.`,
		Example: `  firth session slow
  firth session slow --over 10s -n 5`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	over := cmd.Flags().Duration("over", 500*time.Millisecond, "only those that have been slow for so long")
	limit := cmd.Flags().IntP("limit", "n", 10, "at most so many, up to 10000")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := url.Values{"over": {over.String()}, "limit": {strconv.Itoa(*limit)}}
		var lines []slowLine
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/slow", Query: q}, &lines); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), lines)
		}
		var rows [][]string
		for i := range lines {
			s := &lines[i]
			lag := time.Duration(s.LagMs) * time.Millisecond
			rows = append(rows, []string{s.Client, s.Remote, lag.String(), strconv.Itoa(s.Waiting),
				fmt.Sprintf("%d of %d", s.InFlight, s.Window), strconv.Itoa(s.Behind),
				strconv.FormatUint(s.Dropped["outbox_full"], 10)})
		}
		return output.Table(cmd.OutOrStdout(),
			[]string{"CLIENT", "REMOTE", "SLOW FOR", "WAITING", "IN FLIGHT", "BEHIND", "DROPPED"}, rows)
	}
	return cmd
}
