package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

func newBridgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bridge",
		Short: "Look at bridges to other MQTT servers, try them, pause them",
		Long: `Look at bridges to other MQTT servers, try them, pause them. They are made in the configuration: bridges, in
firth.yaml.`,
		Example: `  firth bridge list
  firth bridge test plant
  firth bridge pause plant`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newBridgeList(a), newBridgeStatus(a), newBridgeTest(a), newBridgePause(a), newBridgeResume(a))
	return cmd
}

// bridgeStatus is what the broker says of a bridge.
type bridgeStatus struct {
	Name     string            `json:"name"`
	State    string            `json:"state"`
	Since    time.Time         `json:"since"`
	Address  string            `json:"address,omitempty"`
	Version  string            `json:"version"`
	Topics   []string          `json:"topics"`
	In       uint64            `json:"in"`
	Out      uint64            `json:"out"`
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
	Backlog  int64             `json:"backlog"`
	Missed   uint64            `json:"missed"`
	Problem  string            `json:"problem,omitempty"`
	Refused  []string          `json:"refused,omitempty"`
	Attempts int               `json:"attempts,omitempty"`
}

func newBridgeList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the bridges, and whether they are connected",
		Example: `  firth bridge list
  firth bridge list -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lines []bridgeStatus
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/bridges"}, &lines); err != nil {
			return err
		}
		head := []string{"NAME", "STATE", "SINCE", "ADDRESS", "IN", "OUT", "BACKLOG", "PROBLEM"}
		return printList(cmd, *form, lines, head,
			func(b *bridgeStatus) []string {
				return []string{b.Name, b.State, stamp(&b.Since), b.Address, strconv.FormatUint(b.In, 10),
					strconv.FormatUint(b.Out, 10), strconv.FormatInt(b.Backlog, 10), b.Problem}
			})
	}
	return cmd
}

func newBridgeStatus(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Tell how a bridge stands, and what it did not pass on",
		Example: `  firth bridge status plant
  firth bridge status plant -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var lines []bridgeStatus
		q := admin.Request{Method: "GET", Path: "/bridges", Query: url.Values{"name": args}}
		if err := a.call(cmd, q, &lines); err != nil {
			return err
		}
		for i := range lines {
			if err := printBridge(cmd, &lines[i], *form); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func printBridge(cmd *cobra.Command, b *bridgeStatus, form output.Form) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), b)
	}
	rows := [][]string{
		{"state", b.State}, {"since", stamp(&b.Since)}, {"address", b.Address}, {"protocol", "MQTT " + b.Version},
		{"in", plural(int(b.In), "message")}, {"out", plural(int(b.Out), "message")},
		{"backlog", plural(int(b.Backlog), "record")},
	}
	for _, t := range b.Topics {
		rows = append(rows, []string{"topic", t})
	}
	if b.Missed > 0 {
		rows = append(rows, []string{"missed", plural(int(b.Missed), "record") + " that retention took"})
	}
	var reasons []string
	for why, n := range b.Dropped {
		reasons = append(reasons, fmt.Sprintf("%s: %d", why, n))
	}
	slices.Sort(reasons)
	if len(reasons) > 0 {
		rows = append(rows, []string{"dropped", strings.Join(reasons, ", ")})
	}
	for _, r := range b.Refused {
		rows = append(rows, []string{"refused", r})
	}
	if b.Problem != "" {
		rows = append(rows, []string{"problem", b.Problem})
	}
	return output.Table(cmd.OutOrStdout(), []string{"BRIDGE", b.Name}, rows)
}

func newBridgeTest(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test NAME",
		Short: "Connect as a bridge would, at every address, and tell what is refused",
		Long: `Connects to every address of a bridge, and to this broker, as the bridge would, but with another client
identifier and a session that ends, and asks for the subscriptions. The bridge itself is not disturbed. Exit code 6:
something is refused.`,
		Example: `  firth bridge test plant`,
		Args:    cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var lines []bridgeTested
		q := admin.Request{Method: "POST", Path: "/bridge/test", Query: url.Values{"name": args}}
		if err := a.call(cmd, q, &lines); err != nil {
			return err
		}
		rows, bad := rowsOfTest(lines)
		var err error
		if *form == output.FormJSON {
			err = output.JSON(cmd.OutOrStdout(), lines)
		} else {
			err = output.Table(cmd.OutOrStdout(), []string{"ADDRESS", "TOOK", "RESULT"}, rows)
		}
		if err == nil && bad > 0 {
			err = output.WithCode(output.ExitCheck, fmt.Errorf("%d of %d ends refuse something", bad, len(lines)))
		}
		return err
	}
	return cmd
}

// bridgeTested is what the broker found at an end of a bridge.
type bridgeTested struct {
	Address string   `json:"address"`
	TookMs  float64  `json:"took_ms"`
	Version string   `json:"version"`
	QoS     byte     `json:"maximum_qos"`
	Retain  bool     `json:"retain"`
	Refused []string `json:"refused,omitempty"`
	Problem string   `json:"problem,omitempty"`
}

// rowsOfTest are the rows of a table; bad counts the ends that refuse something.
func rowsOfTest(lines []bridgeTested) (rows [][]string, bad int) {
	for _, t := range lines {
		what := "MQTT " + t.Version + ", QoS " + strconv.Itoa(int(t.QoS))
		switch {
		case t.Problem != "":
			what = t.Problem
		case len(t.Refused) > 0:
			what = "not granted: " + strings.Join(t.Refused, ", ")
		case !t.Retain:
			what += ", retains nothing"
		}
		if t.Problem != "" || len(t.Refused) > 0 {
			bad++
		}
		rows = append(rows, []string{t.Address, fmt.Sprintf("%.1f ms", t.TookMs), what})
	}
	return rows, bad
}

func newBridgePause(a *adminFlags) *cobra.Command {
	return changeBridge(a, &cobra.Command{
		Use:   "pause NAME",
		Short: "Disconnect a bridge, until it is resumed or the broker starts again",
		Long: `Disconnects a bridge, until firth bridge resume or the next start of the broker. Both sessions stay: what is
published meanwhile waits on its side, in the log here, and in the queue of the other server there.`,
		Example: `  firth bridge pause plant`,
		Args:    cobra.ExactArgs(1),
	}, "/bridge/pause")
}

func newBridgeResume(a *adminFlags) *cobra.Command {
	return changeBridge(a, &cobra.Command{
		Use:     "resume NAME",
		Short:   "Have a bridge connect, now, that is paused, waits or has ended",
		Example: `  firth bridge resume plant`,
		Args:    cobra.ExactArgs(1),
	}, "/bridge/resume")
}

// changeBridge completes a command that changes a bridge, and prints how it stands where JSON is wanted.
func changeBridge(a *adminFlags, cmd *cobra.Command, path string) *cobra.Command {
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var b bridgeStatus
		q := admin.Request{Method: "POST", Path: path, Query: url.Values{"name": args}}
		if err := a.call(cmd, q, &b); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), &b)
		}
		return nil
	}
	return cmd
}
