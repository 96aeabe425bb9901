package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

func newUserCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Say who may log in, with MQTT and Kafka",
		Long: `Say who may log in. A user has a name and a password, the same for MQTT (CONNECT, or SCRAM), Kafka (SASL PLAIN,
SCRAM-SHA-256, SCRAM-SHA-512) and HTTP. What it may do is said by its roles and by rules (firth acl).

From the first user on nobody is served who does not say who they are (access.anonymous), and nothing is allowed that no
rule allows. A change is in force at once: who is removed, disabled or given another password is disconnected.`,
		Example: `  firth user add alice --role admin
  firth user add meter-17 --role device --client-id '${username}'
  firth user list`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newUserAdd(a), newUserSet(a), newUserPassword(a), newUserSwitch(a, "enable", false),
		newUserSwitch(a, "disable", true), newUserRemove(a), newUserList(a), newUserSessions(a),
		newUserLogout(a))
	return cmd
}

// userLine is what the broker says of a user.
type userLine struct {
	Name     string   `json:"name"`
	Roles    []string `json:"roles"`
	Groups   []string `json:"groups,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
	Proofs   []string `json:"proofs"`
	Password string   `json:"password,omitempty"` // that was made for it; never by the broker
}

// userChange is what the broker is told of a user.
type userChange struct {
	Name      string    `json:"name"`
	Password  *string   `json:"password,omitempty"`
	Generated bool      `json:"generated,omitempty"` // the password was made of chance
	Roles     *[]string `json:"roles,omitempty"`
	Groups    *[]string `json:"groups,omitempty"`
	ClientID  *string   `json:"client_id,omitempty"`
	Disabled  *bool     `json:"disabled,omitempty"`
}

// about has a command take what users have besides a password.
func (u *userChange) about(cmd *cobra.Command) (given func()) {
	var roles, groups []string
	var client string
	cmd.Flags().StringSliceVar(&roles, "role", nil,
		"a `role` of the user, again for each: one of firth role list, or one that rules are about")
	cmd.Flags().StringSliceVar(&groups, "group", nil, "a `group` of the user, again for each: rules name it as Group:NAME")
	cmd.Flags().StringVar(&client, "client-id", "",
		"the MQTT client `identifier` that the user may have: with * at the end any that begins so; ${username} is its name")
	return func() {
		if cmd.Flags().Changed("role") {
			u.Roles = &roles
		}
		if cmd.Flags().Changed("group") {
			u.Groups = &groups
		}
		if cmd.Flags().Changed("client-id") {
			u.ClientID = &client
		}
	}
}

const newPasswordFlag = "new-password-file"

func addNewPasswordFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String(newPasswordFlag, "",
		"the `file` whose first line is the password, or - for standard input; without it one is made and printed")
}

// newPassword reads the password of a user, or makes one, which is printed then.
func newPassword(cmd *cobra.Command, file string) (password string, made bool, err error) {
	if file != "" {
		password, err = readSecret(cmd, file)
		if err == nil && password == "" {
			err = output.Usage("the password is empty")
		}
		return password, false, err
	}
	var chance [18]byte
	_, _ = rand.Read(chance[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(chance[:]), true, nil
}

func newUserAdd(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a user, and print its password unless one is given",
		Example: `  firth user add alice --role admin
  firth user add billing --role consumer --new-password-file billing.secret
  firth user add meter-17 --role device --client-id '${username}'`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	change := &userChange{}
	given := change.about(cmd)
	file := addNewPasswordFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given()
		change.Name = args[0]
		return a.setUser(cmd, *form, change, *file, url.Values{"new": {"true"}})
	}
	return cmd
}

func newUserPassword(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "password NAME",
		Short: "Give a user another password, and print it unless one is given",
		Long:  "Give a user another password. The connections of the user end.",
		Example: `  firth user password alice
  firth user password alice --new-password-file alice.secret`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	file := addNewPasswordFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.setUser(cmd, *form, &userChange{Name: args[0]}, *file, nil)
	}
	return cmd
}

// setUser gives a user a password and what else is said of it.
func (a *adminFlags) setUser(cmd *cobra.Command, form output.Form, c *userChange, file string, q url.Values) error {
	password, made, err := newPassword(cmd, file)
	if err != nil {
		return err
	}
	c.Password, c.Generated = &password, made
	var line userLine
	if err := a.callAnyway(cmd, admin.Request{Method: "POST", Path: "/user", Query: q, In: c}, &line); err != nil {
		return err
	}
	if made {
		line.Password = password
	}
	switch {
	case form == output.FormJSON:
		return output.JSON(cmd.OutOrStdout(), line)
	case made:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "password of %s: %s\n", c.Name, password)
	}
	return err
}

func newUserSet(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "set NAME",
		Short:   "Change the roles, the groups or the client identifier of a user",
		Example: `  firth user set alice --role operator --role consumer`,
		Args:    cobra.ExactArgs(1),
	}
	change := &userChange{}
	given := change.about(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given()
		change.Name = args[0]
		return a.callAnyway(cmd, admin.Request{Method: "POST", Path: "/user", In: change}, nil)
	}
	return cmd
}

func newUserSwitch(a *adminFlags, verb string, off bool) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " NAME",
		Short:   map[bool]string{true: "Keep a user out, and disconnect it", false: "Let a user log in again"}[off],
		Example: "  firth user " + verb + " alice",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change := userChange{Name: args[0], Disabled: &off}
			return a.callAnyway(cmd, admin.Request{Method: "POST", Path: "/user", In: change}, nil)
		},
	}
}

func newUserRemove(a *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Aliases: []string{"rm"},
		Short:   "Remove a user, and disconnect it; rules about it stay",
		Example: `  firth user remove alice`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.callAnyway(cmd, admin.Request{Method: "DELETE", Path: "/user", Query: url.Values{"name": {args[0]}}}, nil)
		},
	}
}

func newUserList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the users",
		Example: `  firth user list -o json`,
		Args:    cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lines []userLine
		if err := a.callAnyway(cmd, admin.Request{Method: "GET", Path: "/users"}, &lines); err != nil {
			return err
		}
		head := []string{"USER", "STATE", "ROLES", "GROUPS", "CLIENT ID", "LOGS IN BY"}
		return printList(cmd, *form, lines, head, func(u *userLine) []string {
			state := "enabled"
			if u.Disabled {
				state = "disabled"
			}
			return []string{u.Name, state, strings.Join(u.Roles, ","), strings.Join(u.Groups, ","), u.ClientID,
				strings.Join(u.Proofs, ",")}
		})
	}
	return cmd
}
