package main

import (
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/apps/mosquitto"
	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

// newImportMosquittoAccessCommand takes over who may log in and do what.
func newImportMosquittoAccessCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mosquitto-access [FILE]",
		Short: "Take over the users and the access rules of a Mosquitto",
		Long: `Take over the users of a password_file and the rules of an acl_file, those that a mosquitto.conf names, or the
files that are given. Users keep their passwords. Without --apply it prints what it would do; with it a running broker
gets all of it at once, or nothing. Every line that Mosquitto would not take is named, and then nothing is taken over.

An empty acl_file lets nobody do anything, and without one users may publish and subscribe to everything, as there.
Where Mosquitto lets a line of a user win over a pattern that denies, less is allowed here, which is said.`,
		Example: `  firth import mosquitto-access /etc/mosquitto/mosquitto.conf
  firth import mosquitto-access --passwords passwd --acl acl --apply`,
		Args: cobra.MaximumNArgs(1),
	}
	a := addAdminFlags(cmd)
	var given mosquitto.Files
	cmd.Flags().StringVar(&given.Passwords, "passwords", "", "the password_file, instead of the one that is named in FILE")
	cmd.Flags().StringVar(&given.ACL, "acl", "", "the acl_file, instead of the one that is named in FILE")
	apply := cmd.Flags().Bool("apply", false, "give users and rules to the running broker")
	replace := cmd.Flags().Bool("replace", false, "give users who are there already the passwords of the file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, err := accessFiles(args, given)
		if err != nil {
			return err
		}
		users, rights, err := readAccess(files)
		if err != nil {
			return err
		}
		for _, note := range rights.Notes {
			fmt.Fprintln(cmd.ErrOrStderr(), note)
		}
		if !*apply {
			printAccess(cmd.OutOrStdout(), users, rights)
			return nil
		}
		verifiers := map[string]string{}
		for i := range users {
			verifiers[users[i].Name] = users[i].Password.Text()
		}
		return a.call(cmd, admin.Request{
			Method: "POST", Path: "/import", Query: url.Values{"replace": {fmt.Sprint(*replace)}},
			In: struct {
				Users map[string]string `json:"users"`
				Rules []rule.Rule       `json:"rules"`
			}{verifiers, rights.Rules},
		}, nil)
	}
	return cmd
}

// accessFiles are the files that a mosquitto.conf names, or those that are given.
func accessFiles(args []string, given mosquitto.Files) (mosquitto.Files, error) {
	var files mosquitto.Files
	if len(args) > 0 {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return files, fault.New(fault.NotFound, "import", "%w", err)
		}
		all, err := mosquitto.Parse(args[0], text, includeDir)
		if err != nil {
			return files, err
		}
		if given.Passwords == "" || given.ACL == "" {
			if files, err = mosquitto.FilesOf(all); err != nil {
				return files, err
			}
		}
	}
	if given.Passwords != "" {
		files.Passwords = given.Passwords
	}
	if given.ACL != "" {
		files.ACL = given.ACL
	}
	if files == (mosquitto.Files{}) {
		return files, output.Usage("no password_file and no acl_file: name a mosquitto.conf, or use --passwords and --acl")
	}
	return files, nil
}

// readAccess reads users and rules. Errors: Invalid names every line that is none.
func readAccess(files mosquitto.Files) (users []mosquitto.Account, rights mosquitto.Rights, err error) {
	rights = mosquitto.NoACL()
	if files.Passwords != "" {
		text, err := os.ReadFile(files.Passwords)
		if err != nil {
			return nil, rights, fault.New(fault.NotFound, "import", "%w", err)
		}
		if users, err = mosquitto.ParsePasswords(files.Passwords, text); err != nil {
			return nil, rights, err
		}
	}
	if files.ACL != "" {
		text, err := os.ReadFile(files.ACL)
		if err != nil {
			return nil, rights, fault.New(fault.NotFound, "import", "%w", err)
		}
		all, err := mosquitto.ParseACL(files.ACL, text)
		if err != nil {
			return nil, rights, err
		}
		rights = mosquitto.RightsOf(all)
	}
	return users, rights, nil
}

// printAccess shows what would be taken over, and no verifier.
func printAccess(w io.Writer, users []mosquitto.Account, rights mosquitto.Rights) {
	for i := range users {
		fmt.Fprintf(w, "user %s, with a password of %s\n", users[i].Name, users[i].Place)
	}
	for i := range rights.Rules {
		fmt.Fprintln(w, rights.Rules[i].String())
	}
}
