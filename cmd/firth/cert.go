package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

func newCertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Issue certificates to servers, devices and back ends",
		Long: `Issue certificates. The broker has a small certificate authority, whose key is in the data folder
(ca/ca.key). Who shows a certificate of it is the user of its name, in MQTT and Kafka, without a password. Keys
are made where they are used and never sent. What is revoked is refused at once, and its connections end.

Where no broker uses the data folder (--data), the commands open it themselves.`,
		Example: `  firth cert ca > ca.pem
  firth cert issue pump-7
  firth cert revoke pump-7 --reason stolen`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newCertCA(a), newCertIssue(a), newCertRenew(a), newCertRevoke(a), newCertList(a), newCertClaim(a),
		newCertClaims(a), newCertUnclaim(a))
	return cmd
}

// authorityLine is what the broker says of its authority.
type authorityLine struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
	PEM   string    `json:"pem"`
}

// certificateLine is what the broker says of a certificate.
type certificateLine struct {
	Serial  string     `json:"serial"`
	Name    string     `json:"name"`
	Server  bool       `json:"server,omitempty"`
	Names   []string   `json:"names,omitempty"`
	Issued  time.Time  `json:"issued"`
	Until   time.Time  `json:"until"`
	By      string     `json:"by,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	State   string     `json:"state"`
	PEM     string     `json:"pem,omitempty"`
}

// certificateWish is what the broker is told of a certificate.
type certificateWish struct {
	CSR    string   `json:"csr"`
	Name   string   `json:"name"`
	Server bool     `json:"server,omitempty"`
	Names  []string `json:"names,omitempty"`
	Days   int      `json:"days,omitempty"`
	Roles  []string `json:"roles,omitempty"`
	Renew  bool     `json:"renew,omitempty"`
}

func newCertCA(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Print the certificate of the authority, which is made if it is not there",
		Example: `  firth cert ca > ca.pem
  firth cert ca --name "Example devices" -o json`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	name := cmd.Flags().String("name", "Firth", "what the authority is `called`, if it is made now")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var line authorityLine
		q := admin.Request{Method: "POST", Path: "/authority", Query: url.Values{"name": {*name}}}
		if err := a.callAnyway(cmd, q, &line); err != nil {
			return err
		}
		if *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), line)
		}
		_, err := fmt.Fprint(cmd.OutOrStdout(), line.PEM)
		return err
	}
	return cmd
}

func newCertIssue(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "issue NAME",
		Short: "Make a key and a certificate for a device, a back end or a server",
		Long: `Make a key and its certificate: NAME.key and NAME.pem, with the certificate of the authority (ca.pem) beside
them. With --csr it is for a key that is elsewhere, and the certificate goes to standard output.

Who shows it is the user NAME. Where there are users or rules, and no user NAME, one is made with the role device
and the client identifier NAME.`,
		Example: `  firth cert issue pump-7
  firth cert issue billing --role consumer --days 365 --out /etc/billing
  firth cert issue broker2 --server broker2.example.org --server 192.0.2.2`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	wish := certificateWish{}
	flags := cmd.Flags()
	flags.StringSliceVar(&wish.Names, "server", nil,
		"it is for a server: a `name` or address that clients connect to, again for each")
	flags.IntVar(&wish.Days, "days", 0, "how many `days` it is good: 90, of a server 397")
	flags.StringSliceVar(&wish.Roles, "role", nil,
		"a `role` of the user, if it is made now, again for each (default device)")
	out := flags.String("out", ".", "the `folder` for the files")
	csr := flags.String("csr", "", "the `file` with a certificate request (PKCS #10) for a key that is elsewhere")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wish.Name, wish.Server = args[0], len(wish.Names) > 0
		return a.issue(cmd, *form, &wish, *out, *csr)
	}
	return cmd
}

// issue has a certificate made for the key of a request in a file, or for one that is made now.
func (a *adminFlags) issue(cmd *cobra.Command, form output.Form, wish *certificateWish, out, file string) error {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return output.Usage("%w", err)
		}
		wish.CSR = string(text)
		line, err := a.wish(cmd, wish)
		if err == nil && form != output.FormJSON {
			_, err = fmt.Fprint(cmd.OutOrStdout(), line.PEM)
		} else if err == nil {
			err = output.JSON(cmd.OutOrStdout(), line)
		}
		return err
	}
	folder, err := keyFolder(out, wish.Name)
	if err != nil {
		return err
	}
	key, csr, err := newKey(wish.Name)
	if err != nil {
		return err
	}
	wish.CSR = csr
	line, err := a.wish(cmd, wish)
	if err != nil {
		return err
	}
	if err := putFile(folder, wish.Name+".key", key); err != nil {
		return err
	}
	return finish(cmd, form, folder, line)
}

// wish asks the broker for a certificate.
func (a *adminFlags) wish(cmd *cobra.Command, wish *certificateWish) (line certificateLine, err error) {
	return line, a.callAnyway(cmd, admin.Request{Method: "POST", Path: "/certificate", In: wish}, &line)
}

// finish writes a certificate and that of its authority, and says so.
func finish(cmd *cobra.Command, form output.Form, folder *vfs.Disk, line certificateLine) error {
	_, own := pem.Decode([]byte(line.PEM))
	err := errors.Join(putFile(folder, line.Name+".pem", []byte(line.PEM)), putFile(folder, "ca.pem", own))
	if err != nil {
		return err
	}
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), line)
	}
	at := func(name string) string { return filepath.Join(folder.Root(), name) }
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "certificate %s\nkey         %s\nauthority   %s\ngood until  %s\n",
		at(line.Name+".pem"), at(line.Name+".key"), at("ca.pem"), line.Until.Format(time.RFC3339))
	return err
}

// keyFolder is the folder for a key that must not be there yet.
func keyFolder(out, name string) (*vfs.Disk, error) {
	if strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return nil, output.Usage("%s cannot be the name of a file: make the request elsewhere, and give it with --csr", name)
	}
	folder, err := vfs.NewDisk(out)
	if err != nil {
		return nil, err
	}
	f, err := folder.Open(name + ".key")
	if fault.Is(err, fault.NotFound) {
		return folder, nil
	}
	if err == nil {
		_ = f.Close()
		err = fault.New(fault.Exists, "certificate", "there is a key %s", filepath.Join(folder.Root(), name+".key")).
			WithHint("firth cert renew %s makes a certificate for it", name)
	}
	return nil, err
}

// putFile writes a file that nobody else can read, whole or not at all.
func putFile(folder *vfs.Disk, name string, text []byte) error {
	f, err := folder.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return folder.Rename(name+".new", name)
}

// newKey makes a key, as PEM, and a certificate request for it.
func newKey(name string) (key []byte, csr string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, "", err
	}
	csr, err = requestFor(name, k)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), csr, err
}

// requestFor is a certificate request for a key, as PEM.
func requestFor(name string, key any) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

func newCertRenew(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew NAME",
		Short: "Make another certificate for a key that is there, with all that stands in the one before",
		Long: `Make another certificate for NAME.key, with all that stands in the newest one of NAME. The one before stays
good until its end. The certificate of this server is renewed by itself.`,
		Example: `  firth cert renew pump-7
  firth cert renew billing --out /etc/billing`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	out := cmd.Flags().String("out", ".", "the `folder` with the files")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		base := filepath.Join(*out, name)
		pair, err := tls.LoadX509KeyPair(base+".pem", base+".key")
		if err != nil {
			return output.Usage("%w", err)
		}
		wish := certificateWish{Name: name, Renew: true}
		if wish.CSR, err = requestFor(name, pair.PrivateKey); err != nil {
			return err
		}
		line, err := a.wish(cmd, &wish)
		if err != nil {
			return err
		}
		folder, err := vfs.OpenDisk(*out)
		if err != nil {
			return err
		}
		return finish(cmd, *form, folder, line)
	}
	return cmd
}

func newCertRevoke(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke NAME|SERIAL",
		Short: "Revoke the certificates of a name, or one by its serial number, and end their connections",
		Example: `  firth cert revoke pump-7 --reason stolen
  firth cert revoke 4f1c2a9d3be04c7f8a6d5e4f30219876`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	reason := cmd.Flags().String("reason", "", "why, for `people`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var lines []certificateLine
		q := url.Values{"who": {args[0]}, "reason": {*reason}}
		if err := a.callAnyway(cmd, admin.Request{Method: "DELETE", Path: "/certificate", Query: q}, &lines); err != nil {
			return err
		}
		return printCertificates(cmd, *form, lines)
	}
	return cmd
}

func newCertList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the certificates that were issued",
		Example: `  firth cert list
  firth cert list --ending        # those that end within 14 days and were not renewed`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	ending := cmd.Flags().Bool("ending", false, "only those that end within 14 days and were not renewed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lines []certificateLine
		q := url.Values{"ending": {fmt.Sprint(*ending)}}
		if err := a.callAnyway(cmd, admin.Request{Method: "GET", Path: "/certificates", Query: q}, &lines); err != nil {
			return err
		}
		return printCertificates(cmd, *form, lines)
	}
	return cmd
}

func printCertificates(cmd *cobra.Command, form output.Form, lines []certificateLine) error {
	return printList(cmd, form, lines, []string{"NAME", "KIND", "STATE", "UNTIL", "SERIAL", "BY"},
		func(c *certificateLine) []string {
			kind := "client"
			if c.Server {
				kind = "server"
			}
			return []string{c.Name, kind, c.State, c.Until.Format(time.DateOnly), c.Serial, c.By}
		})
}
