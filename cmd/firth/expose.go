package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/node"
)

func newExposeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "expose --address HOST",
		Short: "Let other machines in: with TLS and logins",
		Long: `Let other machines in, in one step: make an administrator with a password that is printed once, a certificate
authority and the certificate of this server, and write what the configuration needs (-c, or firth.yaml here): TLS
listeners for MQTT (8883), MQTT over WebSocket (8084), Kafka (9093) and HTTP (8443), and nobody in who does not say
who they are. Plain listeners stay on loopback.

What stands in the configuration stays as it is; what is added is shown, with --dry-run without doing anything. Run
again, it adds what is missing.`,
		Example: `  firth expose --address 192.0.2.10
  firth expose --address broker.example.org --name mqtt.example.org
  firth expose --address 192.0.2.10 --address 2001:db8::10 --dry-run`,
		Args: cobra.NoArgs,
	}
	e := exposing{}
	e.sources = addSources(cmd)
	cmd.Flags().Lookup("set").Hidden = true
	flags := cmd.Flags()
	flags.StringSliceVar(&e.addresses, "address", nil,
		"where to listen, and what clients connect to: an `IP address` of this machine, or a name of it, with which all "+
			"addresses are listened on; again for each")
	flags.StringSliceVar(&e.names, "name", nil, "another `name` or address that clients connect to, again for each")
	flags.StringVar(&e.user, "admin", "admin", "the `name` of the administrator that is made if there is none")
	flags.BoolVar(&e.dry, "dry-run", false, "only show what would be done")
	e.admin = &adminFlags{}
	flags.StringVar(&e.admin.address, "http", "127.0.0.1:8080", "listen.http of the broker, if one runs, `host:port`")
	flags.DurationVar(&e.admin.timeout, "timeout", defaultTimeout, "how long to wait for an answer")
	_ = cmd.MarkFlagRequired("address")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return e.run(cmd) }
	return cmd
}

// exposing are the flags of firth expose, and what has come of it.
type exposing struct {
	sources          *sources
	admin            *adminFlags
	addresses, names []string
	user             string
	dry              bool

	password string // of the administrator that was made
	runs     bool   // there is a broker that runs
}

func (e *exposing) run(cmd *cobra.Command) error {
	x, err := node.Expose(e.sources.loader(), e.addresses, e.names)
	if err != nil {
		return asCheck(err)
	}
	if !e.dry {
		if err := e.prepare(cmd, x); err != nil {
			return err
		}
		if err := x.Write(); err != nil {
			return err
		}
	}
	_, err = io.WriteString(cmd.OutOrStdout(), e.report(x))
	return err
}

// prepare makes what the configuration will name, by the broker if one runs.
func (e *exposing) prepare(cmd *cobra.Command, x *node.Exposure) error {
	c := x.Config
	if _, err := vfs.NewDisk(c.Data); err != nil {
		return err
	}
	do := func(ctx context.Context, client admin.Client) error { return e.make(ctx, cmd, client, x) }
	alone, err := e.admin.alone(cmd, c, do)
	if alone {
		return err
	}
	e.runs, e.admin.data = true, c.Data
	client, err := e.admin.client(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), e.admin.timeout)
	defer cancel()
	return do(ctx, client)
}

func (e *exposing) make(ctx context.Context, cmd *cobra.Command, client admin.Client, x *node.Exposure) error {
	name := url.Values{"name": {"Firth of " + clip(e.addresses[0], 48)}}
	if err := client.Call(ctx, admin.Request{Method: "POST", Path: "/authority", Query: name}, nil); err != nil {
		return err
	}
	if len(x.Names) > 0 {
		names := url.Values{"name": x.Names}
		if err := client.Call(ctx, admin.Request{Method: "POST", Path: "/server", Query: names}, nil); err != nil {
			return err
		}
	}
	var users []userLine
	if err := client.Call(ctx, admin.Request{Method: "GET", Path: "/users"}, &users); err != nil {
		return err
	}
	admins := func(u userLine) bool { return !u.Disabled && slices.Contains(u.Roles, "admin") }
	if i := slices.IndexFunc(users, admins); i >= 0 {
		e.user = users[i].Name
		return nil
	}
	password, _, err := newPassword(cmd, "")
	if err != nil {
		return err
	}
	change := userChange{Name: e.user, Password: &password, Generated: true, Roles: &[]string{"admin"}}
	q := admin.Request{Method: "POST", Path: "/user", Query: url.Values{"new": {"true"}}, In: &change}
	if err = client.Call(ctx, q, nil); err == nil {
		e.password = password
	}
	return err
}

func clip(s string, most int) string { return s[:min(len(s), most)] }

// report says what was done, and what to paste.
func (e *exposing) report(x *node.Exposure) string {
	var b strings.Builder
	switch {
	case e.dry:
		fmt.Fprintln(&b, "Nothing is done: this is what would be.")
	case e.password != "":
		fmt.Fprintf(&b, "administrator  %s\npassword       %s\n", e.user, e.password)
	default:
		fmt.Fprintf(&b, "administrator  %s, as before (firth user password %s makes another password)\n", e.user, e.user)
	}
	ca := filepath.Join(x.Config.Data, filepath.FromSlash(authority.CertificateFile))
	fmt.Fprintf(&b, "authority      %s\n", ca)
	if len(x.Names) > 0 {
		fmt.Fprintf(&b, "certificate    for %s\n", strings.Join(x.Names, ", "))
	}
	fmt.Fprintf(&b, "configuration  %s", x.File)
	if len(x.Add) == 0 {
		b.WriteString(", which has all of it\n")
	} else {
		fmt.Fprintf(&b, ", with this added:\n\n%s\n", indented(x.Addition()))
	}
	for _, kept := range x.Kept {
		fmt.Fprintf(&b, "  kept: %s\n", kept)
	}
	if e.runs && len(x.Add) > 0 {
		b.WriteString("Start firth again: the listeners open then.\n")
	} else if !e.runs {
		fmt.Fprintf(&b, "Start it: firth serve%s\n", e.sources.flag())
	}
	b.WriteString(snippets(e.host(x), e.user))
	return b.String()
}

// host is what clients connect to.
func (e *exposing) host(x *node.Exposure) string {
	for _, name := range slices.Concat(e.addresses, e.names, x.Names) {
		if ip := net.ParseIP(strings.Trim(name, "[]")); ip == nil || !ip.IsUnspecified() {
			return strings.Trim(name, "[]")
		}
	}
	return "localhost"
}

func indented(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
}

// snippets are what to paste where ca.pem is.
func snippets(host, user string) string {
	kafka := net.JoinHostPort(host, "9093")
	return fmt.Sprintf(`
A device with a certificate of its own, and a back end with a password:

  firth cert issue pump-7
  firth user add billing --role consumer

From another machine, with a copy of ca.pem:

  mosquitto_pub -h %[1]s -p 8883 --cafile ca.pem --cert pump-7.pem --key pump-7.key \
    -i pump-7 -t devices/pump-7/temp -m 21.5
  mosquitto_sub -h %[1]s -p 8883 --cafile ca.pem -u %[3]s -P PASSWORD -t 'devices/#'
  kcat -b %[2]s -X security.protocol=sasl_ssl -X ssl.ca.location=ca.pem -X sasl.mechanism=SCRAM-SHA-256 \
    -X sasl.username=billing -X sasl.password=PASSWORD -C -t devices -o beginning -e

Java, client.properties:

  bootstrap.servers=%[2]s
  security.protocol=SASL_SSL
  ssl.truststore.type=PEM
  ssl.truststore.location=ca.pem
  sasl.mechanism=SCRAM-SHA-256
  sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
    username="billing" password="PASSWORD";
`, host, kafka, user)
}

// flag is how the same configuration is named on another command line.
func (s *sources) flag() string {
	if s.file == "" {
		return ""
	}
	return " -c " + s.file
}
