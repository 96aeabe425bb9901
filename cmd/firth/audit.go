package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "See who did what: logins, refusals, changes; and whether the record of it is whole",
		Example: `  firth audit tail -f
  firth audit query --since 24h --type refused
  firth audit verify`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newAuditTail(a), newAuditQuery(a), newAuditVerify(a), newAuditKey(a))
	return cmd
}

// auditFilter are the flags that say which records are wanted.
type auditFilter struct{ since, until, principal, kind, resource, outcome, address string }

func (f *auditFilter) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "from `when` on: 24h, 7d, or 2026-01-31T12:00:00Z")
	flags.StringVar(&f.until, "until", "", "before `when`")
	flags.StringVar(&f.principal, "principal", "", "of this `user`: alice or User:alice")
	flags.StringVar(&f.kind, "type", "", "of this `type`: login, handshake, refused, change, takeover, produce, fetch")
	flags.StringVar(&f.resource, "resource", "", "about what this `pattern` matches: a name, or topic:plant-*")
	flags.StringVar(&f.outcome, "outcome", "", "that ended so: `success`, failure, denied or begun")
	flags.StringVar(&f.address, "address", "", "from this `address`")
}

// values is what the broker is asked. Errors: Usage.
func (f *auditFilter) values(now time.Time) (url.Values, error) {
	q := url.Values{}
	for name, text := range map[string]string{"since": f.since, "until": f.until} {
		at, err := auditTime(text, now)
		if err != nil {
			return nil, output.Usage("--%s %s is neither a time ago (24h, 7d) nor a time (2026-01-31T12:00:00Z)", name, text)
		}
		if text != "" {
			q.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	for name, text := range map[string]string{"principal": f.principal, "type": f.kind, "resource": f.resource,
		"outcome": f.outcome, "address": f.address} {
		if text != "" {
			q.Set(name, text)
		}
	}
	return q, nil
}

// auditTime reads a time, or how long ago one is.
func auditTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, is := strings.CutSuffix(text, "d"); is {
		if n, err := strconv.Atoi(days); err == nil {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	return time.Parse(time.RFC3339, text)
}

func newAuditTail(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the last records, and with -f those that come",
		Example: `  firth audit tail -n 20
  firth audit tail -f --type refused -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	var f auditFilter
	f.add(cmd)
	count := cmd.Flags().IntP("count", "n", 10, "of the last `N` records, those that are wanted")
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with those that come, until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := f.values(time.Now())
		if err != nil {
			return err
		}
		if *count < 1 {
			return output.Usage("-n %d: at least 1", *count)
		}
		q.Set("last", strconv.Itoa(*count))
		q.Set("follow", strconv.FormatBool(*follow))
		return a.showAudit(cmd, q, *form)
	}
	return cmd
}

func newAuditQuery(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Show records by time, user, type, resource and outcome",
		Example: `  firth audit query --since 24h --type refused --principal meter-17
  firth audit query --type change --resource 'topic:*' -o json
  firth audit query -o json >audit.ndjson    # all of it, to verify elsewhere`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	var f auditFilter
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := f.values(time.Now())
		if err != nil {
			return err
		}
		return a.showAudit(cmd, q, *form)
	}
	return cmd
}

// longestLine bounds a record, in bytes.
const longestLine = 16 << 20

// eachLine calls visit with every line of a stream; an interrupt ends it.
func eachLine(in io.Reader, visit func(line []byte) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		if err := visit(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// showAudit prints the records that the broker finds.
func (a *adminFlags) showAudit(cmd *cobra.Command, q url.Values, form output.Form) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	body, err := client.Open(ctx, admin.Request{Method: "GET", Path: "/audit", Query: q})
	if err != nil {
		return err
	}
	defer body.Close()
	out := cmd.OutOrStdout()
	err = eachLine(body, func(line []byte) error {
		if form == output.FormJSON {
			_, err := fmt.Fprintf(out, "%s\n", line)
			return err
		}
		r, err := chain.Parse(line)
		if err != nil {
			_, err = fmt.Fprintf(out, "? %s\n", fault.Text(line))
			return err
		}
		_, err = fmt.Fprintln(out, auditLine(r))
		return err
	})
	if err != nil && ctx.Err() == nil {
		return fault.Wrap(fault.IO, "audit", err)
	}
	return nil
}

// auditLine is a record for people.
func auditLine(r *chain.Record) string {
	e := &r.Data
	words := []string{r.Time.Format("2006-01-02T15:04:05.000Z07:00"), strings.TrimPrefix(r.Type, "firth."),
		string(e.Outcome), cmp.Or(e.Actor.Principal, "-")}
	add := func(name, text string) {
		if text != "" {
			words = append(words, name+fault.Text(text))
		}
	}
	add("", e.Action)
	add("", r.Subject)
	add("by ", e.Actor.Method)
	add("from ", e.Origin.Address)
	add("client ", e.Origin.Client)
	add("rule ", e.Rule)
	if e.Count > 1 {
		add("", fmt.Sprintf("%d times", e.Count))
	}
	add("because ", e.Reason)
	return strings.Join(words, " ")
}

// auditKey is what the broker says of its key.
type auditKey struct {
	Key    []byte          `json:"key"`
	ID     string          `json:"id"`
	Head   json.RawMessage `json:"head,omitempty"`
	Source string          `json:"source"`
}

func newAuditKey(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Show the public key that the audit is signed with, to keep elsewhere",
		Example: `  firth audit key >audit.pem
  firth audit key -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var key auditKey
		if err := a.call(cmd, admin.Request{Method: "GET", Path: "/audit/key"}, &key); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), key)
		}
		der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(key.Key))
		if err != nil {
			return fault.Wrap(fault.Internal, "audit", err)
		}
		return pem.Encode(cmd.OutOrStdout(), &pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return cmd
}

func newAuditVerify(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Tell whether a record of the audit was removed, altered or moved",
		Long: `Tell whether a record of the audit was removed, altered or moved, by the hashes of the records and the
signatures of the checkpoints. The first one that is wrong is named, and the exit code is 6.

Of a running broker that is everything since its oldest record, and its end is held against the checkpoint that the
broker has noted. Of a FILE (- for standard input) it is what firth audit query -o json has printed; --key is the public
key of then, as firth audit key shows it.`,
		Example: `  firth audit verify
  firth audit verify audit.ndjson --key audit.pem`,
		Args: cobra.MaximumNArgs(1),
	}
	form := formFlag(cmd)
	keyFile := cmd.Flags().String("key", "", "the `file` with the public key, instead of the one of the broker")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := a.verifier(cmd, *keyFile, len(args) == 0)
		if err != nil {
			return err
		}
		in, err := a.auditSource(cmd, args)
		if err != nil {
			return err
		}
		defer in.Close()
		if err := eachLine(in, func(line []byte) error { return takeLine(v, line) }); err != nil {
			return fault.Wrap(fault.IO, "audit", err)
		}
		return reportAudit(cmd.OutOrStdout(), v.End(), *form)
	}
	return cmd
}

// takeLine gives the verifier a line of the broker.
func takeLine(v *chain.Verifier, line []byte) error {
	var lost struct{ Lost string }
	if bytes.HasPrefix(line, []byte(`{"lost"`)) && json.Unmarshal(line, &lost) == nil {
		v.Lost(lost.Lost)
		return nil
	}
	v.Next(bytes.Clone(line))
	return nil
}

// verifier is one with the key of a file or of the broker; with head the end is known that the chain must have.
func (a *adminFlags) verifier(cmd *cobra.Command, file string, head bool) (*chain.Verifier, error) {
	v := &chain.Verifier{}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fault.New(fault.Invalid, "audit", "%w", err)
		}
		if v.Key, err = parseAuditKey(text); err != nil {
			return nil, err
		}
	}
	if file != "" && !head {
		return v, nil
	}
	var said auditKey
	if err := a.call(cmd, admin.Request{Method: "GET", Path: "/audit/key"}, &said); err != nil {
		return nil, err
	}
	if file == "" {
		v.Key = said.Key
	}
	if head && said.Head != nil {
		r, err := chain.Parse(said.Head)
		if err != nil {
			return nil, err
		}
		v.Head = r
	}
	return v, nil
}

// parseAuditKey reads a public key: PEM, or base64 of the 32 bytes. Errors: Invalid.
func parseAuditKey(text []byte) (ed25519.PublicKey, error) {
	if block, _ := pem.Decode(text); block != nil {
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if key, is := key.(ed25519.PublicKey); err == nil && is {
			return key, nil
		}
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err == nil && len(key) == ed25519.PublicKeySize {
		return key, nil
	}
	return nil, fault.New(fault.Invalid, "audit", "--key holds no public key of Ed25519").
		WithHint("firth audit key prints it")
}

// auditSource is the file to verify, or all that the broker has.
func (a *adminFlags) auditSource(cmd *cobra.Command, args []string) (io.ReadCloser, error) {
	switch {
	case len(args) == 1 && args[0] == "-":
		return io.NopCloser(cmd.InOrStdin()), nil
	case len(args) == 1:
		f, err := os.Open(args[0])
		if errors.Is(err, os.ErrNotExist) {
			return nil, fault.New(fault.NotFound, "audit", "%w", err)
		}
		return f, err
	}
	client, err := a.client(cmd)
	if err != nil {
		return nil, err
	}
	return client.Open(cmd.Context(), admin.Request{Method: "GET", Path: "/audit"})
}

// reportAudit says what was found. Errors: of exit code ExitCheck, if something was.
func reportAudit(out io.Writer, report chain.Report, form output.Form) error {
	if form == output.FormJSON {
		if err := output.JSON(out, report); err != nil {
			return err
		}
	}
	if report.Fault != nil {
		return output.WithCode(output.ExitCheck, fault.New(fault.Corrupt, "audit", "%w", report.Fault))
	}
	if form == output.FormJSON {
		return nil
	}
	_, err := fmt.Fprintf(out, "ok: %d records, %d to %d, signed up to %d\nlast: %x\n", report.Records, report.First,
		report.Last.Sequence, report.Signed, report.Last.Hash[:])
	return err
}
