package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/backup"
	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/node"
)

const backupHelp = `Makes backups of a broker that runs, and restores them. A backup has all that was acknowledged
before its point: messages, sessions, retained messages, groups, users and rules. PLACE is a folder, or
s3://bucket/prefix of an S3-compatible store; each further backup into the same place costs what is new. Encrypted files
stay encrypted: keep the keys elsewhere. docs/backup.md tells what is not in a backup, and how clients find a restored
broker.`

func newBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up a running broker, and restore it",
		Long:  backupHelp,
		Example: `  firth backup create /mnt/backup
  firth backup create s3://backups/node1 --s3-region eu-central-1
  firth backup list /mnt/backup
  firth backup verify /mnt/backup
  firth backup restore /mnt/backup --to /var/lib/firth`,
	}
	cmd.AddCommand(newBackupCreate(), newBackupList(), newBackupVerify(), newBackupRestore(), newBackupRemove())
	return cmd
}

// interrupted is the context of a command that SIGINT ends.
func interrupted(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
}

// backupMeter shows how far something is, on a terminal.
type backupMeter struct {
	w     io.Writer // nil: there is none
	last  time.Time
	shown bool
}

func newBackupMeter(cmd *cobra.Command) *backupMeter {
	m := &backupMeter{}
	if raw, terminal := unscreened(cmd.ErrOrStderr()); terminal {
		m.w = raw
	}
	return m
}

func (m *backupMeter) show(p backup.Progress) {
	const apart = 200 * time.Millisecond
	if m.w == nil || p.BytesDone < p.Bytes && time.Since(m.last) < apart {
		return
	}
	m.last, m.shown = time.Now(), true
	fmt.Fprintf(m.w, "\r%d of %d files, %d of %d MB ", p.FilesDone, p.Files, p.BytesDone/1e6, p.Bytes/1e6)
}

func (m *backupMeter) end() {
	if m.shown {
		fmt.Fprintln(m.w)
	}
}

// backupLine is a backup as JSON.
type backupLine struct {
	ID      string    `json:"id"`
	Point   time.Time `json:"point"`
	Cluster string    `json:"cluster,omitempty"`
	Version string    `json:"version,omitempty"`
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	Error   string    `json:"error,omitempty"`
}

func lineOf(m *backup.Manifest) backupLine {
	return backupLine{ID: m.ID, Point: m.Point, Cluster: m.Cluster, Version: m.Version, Files: len(m.Files),
		Bytes: m.Bytes()}
}

func newBackupCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create PLACE",
		Short: "Make a backup of a running broker",
		Long: `Asks a broker on this machine for an image of its log and stores what is not in the place yet. The broker goes
on serving. What was acknowledged before the command was given is in the backup. A create that is killed leaves older
backups as they were, and the next one goes on with what it stored. Credentials of a store are never given here: the
environment has them (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or a file (--s3-credentials).`,
		Example: `  firth backup create /mnt/backup
  firth backup create s3://backups/node1 --s3-region eu-central-1 --keep 14
  firth backup create s3://backups/node1 --s3-endpoint minio.example.org:9000 --s3-credentials /etc/firth/s3
  firth backup create /mnt/backup --keep 14 --http 127.0.0.1:8080 --data /var/lib/firth`,
		Args: cobra.ExactArgs(1),
	}
	a := addAdminFlags(cmd)
	form, at := formFlag(cmd), addPlaceFlags(cmd)
	keep := cmd.Flags().Int("keep", 0, "keep the newest `N` backups and remove older ones (0: keep all)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *keep < 0 {
			return output.Usage("--keep %d is less than 0", *keep)
		}
		place, err := at.open(args[0], true)
		if err != nil {
			return err
		}
		return backupCreate(cmd, a, place, *keep, *form)
	}
	return cmd
}

func backupCreate(
	cmd *cobra.Command, a *adminFlags, place backup.Place, keep int, form output.Form,
) (err error) {
	ctx, stop := interrupted(cmd)
	defer stop()
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	begun, err := backup.New(place).Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, begun.Close()) }()
	in := map[string][]backup.Sum{"known": begun.Known()}
	body, err := client.Open(ctx, admin.Request{Method: "POST", Path: "/backup", In: in})
	if err != nil {
		return err
	}
	defer body.Close()
	meter := newBackupMeter(cmd)
	m, done, err := begun.Store(ctx, body, keep, meter.show)
	meter.end()
	if err != nil {
		return err
	}
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), struct {
			backupLine
			Known   int   `json:"known_files"`
			Stored  int64 `json:"stored_bytes"`
			Removed int   `json:"removed_pieces"`
		}{lineOf(m), done.Known, done.Bytes, done.Removed})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d bytes; %s and %d bytes are new\n", m.ID,
		plural(len(m.Files), "file"), m.Bytes(), plural(done.Files-done.Known, "file"), done.Bytes)
	return err
}

func newBackupList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list PLACE",
		Short: "List backups, the newest last",
		Example: `  firth backup list /mnt/backup
  firth backup list s3://backups/node1 -o json`,
		Args: cobra.ExactArgs(1),
	}
	form, at := formFlag(cmd), addPlaceFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		place, err := at.open(args[0], false)
		if err != nil {
			return err
		}
		ctx, stop := interrupted(cmd)
		defer stop()
		all, bad, err := backup.New(place).List(ctx)
		if err != nil {
			return err
		}
		lines := []backupLine{}
		for _, m := range all {
			lines = append(lines, lineOf(m))
		}
		for _, b := range bad {
			lines = append(lines, backupLine{ID: b.Name, Error: b.Err.Error()})
		}
		return printBackups(cmd, lines, *form)
	}
	return cmd
}

func printBackups(cmd *cobra.Command, lines []backupLine, form output.Form) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), lines)
	}
	var rows [][]string
	for i := range lines {
		l := &lines[i]
		point := stamp(&l.Point)
		if l.Error != "" {
			point = l.Error
		}
		rows = append(rows, []string{l.ID, point, strconv.Itoa(l.Files), strconv.FormatInt(l.Bytes, 10), l.Version})
	}
	return output.Table(cmd.OutOrStdout(), []string{"ID", "POINT", "FILES", "BYTES", "VERSION"}, rows)
}

// chosen are the flags that say which backup is meant.
type chosen struct{ id, at string }

func (c *chosen) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.id, "id", "", "the backup of this `id` (firth backup list)")
	cmd.Flags().StringVar(&c.at, "at", "", "the newest backup of a point not behind this `time`, as 2026-01-31T12:00:00Z")
}

// of finds the backup that is meant; the newest one if nothing is said.
func (c *chosen) of(ctx context.Context, r *backup.Repository) (*backup.Manifest, error) {
	all, bad, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	at := time.Unix(1<<40, 0)
	if c.at != "" {
		if at, err = time.Parse(time.RFC3339, c.at); err != nil || c.id != "" {
			return nil, output.Usage("--at %q is no time as 2026-01-31T12:00:00Z, or --id is there too", c.at)
		}
	}
	if c.id == "" && len(all) > 0 {
		return backup.At(all, at)
	}
	for _, m := range all {
		if m.ID == c.id {
			return m, nil
		}
	}
	if len(bad) > 0 {
		return nil, bad[0].Err
	}
	return nil, output.WithCode(output.ExitNotFound,
		fault.New(fault.NotFound, "backup", "there is no backup %s", fault.Text(c.id)))
}

// verifyReport is what firth backup verify prints as JSON.
type verifyReport struct {
	backupLine
	OK       bool      `json:"ok"`
	Pieces   int       `json:"pieces"`
	Records  int64     `json:"records"`
	Sealed   bool      `json:"not_opened"` // it is encrypted, and no key was given
	Findings []finding `json:"findings"`
}

func newBackupVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify PLACE",
		Short: "Read a backup, and report what is damaged",
		Long: `Reads all of a backup and holds each piece to its hash, then reads every record in it as firth log check does.
Each finding is a line; the exit code is 6 if there are any. Of an encrypted log only the hashes are looked at, unless
its keys are given.`,
		Example: `  firth backup verify /mnt/backup
  firth backup verify /mnt/backup --id 20261130T165500.123Z --key-file /etc/firth/keys`,
		Args: cobra.ExactArgs(1),
	}
	keys, form, at := addKeyFlags(cmd), formFlag(cmd), addPlaceFlags(cmd)
	var which chosen
	which.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		place, err := at.open(args[0], false)
		if err != nil {
			return err
		}
		return backupVerify(cmd, backup.New(place), &which, keys, *form)
	}
	return cmd
}

func backupVerify(
	cmd *cobra.Command, r *backup.Repository, which *chosen, keys *node.Encryption, form output.Form,
) error {
	ctx, stop := interrupted(cmd)
	defer stop()
	ring, err := keys.Keys()
	if err != nil {
		return err
	}
	m, err := which.of(ctx, r)
	if err != nil {
		return err
	}
	meter := newBackupMeter(cmd)
	v, err := r.Verify(ctx, m, ring, meter.show)
	meter.end()
	if err != nil {
		return err
	}
	report := verifyReport{backupLine: lineOf(m), OK: len(v.Findings) == 0, Pieces: v.Pieces, Records: v.Checked.Records,
		Sealed: v.Sealed, Findings: []finding{}}
	for _, f := range v.Findings {
		report.Findings = append(report.Findings, finding{f.File, f.What})
	}
	if err := printVerified(cmd, &report, form); err != nil || report.OK {
		return err
	}
	return output.WithCode(output.ExitCheck, fmt.Errorf("the backup has %s", plural(len(report.Findings), "finding")))
}

func printVerified(cmd *cobra.Command, r *verifyReport, form output.Form) error {
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), r)
	}
	for _, f := range r.Findings {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", f.File, f.What); err != nil {
			return err
		}
	}
	verdict := "all of it is good"
	switch {
	case !r.OK:
		verdict = plural(len(r.Findings), "finding")
	case r.Sealed:
		verdict = "the hashes are good; records were not read, they are encrypted (--key-file)"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s, %d bytes, %d records read: %s\n", r.ID,
		plural(r.Files, "file"), plural(r.Pieces, "piece"), r.Bytes, r.Records, verdict)
	return err
}

func newBackupRestore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore PLACE --to DATA",
		Short: "Make a data directory of a backup",
		Long: `Puts the newest backup, or the one of --id or --at, into an empty folder, for firth serve --data to go on with.
Each piece is held to its hash. The restored log goes on behind all that clients of the other broker may have seen:
offsets and producer ids jump ahead, and the leader epoch rises, by which consumers notice that records are gone. Do
not start the other broker again beside it.`,
		Example: `  firth backup restore /mnt/backup --to /var/lib/firth
  firth backup restore /mnt/backup --to ./restored --at 2026-01-31T12:00:00Z --key-file /etc/firth/keys`,
		Args: cobra.ExactArgs(1),
	}
	keys, re, at := addKeyFlags(cmd), &restoring{form: formFlag(cmd)}, addPlaceFlags(cmd)
	re.which.add(cmd)
	cmd.Flags().StringVar(&re.to, "to", "", "the `folder` to restore into: empty, or not there yet")
	gap := cmd.Flags().Int64("gap", store.RestoreGap,
		"how many offsets of each partition to pass over: more than the other broker gave behind the point, `N`")
	_ = cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *gap < 1 || *gap > 1<<50 {
			return output.Usage("--gap %d is not from 1 to %d", *gap, int64(1)<<50)
		}
		place, err := at.open(args[0], false)
		if err != nil {
			return err
		}
		ring, err := keys.Keys()
		if err != nil {
			return err
		}
		re.of = store.Restoring{Keys: ring, Now: time.Now(), Gap: *gap}
		return re.run(cmd, backup.New(place))
	}
	return cmd
}

// restoring are the flags of firth backup restore.
type restoring struct {
	which chosen
	to    string
	of    store.Restoring
	form  *output.Form
}

func (re *restoring) run(cmd *cobra.Command, r *backup.Repository) error {
	ctx, stop := interrupted(cmd)
	defer stop()
	m, err := re.which.of(ctx, r)
	if err != nil {
		return err
	}
	into, err := vfs.NewDisk(re.to)
	if err != nil {
		return err
	}
	meter := newBackupMeter(cmd)
	done, err := r.Restore(ctx, m, into, re.of, meter.show)
	meter.end()
	if err != nil {
		return err
	}
	for _, f := range done.Findings {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", f.File, f.What)
	}
	if *re.form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), struct {
			backupLine
			To         string `json:"to"`
			Partitions int    `json:"partitions"`
			Epoch      int32  `json:"epoch"`
		}{lineOf(m), into.Root(), done.Partitions, done.Epoch})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is restored: all that was acknowledged before %s\nfirth serve --data %s\n",
		m.ID, m.Point.Format(time.RFC3339Nano), into.Root())
	return err
}

func newBackupRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove PLACE ID",
		Short: "Remove a backup, and what no other one needs",
		Example: `  firth backup remove /mnt/backup 20261130T165500.123Z
  firth backup remove s3://backups/node1 20261130T165500.123Z`,
		Args: cobra.ExactArgs(2),
	}
	at := addPlaceFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		place, err := at.open(args[0], false)
		if err != nil {
			return err
		}
		ctx, stop := interrupted(cmd)
		defer stop()
		pieces, err := backup.New(place).Remove(ctx, args[1])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is removed, with %s\n", args[1], plural(pieces, "piece"))
		return err
	}
	return cmd
}
