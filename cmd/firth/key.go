package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/node"
)

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, change and look at the keys that what is stored is encrypted with",
		Example: `  firth key generate --to /etc/firth/keys
  firth key rotate
  firth key status`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newKeyGenerate(), newKeyRotate(a), newKeyStatus(a))
	return cmd
}

// addKeyFlags adds the flags that name the keys of a data directory.
func addKeyFlags(cmd *cobra.Command) *node.Encryption {
	e := &node.Encryption{}
	flags := cmd.PersistentFlags()
	flags.StringVar(&e.KeyFile, "key-file", "", "encryption.key_file of the broker: the `file` with the keys")
	flags.StringVar(&e.KeyEnv, "key-env", "", "the `variable` of the environment with the keys, instead")
	return e
}

func newKeyGenerate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make a key",
		Long: `Makes a key of 256 bits and prints it, or puts it at the head of a file of keys: the first key encrypts what
is new, those behind it open what is there. Keep a copy of the file elsewhere: without its key nobody reads the data
again.`,
		Example: `  firth key generate --to /etc/firth/keys
  export BROKER_KEYS=$(firth key generate)`,
		Args: cobra.NoArgs,
	}
	to := cmd.Flags().String("to", "", "the `file` to put it into, which is made if it is not there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		key, err := atrest.Generate()
		if err != nil {
			return err
		}
		if *to == "" {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		}
		made, err := atrest.ParseKeys([]byte(key))
		if err != nil {
			return err
		}
		if err := putKey(*to, key); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "key %s is the first one in %s\n", made[0].ID(), *to)
		return err
	}
	return cmd
}

// putKey puts a key at the head of a file, whole or not at all.
func putKey(name, key string) error {
	folder, err := vfs.OpenDisk(filepath.Dir(name))
	if err != nil {
		return err
	}
	base := filepath.Base(name)
	old, err := readSmall(folder, base)
	if err != nil {
		return err
	}
	if _, err := atrest.ParseKeys(old); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f, err := folder.Create(base + ".tmp")
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(slices.Concat([]byte(key+"\n"), old), 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = folder.Rename(base+".tmp", base)
	}
	if err != nil {
		return errors.Join(err, folder.Remove(base+".tmp"))
	}
	return folder.SyncDir(".")
}

// readSmall reads a file; one that is not there is empty.
func readSmall(folder vfs.FS, name string) ([]byte, error) {
	const most = 64 << 10
	f, err := folder.Open(name)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, most))
}

// keyStatus is what the broker says of its keys.
type keyStatus struct {
	On      bool           `json:"on"`
	Keys    []string       `json:"keys"`
	Files   int            `json:"files"`
	Bytes   int64          `json:"bytes"`
	Plain   int64          `json:"plain_bytes"`
	Wrapped map[string]int `json:"wrapped"`
}

func newKeyRotate(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Have the first key take the place of the others",
		Long: `Has a running broker read its keys again and wrap the data key of every file by the first of them. Records
are not written again, and clients notice nothing. When it is done, no file needs the other keys: firth key status
tells.`,
		Example: `  firth key generate --to /etc/firth/keys && firth key rotate`,
		Args:    cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := a.client(cmd)
		if err != nil {
			return err
		}
		var st keyStatus
		done := make(chan error, 1)
		go func() { done <- client.Call(cmd.Context(), admin.Request{Method: "POST", Path: "/rotate"}, &st) }()
		if err := watchRotation(cmd, client, done); err != nil {
			return err
		}
		return printKeys(cmd, &st, *form)
	}
	return cmd
}

// watchRotation says how far the broker is, every second, until it is done.
func watchRotation(cmd *cobra.Command, client admin.Client, done <-chan error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			var st keyStatus
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
			if client.Call(ctx, admin.Request{Method: "GET", Path: "/keys"}, &st) == nil && len(st.Keys) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d files\n", st.Wrapped[st.Keys[0]], st.Files)
			}
			cancel()
		}
	}
}

func newKeyStatus(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell which keys are in use, and how much is not encrypted",
		Example: `  firth key status
  firth key status -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var st keyStatus
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/keys"}, &st); err != nil {
			return err
		}
		return printKeys(cmd, &st, *form)
	}
	return cmd
}

func printKeys(cmd *cobra.Command, st *keyStatus, form output.Form) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), st)
	}
	var b bytes.Buffer
	state := "new files are not encrypted"
	if st.On {
		state = "new files are encrypted"
	}
	fmt.Fprintf(&b, "%s; %d of %d bytes in %s are not\n\n", state, st.Plain, st.Bytes, plural(st.Files, "file"))
	var rows [][]string
	for i, id := range st.Keys {
		use := "opens what is there"
		if i == 0 {
			use = "wraps what is new"
		}
		rows = append(rows, []string{id, use, strconv.Itoa(st.Wrapped[id])})
	}
	if err := output.Table(&b, []string{"KEY", "USE", "FILES"}, rows); err != nil {
		return err
	}
	_, err := b.WriteTo(cmd.OutOrStdout())
	return err
}
