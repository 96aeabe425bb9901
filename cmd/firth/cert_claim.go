package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

// claimLine is what the broker says of a claim.
type claimLine struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	Uses  int       `json:"uses"`
	Until time.Time `json:"until"`
	Roles []string  `json:"roles"`
	Token string    `json:"token,omitempty"`
}

// claimWish is what the broker is told of a claim.
type claimWish struct {
	Name  string   `json:"name"`
	Uses  int      `json:"uses"`
	For   string   `json:"for"`
	Roles []string `json:"roles,omitempty"`
}

func newCertClaim(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "claim NAME",
		Short: "Make a token with which a device enrols: it gets a certificate for a key of its own",
		Long: `Make a token with which a device gets a certificate for a key that it has made (docs/security.md). It is
printed once; the broker keeps its hash. With * at the end of NAME the token is for any name that begins so and has
neither a certificate nor a user yet.`,
		Example: `  firth cert claim pump-7
  firth cert claim 'pump-*' --uses 500 --for 30d --role device`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	wish := claimWish{}
	cmd.Flags().IntVar(&wish.Uses, "uses", 1, "how `many` certificates it is good for")
	cmd.Flags().StringVar(&wish.For, "for", "24h", "for how `long` it is good: 90m, 24h, 30d")
	cmd.Flags().StringSliceVar(&wish.Roles, "role", nil,
		"a `role` of the user that is made with the certificate, again for each (default device)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wish.Name = args[0]
		var line claimLine
		if err := a.callAnyway(cmd, admin.Request{Method: "POST", Path: "/claim", In: wish}, &line); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), line)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "claim of %s: %s\n", line.Name, line.Token)
		return err
	}
	return cmd
}

func newCertClaims(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "claims",
		Short:   "List the claims, without their tokens",
		Example: `  firth cert claims`,
		Args:    cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lines []claimLine
		if err := a.callAnyway(cmd, admin.Request{Method: "GET", Path: "/claims"}, &lines); err != nil {
			return err
		}
		return printList(cmd, *form, lines, []string{"CLAIM", "NAME", "USES LEFT", "UNTIL", "ROLES"},
			func(c *claimLine) []string {
				return []string{c.ID, c.Name, strconv.Itoa(c.Uses), c.Until.Format(time.RFC3339),
					strings.Join(c.Roles, ",")}
			})
	}
	return cmd
}

func newCertUnclaim(a *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "unclaim CLAIM",
		Short:   "End a claim; certificates that were issued by it stay good",
		Example: `  firth cert unclaim 9f2b61c40d7e`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := admin.Request{Method: "DELETE", Path: "/claim", Query: url.Values{"id": {args[0]}}}
			return a.callAnyway(cmd, q, nil)
		},
	}
}
