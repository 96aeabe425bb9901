package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/apps/bridge"
	"github.com/firthmq/firth/internal/apps/bridge/relay"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// Bridge is a bridge to another MQTT server.
type Bridge struct {
	Name          string
	Addresses     string // with commas
	Topics        []relay.Topic
	User          string
	Protocol      string // "5", "3.1.1" or "3.1"
	ClientID      string
	LocalClientID string
	UserName      string
	PasswordFile  string
	Clean         bool
	SessionExpiry time.Duration // forever: it does not
	KeepAlive     time.Duration
	TryPrivate    bool
	Encrypted     bool
	TLS           bridge.TLS
	RoundRobin    bool
	Start         string // "automatic", "lazy" or "once"
	Threshold     int
	Idle          time.Duration
	RestartMin    time.Duration
	RestartMax    time.Duration
	MaxInflight   int
	OutRate       int // unlimited: none
	OutRetain     bool
	Notify        string // "both", "local" or "off"
	NotifyTopic   string
	MaxHops       int
}

// options are what the bridge has to know; cluster names the log.
func (b *Bridge) options(cluster string) bridge.Options {
	o := bridge.Options{
		Name: b.Name, Addresses: splitList(b.Addresses), RoundRobin: b.RoundRobin, Version: b.version(),
		ClientID:      cmp.Or(b.ClientID, b.Name+"-"+cluster[:min(len(cluster), 8)]),
		LocalClientID: cmp.Or(b.LocalClientID, "bridge."+b.Name), User: b.User, RemoteUser: b.UserName,
		PasswordFile: b.PasswordFile, Clean: b.Clean, SessionExpiry: b.SessionExpiry, KeepAlive: b.KeepAlive,
		NoPrivate: !b.TryPrivate, Topics: b.Topics, MaxHops: b.MaxHops, NoRetain: !b.OutRetain, MaxInflight: b.MaxInflight,
		OutRate: max(float64(b.OutRate), 0), AnnounceName: b.NotifyTopic, Threshold: int64(b.Threshold), Idle: b.Idle,
		RestartMin: b.RestartMin, RestartMax: b.RestartMax,
		Announce: [2]bool{relay.Local: b.Notify != "off", relay.Remote: b.Notify == "both"},
	}
	if o.SessionExpiry == forever {
		o.SessionExpiry = 1<<63 - 1
	}
	if b.Encrypted {
		o.TLS = &b.TLS
	}
	switch b.Start {
	case "lazy":
		o.Start = bridge.Lazy
	case "once":
		o.Start = bridge.Once
	}
	return o
}

func (b *Bridge) version() packet.Version {
	switch b.Protocol {
	case "3.1":
		return packet.V31
	case "3.1.1":
		return packet.V311
	}
	return packet.V5
}

func bridgesOption() []Option {
	return []Option{
		objects(Option{Key: "bridges", Type: "list of bridges", Reload: true,
			Doc: "Other MQTT servers that the node is joined to, as a client with a session there and one here: what is " +
				"published there comes into the log, what is here goes there. [bridge.md](bridge.md) tells what is promised.",
		}, entries[Bridge]{
			key: "bridges", one: "bridge", list: func(c *Config) *[]Bridge { return &c.Bridges },
			fields: bridgeFields, needed: []string{"name", "addresses", "topics"}, check: checkBridge, page: bridgesManual,
		}),
	}
}

func bridgeFields() []OptionOf[Bridge] {
	return slices.Concat(bridgeEnds(), bridgeSession(), bridgeTLS(), bridgeTimes(), bridgeMessages())
}

// bridgeEnds are what is joined to what.
func bridgeEnds() []OptionOf[Bridge] {
	type option = OptionOf[Bridge]
	return []option{
		option{Key: "name", Type: "text",
			Doc: "What metrics, log lines and firth bridge call it. It is a part of client identifiers: keep it.",
		}.text(func(b *Bridge) *string { return &b.Name }, checkBridgeName),
		option{Key: "addresses", Type: "list of host:port",
			Doc: "The other server, with commas where it has several addresses: the first one that answers is taken, and the " +
				"first of all again once it does.",
		}.text(func(b *Bridge) *string { return &b.Addresses }, checkRemotes),
		option{Key: "round_robin", Default: "false",
			Doc: "Whether a lost connection is followed by one to the next address, with no preference.",
		}.flag(func(b *Bridge) *bool { return &b.RoundRobin }),
		itemsOf(option{Key: "topics", Type: "list of topics", Doc: "What is bridged; the keys are below."},
			sublist[Bridge, relay.Topic]{
				field: func(b *Bridge) *[]relay.Topic { return &b.Topics },
				entries: entries[relay.Topic]{key: "topics", one: "topic", fields: bridgeTopicFields,
					needed: []string{"filter"}, check: func(t *relay.Topic) (string, error) { return "filter", t.Check() }},
			}),
		option{Key: "user", Type: "user name", Default: "",
			Doc: "Whose rights the bridge has here, for what it publishes and what it reads: a user of firth user. Empty: " +
				"those of clients that do not say who they are.",
		}.text(func(b *Bridge) *string { return &b.User }, anyText),
	}
}

func bridgeTopicFields() []OptionOf[relay.Topic] {
	type option = OptionOf[relay.Topic]
	return []option{
		option{Key: "filter", Type: "topic filter",
			Doc: "Which topics, behind the prefixes. Empty: the prefixes are whole names.",
		}.text(func(t *relay.Topic) *string { return &t.Filter }, anyText),
		option{Key: "direction", Default: "out", Type: "in | out | both",
			Doc: "in: from the other server into this one. out: from here to there.",
		}.direction(func(t *relay.Topic) *relay.Direction { return &t.Direction }),
		option{Key: "qos", Default: "0", Doc: "The highest QoS of what passes."}.
			small(func(t *relay.Topic) *byte { return &t.QoS }),
		option{Key: "local_prefix", Type: "text", Default: "", Doc: "What the names begin with here."}.
			text(func(t *relay.Topic) *string { return &t.LocalPrefix }, anyText),
		option{Key: "remote_prefix", Type: "text", Default: "", Doc: "What they begin with there."}.
			text(func(t *relay.Topic) *string { return &t.RemotePrefix }, anyText),
	}
}

func (o OptionOf[C]) direction(field func(*C) *relay.Direction) OptionOf[C] {
	o.parse = func(c *C, s string) (err error) {
		*field(c), err = relay.ParseDirection(s)
		return err
	}
	o.show = func(c *C) string { return (*field(c)).String() }
	return o
}

// bridgeSession are how it is a client.
func bridgeSession() []OptionOf[Bridge] {
	type option = OptionOf[Bridge]
	return []option{
		option{Key: "protocol", Default: "5", Doc: "The version of MQTT that is spoken with the other server."}.
			choice(func(b *Bridge) *string { return &b.Protocol }, "5", "3.1.1", "3.1"),
		option{Key: "client_id", Type: "text", Default: "",
			Doc: "The client identifier there. Empty: the name and what tells this log from others.",
		}.text(func(b *Bridge) *string { return &b.ClientID }, anyText),
		option{Key: "local_client_id", Type: "text", Default: "",
			Doc: "The client identifier here, by which firth session show knows it. Empty: bridge. and the name.",
		}.text(func(b *Bridge) *string { return &b.LocalClientID }, anyText),
		option{Key: "username", Type: "text", Default: "", Doc: "The user name there."}.
			text(func(b *Bridge) *string { return &b.UserName }, anyText),
		option{Key: "password_file", Type: "path", Default: "",
			Doc: "The file with the password there. It is read at each connection, and may be readable by nobody else.",
		}.text(func(b *Bridge) *string { return &b.PasswordFile }, anyText),
		option{Key: "clean_session", Default: "false",
			Doc: "Whether the other server forgets the session with the connection: what is published there meanwhile does " +
				"not come in, and QoS 2 may pass twice after a lost connection.",
		}.flag(func(b *Bridge) *bool { return &b.Clean }),
		option{Key: "session_expiry", Default: "forever",
			Doc: "How long the other server keeps the session without a connection, in MQTT 5.",
		}.span(func(b *Bridge) *time.Duration { return &b.SessionExpiry }, time.Second, century, "forever"),
		option{Key: "keepalive", Default: "1m", Doc: "The keep alive interval."}.
			span(func(b *Bridge) *time.Duration { return &b.KeepAlive }, time.Second, 65535*time.Second, ""),
		option{Key: "try_private", Default: "true",
			Doc: "Whether it says that it is a bridge, in MQTT 3, as Mosquitto does: a server that knows this sends nothing " +
				"back. One that does not is connected to without it.",
		}.flag(func(b *Bridge) *bool { return &b.TryPrivate }),
	}
}

func bridgeTLS() []OptionOf[Bridge] {
	type option = OptionOf[Bridge]
	return []option{
		option{Key: "tls", Default: "false", Doc: "Whether the connection is encrypted."}.
			flag(func(b *Bridge) *bool { return &b.Encrypted }),
		option{Key: "ca", Type: "path", Default: "",
			Doc: "The file of authorities (PEM) whose certificates are good. Empty: those that the system knows.",
		}.text(func(b *Bridge) *string { return &b.TLS.CA }, anyText),
		option{Key: "certificate", Type: "path", Default: "", Doc: "The file of the certificate to show (PEM)."}.
			text(func(b *Bridge) *string { return &b.TLS.Certificate }, anyText),
		option{Key: "key", Type: "path", Default: "", Doc: "The file of its key, which nobody else may read."}.
			text(func(b *Bridge) *string { return &b.TLS.Key }, anyText),
		option{Key: "server_name", Type: "text", Default: "",
			Doc: "The name that the certificate must be for. Empty: the host of the address.",
		}.text(func(b *Bridge) *string { return &b.TLS.ServerName }, anyText),
		option{Key: "alpn", Type: "text", Default: "", Doc: "The protocol to ask for (ALPN), such as x-amzn-mqtt-ca."}.
			text(func(b *Bridge) *string { return &b.TLS.ALPN }, anyText),
		option{Key: "insecure", Default: "false",
			Doc: "Whether a good certificate may be for any name. Whoever has one can then be the other server.",
		}.flag(func(b *Bridge) *bool { return &b.TLS.Insecure }),
	}
}

// bridgeTimes are when it connects.
func bridgeTimes() []OptionOf[Bridge] {
	type option = OptionOf[Bridge]
	return []option{
		option{Key: "start", Default: "automatic",
			Doc: "automatic: it connects at once, and again whenever the connection is lost. lazy: it connects when " +
				"threshold records wait, and leaves when nothing has passed for idle_timeout; nothing comes in meanwhile. " +
				"once: it does not connect again by itself.",
		}.choice(func(b *Bridge) *string { return &b.Start }, "automatic", "lazy", "once"),
		option{Key: "threshold", Default: "10", Doc: "For lazy: how many records of the log must wait."}.
			count(func(b *Bridge) *int { return &b.Threshold }, 1, 1_000_000_000),
		option{Key: "idle_timeout", Default: "1m", Doc: "For lazy: after how long without a message it leaves."}.
			span(func(b *Bridge) *time.Duration { return &b.Idle }, time.Second, day, ""),
		option{Key: "restart_min", Default: "1s",
			Doc: "How long it waits before it connects again, at first. It doubles each time, and half of it is left to chance.",
		}.span(func(b *Bridge) *time.Duration { return &b.RestartMin }, 10*time.Millisecond, time.Hour, ""),
		option{Key: "restart_max", Default: "30s", Doc: "How long it waits at most."}.
			span(func(b *Bridge) *time.Duration { return &b.RestartMax }, 10*time.Millisecond, day, ""),
	}
}

func bridgeMessages() []OptionOf[Bridge] {
	type option = OptionOf[Bridge]
	return []option{
		option{Key: "max_inflight", Default: "20",
			Doc: "How many messages above QoS 0 are in flight each way. A server of MQTT 3 cannot say what it takes: 20 is " +
				"what Mosquitto takes unless it is told otherwise.",
		}.count(func(b *Bridge) *int { return &b.MaxInflight }, 1, 65535),
		option{Key: "out_rate", Default: "unlimited",
			Doc: "The most messages a second that go out: after an outage what waited does not come all at once.",
		}.number(func(b *Bridge) *int { return &b.OutRate }, 1, 1_000_000_000),
		option{Key: "outgoing_retain", Default: "true", Doc: "Whether what is retained here is retained there."}.
			flag(func(b *Bridge) *bool { return &b.OutRetain }),
		option{Key: "notifications", Default: "both",
			Doc: "Who is told, by a retained 1 or 0, whether the bridge is connected: both servers, the local one, or none.",
		}.choice(func(b *Bridge) *string { return &b.Notify }, "both", "local", "off"),
		option{Key: "notification_topic", Type: "topic name", Default: "",
			Doc: "The topic of that. Empty: $SYS/broker/connection/CLIENT_ID/state, as of Mosquitto.",
		}.text(func(b *Bridge) *string { return &b.NotifyTopic }, checkTopicPrefix),
		option{Key: "max_hops", Default: "8",
			Doc: "How many nodes of Firth a message may have passed that comes in, by its marks (user property " +
				relay.Mark + ", MQTT 5 only). One that has been here is not taken at all.",
		}.count(func(b *Bridge) *int { return &b.MaxHops }, 1, 100),
	}
}

func checkBridgeName(s string) error {
	const longest = 64
	switch {
	case s == "":
		return errors.New("an empty name")
	case len(s) > longest:
		return fmt.Errorf("%d bytes are too many, at most %d", len(s), longest)
	case names.CheckName([]byte(s)) != nil || slices.Contains([]byte(s), '/'):
		return fmt.Errorf("%q is no level of a topic name", s)
	}
	return nil
}

// checkRemotes wants addresses to connect to.
func checkRemotes(s string) error {
	all := splitList(s)
	if len(all) == 0 {
		return errors.New("no address")
	}
	for _, address := range all {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			return fmt.Errorf("%q is not host:port", address)
		}
		if err := checkPort(port, 1); err != nil {
			return err
		}
	}
	return nil
}

func checkBridge(b *Bridge) (field string, err error) {
	switch {
	case !b.Encrypted && b.TLS != bridge.TLS{}:
		return "tls", errors.New("is not true, and the certificate and the like would mean nothing")
	case (b.TLS.Certificate == "") != (b.TLS.Key == ""):
		return "key", errors.New("a certificate and its key go together")
	case b.PasswordFile != "" && b.UserName == "":
		return "username", errors.New("a password needs one")
	case b.RestartMax < b.RestartMin:
		return "restart_max", errors.New("is less than restart_min")
	}
	return "", nil
}

const bridgesManual = "```yaml" + `
bridges:
  - name: plant
    addresses: mosquitto.plant.example:8883
    tls: true
    username: firth
    password_file: /etc/firth/plant.password
    topics:
      - { filter: "sensors/#", direction: in, qos: 1, local_prefix: "plant/" }
      - { filter: "commands/#", direction: out, qos: 2, local_prefix: "plant/" }
` + "```" + `

`

// checkBridges sees that no two bridges are taken for one.
func (l *loader) checkBridges() {
	names, clients := map[string]bool{}, map[string]bool{}
	for i, b := range l.config.Bridges {
		client := cmp.Or(b.LocalClientID, "bridge."+b.Name)
		switch at := l.entries["bridges"]; {
		case names[b.Name]:
			l.report(at[i], "bridges: bridge %d: there is another one called %s", i+1, b.Name)
		case clients[client]:
			l.report(at[i], "bridges: bridge %d: another one is the client %s here", i+1, client)
		}
		names[b.Name], clients[client] = true, true
	}
}

// openBridges joins the node to other servers.
func (n *Node) openBridges(context.Context) error {
	n.inside = newInside()
	n.bridges = bridge.New(bridge.Home{ID: n.keeper.ClusterID(), Dial: n.inside.dial, Session: n.bridgeSession,
		Writable: n.keeper.Refused, Metrics: n.metrics, Logger: n.log})
	n.opened("bridges", n.endBridges)
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.setBridges(n.cfg)
}

// setBridges has the bridges be those of a configuration. The lock is held. Errors: Closed, the node ends.
func (n *Node) setBridges(c *Config) error {
	if n.draining.Load() {
		return fault.New(fault.Closed, "node.Reload", "the node ends")
	}
	if n.stopBridges == nil {
		if len(c.Bridges) == 0 {
			return nil
		}
		way, err := n.mqtt.Listener(mqtt.ListenerOptions{Name: "bridges", Inside: true, Missed: n.bridges.Missed})
		if err != nil {
			return err
		}
		stopDoor := n.run("bridges", func(ctx context.Context) error { return way.Serve(ctx, n.inside) })
		stop := n.run("bridges", n.bridges.Run)
		n.stopBridges = func(ctx context.Context) error { return errors.Join(stop(ctx), stopDoor(ctx)) }
	}
	all := make([]bridge.Options, 0, len(c.Bridges))
	for i := range c.Bridges {
		all = append(all, c.Bridges[i].options(n.keeper.ClusterID()))
	}
	n.bridges.Set(all)
	return nil
}

// endBridges ends all of them.
func (n *Node) endBridges(ctx context.Context) error {
	n.mu.Lock()
	stop := n.stopBridges
	n.mu.Unlock()
	if stop == nil {
		return nil
	}
	return stop(ctx)
}

// bridgeSession tells a bridge of its session at the door.
func (n *Node) bridgeSession(client string) (s bridge.Session, err error) {
	detail, err := n.mqtt.Session(client)
	if err != nil {
		return s, err
	}
	for _, f := range detail.Filters {
		s.Filters = append(s.Filters, f.Filter)
	}
	for _, lag := range detail.Lag {
		s.Backlog += lag.Lag
	}
	return s, nil
}
