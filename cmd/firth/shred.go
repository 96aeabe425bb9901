package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

// shredStatus is what the broker says of a request.
type shredStatus struct {
	ID      string           `json:"id"`
	Subject string           `json:"subject"`
	Asked   *time.Time       `json:"asked"`
	Ended   *time.Time       `json:"ended,omitempty"`
	Records map[string]int64 `json:"records"`
	Files   int              `json:"files"`
	Ahead   int              `json:"ahead,omitempty"`
	Waits   string           `json:"waits,omitempty"`
	Error   string           `json:"error,omitempty"`
	Hint    string           `json:"hint,omitempty"`
	Lost    int64            `json:"lost,omitempty"`
}

// shredSubject is how the broker is asked: not by what is written down in logs.
type shredSubject struct {
	Subject []byte `json:"subject"`
}

func newShredCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shred",
		Short: "Make all records about somebody unreadable, for ever",
		Long: `Makes all records about a subject unreadable that are there now, in every topic that says by firth.subject
whom its records are about: key, or header:NAME. It needs encryption at rest. The files that hold some are written anew
without them, under new keys, and the old ones are removed with their keys; the command ends when none is left.
Consumers find a record with the same offset and time, an empty value and a header firth-shredded; its other headers are
gone, and its key stays, unless that is the subject. Retained messages about the subject are cleared, delayed ones are
not published. The broker goes on by itself when the command is ended or the broker is started again.

Backups that were made before hold the records as ever: give them up. The audit has what was done, without the
subject.`,
		Example: `  firth topic alter orders --set firth.subject=header:customer
  firth shred --subject customer-4711
  printf '%s' "$customer" | firth shred --subject -
  firth shred status`,
		Args: cobra.NoArgs,
	}
	a := addAdminFlags(cmd)
	form := formFlag(cmd)
	subject := cmd.Flags().String("subject", "",
		"`who`; - reads it from standard input, so that no list of processes shows it")
	detach := cmd.Flags().Bool("detach", false, "do not wait until it is done")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in, err := readSubject(cmd, *subject)
		if err != nil {
			return err
		}
		var st shredStatus
		if err := a.call(cmd, admin.Request{Method: "POST", Path: "/shred", In: in}, &st); err != nil {
			return err
		}
		if !*detach {
			if err := a.awaitShred(cmd, &st); err != nil {
				return err
			}
		}
		return printShreds(cmd, []shredStatus{st}, *form)
	}
	cmd.AddCommand(newShredStatus(a), newShredAccept(a))
	return cmd
}

func readSubject(cmd *cobra.Command, subject string) (in shredSubject, err error) {
	switch subject {
	case "":
		return in, output.Usage("--subject is needed")
	case "-":
		if subject, err = readSecret(cmd, "-"); err != nil {
			return in, err
		}
	}
	return shredSubject{Subject: []byte(subject)}, nil
}

// awaitShred waits until nothing is left, and says how far it is. Errors: what the last try of the broker failed with.
func (a *adminFlags) awaitShred(cmd *cobra.Command, st *shredStatus) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for st.Ended == nil && st.Error == "" {
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return context.Cause(cmd.Context())
		}
		var all []shredStatus
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/shreds"}, &all); err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(one shredStatus) bool { return one.ID == st.ID })
		if i < 0 {
			return fault.New(fault.NotFound, "shred", "the broker does not know the request %s any more", st.ID)
		}
		if *st = all[i]; st.Ended == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s written anew, %d to look through %s\n", plural(st.Files, "file"), st.Ahead,
				st.Waits)
		}
	}
	if st.Error != "" {
		return fault.New(fault.Internal, "shred", "%s; the broker tries again", st.Error).WithHint("%s", st.Hint)
	}
	return nil
}

func newShredStatus(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how far requests are",
		Long: `Tells what was asked for and how far it is. A subject is kept nowhere: with --subject, the requests are told
that were about it. Requests that cannot be read, since the disk is damaged, are told in a line without an id until
firth shred accept; whom they were about nobody knows.`,
		Example: `  firth shred status
  firth shred status --subject customer-4711 -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	subject := cmd.Flags().String("subject", "", "only requests about `who`; - reads it from standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q := admin.Request{Method: "GET", Path: "/shreds"}
		if *subject != "" {
			in, err := readSubject(cmd, *subject)
			if err != nil {
				return err
			}
			q = admin.Request{Method: "POST", Path: "/shreds", In: in}
		}
		var all []shredStatus
		if err := a.call(cmd, q, &all); err != nil {
			return err
		}
		return printShreds(cmd, all, *form)
	}
	return cmd
}

func newShredAccept(a *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "accept",
		Short: "Say that requests which cannot be read were asked for again: they are not told any more",
		Example: `  firth shred status
  firth shred accept`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.call(cmd, admin.Request{Method: "POST", Path: "/shreds/accept"}, nil)
		},
	}
}

func printShreds(cmd *cobra.Command, all []shredStatus, form output.Form) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), all)
	}
	var rows [][]string
	for i := range all {
		st := &all[i]
		state := "done " + stamp(st.Ended)
		if st.Ended == nil {
			state = "under way"
		}
		switch {
		case st.Lost > 0:
			state = st.Error
			cmd.PrintErrln(st.Error + "\n  " + st.Hint)
		case st.Error != "":
			state = "failed, is tried again: " + st.Error
		}
		var records int64
		for n := range maps.Values(st.Records) {
			records += n
		}
		rows = append(rows, []string{st.ID, stamp(st.Asked), state, strconv.FormatInt(records, 10),
			strconv.Itoa(len(st.Records)), strconv.Itoa(st.Files)})
	}
	return output.Table(cmd.OutOrStdout(), []string{"ID", "ASKED", "STATE", "RECORDS", "TOPICS", "FILES"}, rows)
}
