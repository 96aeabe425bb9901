package main

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Give programs tokens, by which they act as a user within a scope",
		Long: `Give programs tokens. A token acts as its owner, a user: as the password of MQTT and of Kafka's PLAIN, by
OAUTHBEARER in both doors, and as the bearer of a request to listen.http. It may do what its owner may, and with a scope
(--role, or --allow with --names and the like) only what that allows, too. It is shown once, begins with firth_, and
what is kept of it cannot be turned back into it.

Delegation tokens, which Kafka clients get for their workers (docs/access.md), are listed, described and revoked here,
too. What proves them is not shown.

A token that is revoked, whose owner is removed or disabled, or whose time is over, ends its connections at once.`,
		Example: `  firth token create billing --name "nightly report" --expires 30d
  firth token create alice --allow publish --names 'plant/7/#'
  firth token list
  firth token describe 4vKcM2xPQa0Z
  firth token revoke 4vKcM2xPQa0Z`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newTokenCreate(a), newTokenList(a), newTokenDescribe(a), newTokenRevoke(a))
	return cmd
}

// tokenLine is what the broker says of a token.
type tokenLine struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind"` // program, delegation
	Owner     string     `json:"owner"`
	Name      string     `json:"name,omitempty"`
	Issued    time.Time  `json:"issued"`
	Ends      *time.Time `json:"ends,omitempty"`
	Roles     []string   `json:"roles,omitempty"`
	Rules     []ruleLine `json:"rules,omitempty"`
	Token     string     `json:"token,omitempty"`
	Requester string     `json:"requester,omitempty"` // of a delegation token, as all that follows
	Renewers  []string   `json:"renewers,omitempty"`
	Last      *time.Time `json:"last,omitempty"`
}

// scope is what the token is limited to.
func (t *tokenLine) scope() string {
	scope := slices.Clone(t.Roles)
	for _, r := range t.Rules {
		scope = append(scope, strings.TrimPrefix(r.Text, "allow "+r.Rule.Principal+" "))
	}
	return strings.Join(scope, "; ")
}

// ends is when it ends.
func (t *tokenLine) ends() string { return cmp.Or(stamp(t.Ends), "never") }

// tokenWish is what the broker is told of a token that it is to make.
type tokenWish struct {
	Owner   string      `json:"owner"`
	Name    string      `json:"name,omitempty"`
	Expires string      `json:"expires"`
	Roles   []string    `json:"roles,omitempty"`
	Rules   []rule.Rule `json:"rules,omitempty"`
}

func newTokenCreate(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create OWNER",
		Short: "Make a token of a user, and print it: nobody can later",
		Example: `  firth token create billing --name "nightly report" --role consumer --expires 30d
  firth token create alice --allow publish,subscribe --names 'plant/7/#'`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	wish := &tokenWish{}
	on := addResourceFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&wish.Name, "name", "", "what it is for, as `text` for people")
	flags.StringVar(&wish.Expires, "expires", "90d", "for how `long` it is good, such as 12h or 90d; never: for ever")
	flags.StringSliceVar(&wish.Roles, "role", nil, "a `role` that it is limited to, again for each")
	allow := flags.String("allow", "", "the `operations` that it is limited to, on --names, --topic and the like")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wish.Owner = args[0]
		if (*allow == "") != (len(on.list()) == 0) {
			return output.Usage("--allow says which operations, --names and the like on what: one needs the other")
		}
		for _, resource := range on.list() {
			operations, err := parseOperations(*allow)
			if err != nil {
				return err
			}
			r := rule.Rule{Effect: rule.Allow, Principal: rule.UserPrefix + wish.Owner, Operations: operations,
				Resource: resource}
			if err := r.Check(); err != nil {
				return output.WithCode(output.ExitUsage, err)
			}
			wish.Rules = append(wish.Rules, r)
		}
		var line tokenLine
		if err := a.call(cmd, admin.Request{Method: "POST", Path: "/token", In: wish}, &line); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), line)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), line.Token)
		return err
	}
	return cmd
}

func newTokenList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the tokens of programs and Kafka's delegation tokens, and what they are limited to",
		Example: `  firth token list -o json`,
		Args:    cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lines []tokenLine
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/tokens"}, &lines); err != nil {
			return err
		}
		return printList(cmd, *form, lines, []string{"ID", "KIND", "OWNER", "ENDS", "LIMITED TO", "NAME"},
			func(t *tokenLine) []string { return []string{t.ID, t.Kind, t.Owner, t.ends(), t.scope(), t.Name} })
	}
	return cmd
}

func newTokenDescribe(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe ID",
		Short: "Show a token: whose it is, until when it is good, and who may renew it",
		Example: `  firth token describe 4vKcM2xPQa0Z
  firth token describe 4vKcM2xPQa0Z -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var found []tokenLine
		r := admin.Request{Method: "GET", Path: "/tokens", Query: url.Values{"id": {args[0]}}}
		if err := a.call(cmd, r, &found); err != nil {
			return err
		}
		for i := range found {
			if err := printToken(cmd, *form, &found[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func printToken(cmd *cobra.Command, form output.Form, t *tokenLine) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), t)
	}
	rows := [][]string{{"id", t.ID}, {"kind", t.Kind}, {"owner", t.Owner}, {"name", t.Name},
		{"issued", t.Issued.Format(time.RFC3339)}, {"ends", t.ends()}, {"limited to", t.scope()},
		{"asked for by", t.Requester}, {"renewed by", strings.Join(t.Renewers, ", ")},
		{"renewable until", stamp(t.Last)}}
	rows = slices.DeleteFunc(rows, func(row []string) bool { return row[1] == "" })
	return output.Table(cmd.OutOrStdout(), []string{"FIELD", "VALUE"}, rows)
}

func newTokenRevoke(a *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "End a token of a program, or a delegation token, and its connections",
		Example: `  firth token revoke 4vKcM2xPQa0Z`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd, admin.Request{Method: "DELETE", Path: "/token", Query: url.Values{"id": {args[0]}}}, nil)
		},
	}
}
