package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

func newACLCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Say what users and roles may do, with MQTT and Kafka",
		Long: `Say what users and roles may do. A rule allows or denies a principal (User:NAME, User:* for everybody,
Group:NAME, Role:NAME) operations on resources. What one rule denies is denied, whatever others allow; what no rule
allows is denied, from the first rule or user on. A mask takes fields out of what a principal reads. Kafka's own tools
(kafka-acls) show and change the same rules, as far as they have words for them.

Names of devices and topics of the log are the same data: a device may publish to sensors/7 if the names sensors/# or
the topic sensors may be written, and a consumer may read the topic sensors if it, or all names in it, may be read. In
names, ${clientid}, ${username}, ${cert.cn} and the other fields of certificates stand for what the client has.`,
		Example: `  firth acl allow Role:meter publish,subscribe --names 'meters/${clientid}/#'
  firth acl allow User:billing read --topic meters --group billing
  firth acl deny 'User:*' all --names 'plant/secret/#'
  firth acl mask Role:support json:customer.name=hash header:trace=remove --topic meters
  firth acl explain --as meter-17 publish meters/17/power`,
	}
	a := addAdminFlags(cmd)
	cmd.AddCommand(newACLAdd(a, rule.Allow), newACLAdd(a, rule.Deny), newACLMask(a), newACLList(a), newACLRemove(a),
		newACLExplain(a), newACLDenied(a))
	return cmd
}

func newRoleCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "role", Short: "List roles: those that are always there, and those that rules are about"}
	a := addAdminFlags(cmd)
	list := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List what each role may do",
		Example: `  firth role list`,
		Args:    cobra.NoArgs,
	}
	form := formFlag(list)
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.listRules(cmd, *form, "/roles", func(principal string) bool {
			return strings.HasPrefix(principal, rule.RolePrefix)
		})
	}
	cmd.AddCommand(list)
	return cmd
}

// ruleLine is what the broker says of a rule.
type ruleLine struct {
	ID   string    `json:"id"`
	Rule rule.Rule `json:"rule"`
	Text string    `json:"text"`
}

// resourceFlags say what rules are about.
type resourceFlags struct {
	by      map[string]*[]string
	cluster bool
}

// resources are the flags by which resources are named.
var resources = []struct {
	flag, doc string
	kind      rule.Kind
	pattern   rule.Pattern
}{
	{"names", "the names of devices that a topic `filter` of MQTT matches", rule.Topic, rule.Filter},
	{"topic", "a `topic` of the log; * is every one", rule.Topic, rule.Literal},
	{"topics", "the topics of the log that begin with `prefix`", rule.Topic, rule.Prefixed},
	{"group", "a consumer `group`; * is every one", rule.Group, rule.Literal},
	{"groups", "the consumer groups that begin with `prefix`", rule.Group, rule.Prefixed},
	{"transactional-id", "a transactional `id`; * is every one", rule.TransactionalID, rule.Literal},
	{"transactional-ids", "the transactional ids that begin with `prefix`", rule.TransactionalID, rule.Prefixed},
	{"user-tokens", "the delegation tokens of a `user`", rule.User, rule.Literal},
}

func addResourceFlags(cmd *cobra.Command) *resourceFlags {
	f := &resourceFlags{by: map[string]*[]string{}}
	for _, r := range resources {
		f.by[r.flag] = cmd.Flags().StringArray(r.flag, nil, r.doc)
	}
	cmd.Flags().BoolVar(&f.cluster, "cluster", false, "the cluster itself")
	return f
}

func (f *resourceFlags) list() (list []rule.Resource) {
	for _, r := range resources {
		if f.by[r.flag] == nil {
			continue
		}
		for _, name := range *f.by[r.flag] {
			if r.kind == rule.User && name != rule.AnyName && !strings.HasPrefix(name, rule.UserPrefix) {
				name = rule.UserPrefix + name // as Kafka names the resource
			}
			list = append(list, rule.Resource{Kind: r.kind, Pattern: r.pattern, Name: name})
		}
	}
	if f.cluster {
		list = append(list, rule.Resource{Kind: rule.Cluster, Pattern: rule.Literal, Name: rule.ClusterName})
	}
	return list
}

func parseOperations(text string) (rule.Operations, error) {
	var list []rule.Operation
	for name := range strings.SplitSeq(text, ",") {
		o, err := rule.ParseOperation(strings.TrimSpace(name))
		if err != nil {
			return 0, output.WithCode(output.ExitUsage, err)
		}
		list = append(list, o)
	}
	return rule.Of(list...), nil
}

func newACLAdd(a *adminFlags, effect rule.Effect) *cobra.Command {
	verb := effect.String()
	cmd := &cobra.Command{
		Use:   verb + " PRINCIPAL OPERATIONS",
		Short: strings.ToUpper(verb[:1]) + verb[1:] + " a user or role operations on resources",
		Example: fmt.Sprintf(`  firth acl %[1]s Role:meter publish,subscribe --names 'meters/${clientid}/#'
  firth acl %[1]s User:billing read --topic meters --group billing --from 10.0.0.0/8`, verb),
		Args: cobra.ExactArgs(2),
	}
	form := formFlag(cmd)
	on := addResourceFlags(cmd)
	conditions := addConditionFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		operations, err := parseOperations(args[1])
		if err != nil {
			return err
		}
		r := rule.Rule{Effect: effect, Principal: args[0], Operations: operations}
		if r.When, err = conditions(); err != nil {
			return err
		}
		return a.addRules(cmd, *form, r, on)
	}
	return cmd
}

// addConditionFlags says by flags on which connections a rule is; what they say is told once they are read.
func addConditionFlags(cmd *cobra.Command) func() (rule.Conditions, error) {
	var when rule.Conditions
	var networks []string
	flags := cmd.Flags()
	flags.StringSliceVar(&networks, "from", nil, "only for connections from a `network`, again for each")
	flags.StringVar(&when.Listener, "listener", "", "only for connections by this listener: its `name`")
	flags.BoolVar(&when.Encrypted, "tls", false, "only for connections with TLS")
	flags.StringVar(&when.ClientID, "client", "", "only with this MQTT client `identifier`; * at the end: that begin so")
	return func() (rule.Conditions, error) {
		when.Networks = []netip.Prefix{}
		for _, text := range networks {
			n, err := rule.ParseNetwork(text)
			if err != nil {
				return when, output.WithCode(output.ExitUsage, err)
			}
			when.Networks = append(when.Networks, n)
		}
		return when, nil
	}
}

// addRules adds a rule about each resource that flags name.
func (a *adminFlags) addRules(cmd *cobra.Command, form output.Form, r rule.Rule, on *resourceFlags) error {
	var rules []rule.Rule
	for _, resource := range on.list() {
		r.Resource = resource
		if err := r.Check(); err != nil {
			return output.WithCode(output.ExitUsage, err)
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return output.Usage("on what? --names, --topic, --group and the like say so")
	}
	var lines []ruleLine
	if err := a.callAnyway(cmd, admin.Request{Method: "POST", Path: "/rules", In: rules}, &lines); err != nil {
		return err
	}
	return printRules(cmd, form, lines)
}

func printRules(cmd *cobra.Command, form output.Form, lines []ruleLine) error {
	return printList(cmd, form, lines, []string{"ID", "RULE"},
		func(l *ruleLine) []string {
			return []string{l.ID, l.Text}
		})
}

func (a *adminFlags) listRules(
	cmd *cobra.Command, form output.Form, path string, of func(principal string) bool,
) error {
	var all, lines []ruleLine
	if err := a.callAnyway(cmd, admin.Request{Method: "GET", Path: path}, &all); err != nil {
		return err
	}
	for _, l := range all {
		if of(l.Rule.Principal) {
			lines = append(lines, l)
		}
	}
	return printRules(cmd, form, lines)
}

func newACLList(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the rules, with their ids",
		Example: `  firth acl list --of User:billing`,
		Args:    cobra.NoArgs,
	}
	form := formFlag(cmd)
	of := cmd.Flags().String("of", "", "only those about this `principal`: User:alice")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.listRules(cmd, *form, "/rules", func(principal string) bool { return *of == "" || *of == principal })
	}
	return cmd
}

func newACLRemove(a *adminFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "remove ID...",
		Aliases: []string{"rm"},
		Short:   "Remove rules by their ids",
		Example: `  firth acl remove 7faffdb2d1001aee`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.callAnyway(cmd, admin.Request{Method: "DELETE", Path: "/rules", Query: url.Values{"id": args}}, nil)
		},
	}
}

func newACLExplain(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain OPERATION [NAME]",
		Short: "Tell whether a user may do something, and by which rule",
		Long: `Tell whether a user may do something, by which rules, and by which masks it sees less of what it reads. NAME
is a topic name or filter of MQTT; other resources are named by flags. Fields of a client certificate are given by
--cert; without --as it is the user whom the certificate names (access.certificate_identity). It exits with 0 if it is
allowed, and with 6 if it is denied.`,
		Example: `  firth acl explain --as meter-17 publish meters/17/power
  firth acl explain --as billing read --topic meters
  firth acl explain --cert cn=pump-7 --cert ou=plant publish plant/pump-7/flow
  firth acl explain subscribe '#'`,
		Args: cobra.RangeArgs(1, 2),
	}
	form := formFlag(cmd)
	on := addResourceFlags(cmd)
	q := url.Values{}
	flags := cmd.Flags()
	as := flags.String("as", "", "the `user`; without it, who does not say who they are")
	client := flags.String("client", "", "its MQTT client `identifier`")
	address := flags.String("from", "", "the `address` that it comes from")
	listener := flags.String("listener", "", "the `name` of the listener that it comes by")
	encrypted := flags.Bool("tls", false, "whether it has TLS")
	cert := flags.StringArray("cert", nil, "a `field=value` of its certificate, again for each: cn, "+
		strings.Join(rule.CertificateFields[:], ", "))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list := on.list()
		if len(args) == 2 {
			list = append(list, rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: args[1]})
		}
		if len(list) != 1 {
			return output.Usage("on what? one name, or one of --topic, --group and the like")
		}
		r := list[0]
		q = url.Values{"operation": {args[0]}, "user": {*as}, "client": {*client}, "address": {*address},
			"listener": {*listener}, "tls": {fmt.Sprint(*encrypted)},
			"kind": {r.Kind.String()}, "pattern": {r.Pattern.String()}, "name": {r.Name}, "cert": *cert}
		return a.explain(cmd, *form, q)
	}
	return cmd
}

func (a *adminFlags) explain(cmd *cobra.Command, form output.Form, q url.Values) error {
	var said struct {
		Allowed bool       `json:"allowed"`
		Rules   []ruleLine `json:"rules"`
		Masks   []ruleLine `json:"masks,omitempty"`
		Reason  string     `json:"reason"`
	}
	if err := a.callAnyway(cmd, admin.Request{Method: "GET", Path: "/explain", Query: q}, &said); err != nil {
		return err
	}
	switch {
	case form == output.FormJSON:
		if err := output.JSON(cmd.OutOrStdout(), said); err != nil {
			return err
		}
	case len(said.Rules)+len(said.Masks) > 0:
		if err := printRules(cmd, form, append(said.Rules, said.Masks...)); err != nil {
			return err
		}
	}
	if !said.Allowed {
		return output.WithCode(output.ExitCheck, fault.New(fault.Denied, "explain", "denied: %s", said.Reason))
	}
	if form != output.FormJSON {
		shown := ""
		if len(said.Masks) > 0 {
			shown = ", with fields masked"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "allowed: %s%s\n", said.Reason, shown)
	}
	return nil
}
