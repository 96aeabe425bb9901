package main

import (
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

func newNodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Look at the gateways before a Kafka cluster, and take one out of service",
		Long: `Look at the gateways before a Kafka cluster, and take one out of service. Ask the gateway that serves, on its
machine: those that stand by answer no commands.`,
		Example: `  firth node list
  firth node drain
  firth node drain k2j5`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newNodeList(a), newNodeDrain(a))
	return cmd
}

// gatewayLine is what a gateway tells of itself.
type gatewayLine struct {
	Name    string     `json:"name"`
	Address string     `json:"address,omitempty"`
	State   string     `json:"state"`
	Since   *time.Time `json:"since,omitempty"`
	Version string     `json:"version,omitempty"`
	Shards  int        `json:"shards"`
	Spool   int64      `json:"spool_bytes"`
	Problem string     `json:"problem,omitempty"`
}

func newNodeList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the gateways of the cluster: which one serves, and which stand by",
		Long: `Lists the gateways of the cluster by name. STATE: serves; stands by; drains, it hands over what it has and
ends; silent, it has a place among the gateways and does not answer. SINCE: when it began to serve, or when it started.
SHARDS: how many shards of the sessions it has. SPOOL: how many bytes wait on its disk for Kafka.`,
		Example: `  firth node list
  firth node list -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lines []gatewayLine
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/nodes"}, &lines); err != nil {
			return err
		}
		head := []string{"NAME", "ADDRESS", "STATE", "SINCE", "VERSION", "SHARDS", "SPOOL", "PROBLEM"}
		return printList(cmd, *form, lines, head, func(g *gatewayLine) []string {
			return []string{g.Name, g.Address, g.State, stamp(g.Since), g.Version, strconv.Itoa(g.Shards),
				strconv.FormatInt(g.Spool, 10), g.Problem}
		})
	}
	return cmd
}

func newNodeDrain(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain [NAME]",
		Short: "Have a gateway hand over to the others, and end",
		Long: `Has a gateway hand over what it has to the others, and end with exit code 0, as SIGTERM does: its devices are
told to go (0x8B, Server shutting down), and another gateway serves at once. NAME is its name in firth node list, or
how that begins; without one it is the gateway that is asked. It is refused where no other gateway stands by.`,
		Example: `  firth node drain
  firth node drain k2j5
  firth node drain --force`,
		Args: cobra.MaximumNArgs(1),
	}
	form := formFlag(cmd)
	force := cmd.Flags().Bool("force", false, "also where no other gateway stands by: devices are served by nobody then")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := url.Values{"force": {strconv.FormatBool(*force)}}
		if len(args) > 0 {
			q["name"] = args
		}
		var line gatewayLine
		if err := a.call(cmd, admin.Request{Method: "POST", Path: "/node/drain", Query: q}, &line); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), &line)
		}
		return nil
	}
	return cmd
}
