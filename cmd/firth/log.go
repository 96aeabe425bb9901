package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/node"
)

func newLogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into a data directory, offline and read-only",
		Example: `  firth log check /var/lib/firth
  firth log dump /var/lib/firth --partition sensors/0 --records`,
	}
	keys := addKeyFlags(cmd)
	cmd.AddCommand(newLogCheckCommand(keys), newLogDumpCommand(keys))
	return cmd
}

// withLog opens a data directory for reading, does something with it, and closes it. SIGINT ends it.
func withLog(
	cmd *cobra.Command, dir string, keys *node.Encryption, do func(context.Context, *store.Offline) error,
) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	folder, err := vfs.OpenDisk(dir)
	if err != nil {
		return err
	}
	ring, err := keys.Keys()
	if err != nil {
		return err
	}
	o, err := store.OpenOffline(ctx, folder, ring)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return do(ctx, o)
}

func newLogCheckCommand(keys *node.Encryption) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Read every record and report what is damaged",
		Long: `Reads every file, batch and record of a data directory that no firth is using, and changes nothing.
Each finding is a line; the exit code is 6 if there are any.`,
		Example: `  firth log check ./firth-data
  firth log check /var/lib/firth -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withLog(cmd, args[0], keys, func(ctx context.Context, o *store.Offline) error {
			return logCheck(ctx, cmd, o, *form)
		})
	}
	return cmd
}

// checkReport is the JSON of firth log check.
type checkReport struct {
	OK         bool      `json:"ok"`
	Cluster    string    `json:"cluster"`
	Files      int       `json:"files"`
	Topics     int       `json:"topics"`
	Partitions int       `json:"partitions"`
	Batches    int64     `json:"batches"`
	Records    int64     `json:"records"`
	Bytes      int64     `json:"bytes"`
	Plain      int64     `json:"plain_bytes"` // of files that are not encrypted
	Findings   []finding `json:"findings"`
}

type finding struct {
	File string `json:"file"`
	What string `json:"what"`
}

func logCheck(ctx context.Context, cmd *cobra.Command, o *store.Offline, form output.Form) error {
	r := checkReport{Cluster: o.ClusterID(), Files: o.Files(), Topics: o.Topics().Len(), Findings: []finding{}}
	note := func(f store.Finding) { r.Findings = append(r.Findings, finding{f.File, f.What}) }
	done, err := o.Check(ctx, note, nil)
	if err != nil {
		return err
	}
	r.Plain = o.Plain()
	r.OK, r.Partitions = len(r.Findings) == 0, done.Partitions
	r.Batches, r.Records, r.Bytes = done.Batches, done.Records, done.Bytes
	if err := printCheck(cmd, r, form); err != nil || r.OK {
		return err
	}
	return output.WithCode(output.ExitCheck, fmt.Errorf("the log has %s", plural(len(r.Findings), "finding")))
}

func printCheck(cmd *cobra.Command, r checkReport, form output.Form) error {
	w := cmd.OutOrStdout()
	if form == output.FormJSON {
		return output.JSON(w, r)
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s\n", f.File, f.What)
	}
	verdict := "all of it is good"
	if !r.OK {
		verdict = plural(len(r.Findings), "finding")
	}
	fmt.Fprintf(&b, "log %s: %s, %s, %s, %d batches, %d records, %d bytes read: %s\n", r.Cluster,
		plural(r.Files, "file"), plural(r.Topics, "topic"), plural(r.Partitions, "partition"),
		r.Batches, r.Records, r.Bytes, verdict)
	_, err := fmt.Fprint(w, b.String())
	return err
}

func newLogDumpCommand(keys *node.Encryption) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump DIR",
		Short: "Print the batches or records of a data directory",
		Long: `Prints what lies in a data directory that no firth is using, and changes nothing: a line for each batch
or, with --records, for each record. What cannot be read is printed as a line in its place.`,
		Example: `  firth log dump ./firth-data
  firth log dump ./firth-data --partition sensors/0 --records
  firth log dump ./firth-data --partition sensors -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	d := &dumper{cmd: cmd}
	only := cmd.Flags().StringP("partition", "p", "", "only this `topic/number`, or all partitions of a topic")
	cmd.Flags().BoolVar(&d.records, "records", false, "print each record")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d.json = *form == output.FormJSON
		return withLog(cmd, args[0], keys, func(ctx context.Context, o *store.Offline) error {
			return d.dump(ctx, o, *only)
		})
	}
	return cmd
}

// dumper prints batches or records.
type dumper struct {
	cmd           *cobra.Command
	json, records bool
	scratch       record.Scratch
}

func (d *dumper) dump(ctx context.Context, o *store.Offline, only string) error {
	name, number, one := strings.Cut(only, "/")
	index, err := strconv.Atoi(number)
	if one && (err != nil || index < 0) {
		return output.Usage("partition %q is not topic/number", only)
	}
	found := false
	for _, t := range o.Topics().All() {
		for i, id := range t.Partitions {
			if only != "" && (t.Name != name || one && i != index) {
				continue
			}
			found = true
			if err := o.Each(ctx, id, func(b record.Batch, err error) error { return d.batch(t.Name, i, b, err) }); err != nil {
				return err
			}
		}
	}
	if only != "" && !found {
		return output.WithCode(output.ExitNotFound, fmt.Errorf("no partition %s in this log", only))
	}
	return nil
}

// batchLine is one batch, for people and as JSON.
type batchLine struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Base      int64  `json:"base_offset"`
	Last      int64  `json:"last_offset"`
	Count     int32  `json:"records"`
	Bytes     int    `json:"bytes"`
	Epoch     int32  `json:"leader_epoch"`
	MaxTime   string `json:"max_time"`
	Codec     string `json:"codec"`
	Producer  int64  `json:"producer_id"` // -1: none
	Sequence  int32  `json:"base_sequence"`
}

func (d *dumper) batch(topic string, index int, b record.Batch, bad error) error {
	if bad == nil && d.records {
		return d.each(topic, index, b)
	}
	if bad != nil {
		return d.damage(topic, index, bad)
	}
	l := batchLine{
		Topic: topic, Partition: index, Base: int64(b.BaseOffset()), Last: int64(b.LastOffset()), Count: b.Count(),
		Bytes: len(b), Epoch: b.LeaderEpoch(), MaxTime: timeText(b.MaxTimestamp()), Codec: b.Attributes().Codec().String(),
		Producer: b.ProducerID(), Sequence: b.BaseSequence(),
	}
	if d.json {
		return output.JSON(d.cmd.OutOrStdout(), l)
	}
	_, err := fmt.Fprintf(d.cmd.OutOrStdout(),
		"%s/%d %d-%d records=%d bytes=%d epoch=%d time=%s codec=%s producer=%d/%d\n",
		topic, index, l.Base, l.Last, l.Count, l.Bytes, l.Epoch, l.MaxTime, l.Codec, l.Producer, l.Sequence)
	return err
}

func (d *dumper) damage(topic string, index int, bad error) error {
	if d.json {
		return output.JSON(d.cmd.OutOrStdout(), struct {
			Topic     string `json:"topic"`
			Partition int    `json:"partition"`
			Error     string `json:"error"`
		}{topic, index, bad.Error()})
	}
	_, err := fmt.Fprintf(d.cmd.OutOrStdout(), "%s/%d damaged: %v\n", topic, index, bad)
	return err
}

// recordLine is one record as JSON. Bytes that are not UTF-8 are in the base64 field beside, which loses
// nothing.
type recordLine struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
	Time      string `json:"time"`
	field
	Headers []headerLine `json:"headers,omitempty"`
}

// field is a key and a value; null is nil.
type field struct {
	Key         *string `json:"key"`
	KeyBase64   []byte  `json:"key_base64,omitempty"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

type headerLine struct{ field }

func newField(key, value []byte) (f field) {
	f.Key, f.KeyBase64 = text(key)
	f.Value, f.ValueBase64 = text(value)
	return f
}

func (d *dumper) each(topic string, index int, b record.Batch) error {
	var it record.Iter
	if err := it.Reset(b, &d.scratch); err != nil {
		return d.damage(topic, index, err)
	}
	for v := (record.View{}); it.Next(&v); {
		if err := d.record(topic, index, &v); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return d.damage(topic, index, err)
	}
	return nil
}

func (d *dumper) record(topic string, index int, v *record.View) error {
	if !d.json {
		var headers strings.Builder
		for key, value := range v.Headers {
			headers.WriteString(" " + quoted(key) + "=" + quoted(value))
		}
		_, err := fmt.Fprintf(d.cmd.OutOrStdout(), "%s/%d %d %s key=%s value=%s%s\n",
			topic, index, v.Offset, timeText(v.Timestamp), quoted(v.Key), quoted(v.Value), headers.String())
		return err
	}
	l := recordLine{
		Topic: topic, Partition: index, Offset: int64(v.Offset), Time: timeText(v.Timestamp),
		field: newField(v.Key, v.Value),
	}
	for key, value := range v.Headers {
		l.Headers = append(l.Headers, headerLine{newField(key, value)})
	}
	return output.JSON(d.cmd.OutOrStdout(), l)
}

// text is bytes as a string if they are one, else as they are; nil and nil for null.
func text(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
}

func quoted(b []byte) string {
	if b == nil {
		return "null"
	}
	return strconv.Quote(string(b))
}

func timeText(unixMillis int64) string {
	return time.UnixMilli(unixMillis).UTC().Format("2006-01-02T15:04:05.000Z")
}
