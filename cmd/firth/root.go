package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/node"
)

const rootHelp = `Firth is one broker with two doors: devices speak MQTT, back ends speak Kafka, and both read and
write ONE log on this machine's disk. Without a command it serves, with everything at its default.

Exit codes: 0 done, 1 failure, 2 wrong usage, 3 no connection, 4 not allowed, 5 not found,
6 a check failed (configuration or log).`

const rootExample = `  # start with everything at its default, data in ./firth-data
  firth

  # in a second terminal: a device publishes, and the same record is read as a Kafka client
  firth pub -t sensors/room1/temp -m 21.5
  firth consume sensors -o start -n 1

  # start with another folder and another port
  firth serve --data /var/lib/firth --set listen.mqtt=1884`

// newRoot builds the tree of commands. One line for each file of this folder.
func newRoot() *cobra.Command {
	root := newServeCommand()
	root.Use, root.Short, root.Long, root.Example = "firth", "MQTT and Kafka, one log", rootHelp, rootExample
	root.Version = node.BuildVersion().Version
	root.Args = nil // cobra's rule for a root: an argument that is no command is an error with suggestions
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetUsageTemplate(usageTemplate)
	root.AddCommand(
		newBackupCommand(),
		newBenchCommand(),
		newBridgeCommand(),
		newConfigCommand(),
		newConsumeCommand(),
		newDemoCommand(), newDiagnoseCommand(), newDocsCommand(),
		newExposeCommand(),
		newGroupCommand(),
		newHealthCommand(),
		newImportCommand(),
		newKeyCommand(), newShredCommand(),
		newLogCommand(),
		newMigrateCommand(),
		newNodeCommand(),
		newProduceCommand(),
		newPubCommand(),
		newRequestCommand(),
		newRetainedCommand(),
		newServeCommand(),
		newSessionCommand(),
		newBanCommand(), newAuditCommand(), newUserCommand(), newTokenCommand(), newRoleCommand(), newACLCommand(),
		newCertCommand(),
		newSubCommand(),
		newTopicCommand(),
		newVersionCommand(),
	)
	return root
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, std stdio) int {
	root := newRoot()
	std.out, std.err = screened(std.out), screened(std.err)
	defer flushScreens(std.out, std.err)
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	started := false
	noteStart(root, &started)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !started {
		err = usage(cmd, err)
	}
	return output.Report(std.err, err, formOf(cmd))
}

// noteStart makes every command set started once cobra has accepted its flags and arguments.
func noteStart(cmd *cobra.Command, started *bool) {
	if do := cmd.RunE; do != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return do(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		noteStart(sub, started)
	}
}

// usage turns a refusal of cobra's (unknown command or flag, wrong number of arguments) into an error
// with the exit code for wrong usage, and cobra's suggestions into the hint.
func usage(cmd *cobra.Command, err error) error {
	text, names, suggested := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	bad := fault.New(fault.Invalid, "command line", "%s", text)
	if suggested {
		bad = bad.WithHint("did you mean: %s?", strings.Join(strings.Fields(names), ", "))
	} else {
		bad = bad.WithHint("%s --help shows what it takes", cmd.CommandPath())
	}
	return output.WithCode(output.ExitUsage, bad)
}

// formOf is the form in which a command was asked to print: its errors follow.
func formOf(cmd *cobra.Command) output.Form {
	if flag := cmd.Flags().Lookup("output"); flag != nil && flag.Value.String() == string(output.FormJSON) {
		return output.FormJSON
	}
	return output.FormTable
}

// formFlag gives a command -o table|json.
func formFlag(cmd *cobra.Command) *output.Form {
	form := output.FormTable
	cmd.Flags().VarP(&form, "output", "o", "print as `table|json`")
	return &form
}

// describeEach prints what describe says of each name, in JSON or by show, which is told whether to begin with a blank
// line.
func describeEach[T any](cmd *cobra.Command, form output.Form, names []string, describe func(name string) (T, error),
	show func(cmd *cobra.Command, d T, blank bool) error,
) error {
	for i, name := range names {
		d, err := describe(name)
		switch {
		case err != nil:
		case form == output.FormJSON:
			err = output.JSON(cmd.OutOrStdout(), d)
		default:
			err = show(cmd, d, i > 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printList prints lines as a table with a row for each, or as they are in JSON.
func printList[T any](cmd *cobra.Command, form output.Form, lines []T, head []string, row func(*T) []string) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), lines)
	}
	var rows [][]string
	for i := range lines {
		rows = append(rows, row(&lines[i]))
	}
	return output.Table(cmd.OutOrStdout(), head, rows)
}
