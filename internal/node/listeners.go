package node

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/mqtt"
)

// Listener is one more way into the device door, with limits of its own.
type Listener struct {
	Name        string // for log lines and metrics; empty: the address
	Kind        string // "mqtt" or "ws"
	Address     string // host:port or unix:/path
	Mode        fs.FileMode
	Proxy       bool  // connections begin with a header of the PROXY protocol
	Encrypted   bool  // they speak TLS
	TLS         TLS   // how; what is empty is as Config.TLS says
	Connections int   // at a time; unlimited: as many as limits.connections says
	Packet      int64 // bytes; unlimited: as many as limits.packet says
	Rates       Rates // unlimited: as limits says
}

// label is the name of a listener for people and metrics.
func (l *Listener) label() string {
	if l.Name == "" {
		return l.Address
	}
	return l.Name
}

// options are what the device door has to know.
func (l *Listener) options() mqtt.ListenerOptions {
	return mqtt.ListenerOptions{
		Name: l.label(), MaxConnections: max(l.Connections, 0), MaxPacketBytes: int(max(l.Packet, 0)),
		Rates: l.Rates.options(),
	}
}

func listenersOption() Option {
	return objects(Option{Key: "listeners", Type: "list of listeners",
		Doc: "More addresses for devices, besides those of listen.mqtt and listen.ws, each with limits of its own.",
	}, entries[Listener]{
		key: "listeners", one: "listener", list: func(c *Config) *[]Listener { return &c.Listeners },
		fields: listenerFields, needed: []string{"address"}, check: checkListener, page: listenersManual,
	})
}

func listenerFields() []OptionOf[Listener] {
	type option = OptionOf[Listener]
	return slices.Concat([]option{
		option{Key: "name", Type: "text",
			Doc: "What metrics and log lines call it. Without one that is its address.",
		}.text(func(l *Listener) *string { return &l.Name }, func(string) error { return nil }),
		option{Key: "kind", Default: "mqtt",
			Doc: "MQTT over TCP (or a Unix socket), or over WebSocket at the path /mqtt.",
		}.choice(func(l *Listener) *string { return &l.Kind }, "mqtt", "ws"),
		option{Key: "address", Type: "address",
			Doc: "Where it listens: as listen.mqtt, one address.",
		}.addressBy(func(l *Listener) *string { return &l.Address }, parseSocket),
		option{Key: "mode", Default: "0660",
			Doc: "Of a Unix socket: who may connect, as chmod takes it. The user and group are those of the process.",
		}.mode(func(l *Listener) *fs.FileMode { return &l.Mode }),
		option{Key: "proxy", Default: "false",
			Doc: "Whether each connection begins with a header of the PROXY protocol, version 1 or 2, as HAProxy, nginx " +
				"and the load balancers of clouds send it: log lines go by the address in it. One without a " +
				"good header within limits.connect_timeout is closed. Whoever can connect can claim any address: let only " +
				"the balancer.",
		}.flag(func(l *Listener) *bool { return &l.Proxy }),
		option{Key: "tls", Default: "false",
			Doc: "Whether clients speak TLS. The keys certificate to min_version say how; what they leave out is as tls says.",
		}.flag(func(l *Listener) *bool { return &l.Encrypted }),
	}, tlsFields("", inherit, func(l *Listener) *TLS { return &l.TLS }), []option{
		option{Key: "connections", Default: "unlimited",
			Doc:   "How many connections may be open by it at once. limits.connections holds besides, for all together.",
			Shows: "the connection is closed at once; firth_mqtt_listener_refused_total",
		}.number(func(l *Listener) *int { return &l.Connections }, 1, 10_000_000),
		option{Key: "packet", Default: "unlimited",
			Doc:   "The largest MQTT packet that a device may send by it; unlimited: what limits.packet says, and never more.",
			Shows: "as for limits.packet",
		}.size(func(l *Listener) *int64 { return &l.Packet }, 1*kib, 256*mib-1, "unlimited"),
	}, rateOptions("", " unlimited: as limits says.", func(l *Listener) *Rates { return &l.Rates }))
}

// mode is the permissions of a file.
func (o OptionOf[C]) mode(field func(*C) *fs.FileMode) OptionOf[C] {
	o.Type = "octal number"
	o.parse = func(c *C, s string) error {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > 0o777 {
			return fmt.Errorf("%q is not an octal number from 0000 to 0777", s)
		}
		*field(c) = fs.FileMode(n)
		return nil
	}
	o.show = func(c *C) string { return fmt.Sprintf("%04o", *field(c)) }
	return o
}

// number is a count that may be without a bound: "unlimited".
func (o OptionOf[C]) number(field func(*C) *int, low, high int) OptionOf[C] {
	const none = "unlimited"
	o = o.count(field, low, high)
	o.Bounds += ", or " + none
	parse, show := o.parse, o.show
	o.parse = func(c *C, s string) error {
		if s == none {
			*field(c) = unlimited
			return nil
		}
		return parse(c, s)
	}
	o.show = func(c *C) string {
		if *field(c) == unlimited {
			return none
		}
		return show(c)
	}
	return o
}

func checkListener(l *Listener) (field string, err error) {
	isUnix := strings.HasPrefix(l.Address, unixPrefix)
	switch {
	case l.Address == "":
		return "address", errors.New("off: leave the listener out instead")
	case !isUnix && l.Mode != 0o660:
		return "mode", errors.New("only a Unix socket has one")
	case !l.Encrypted && l.TLS != TLS{ClientAuth: inherit, MinVersion: inherit}:
		return "tls", errors.New("is not true, and the certificate and the like would mean nothing")
	}
	return "", nil
}

const listenersManual = "```yaml" + `
listeners:
  - { name: plant, address: "127.0.0.1:1884", connections: 500, packet: 64KiB }
  - { name: field, address: "127.0.0.1:1886", connect_rate: 100, message_rate: 50, byte_rate: 64KiB }
  - { name: balanced, address: "127.0.0.1:1885", proxy: true }
  - { name: outside, address: "0.0.0.0:8883", tls: true, client_auth: require, client_ca: /etc/firth/devices-ca.pem }
  - { kind: ws, address: "unix:/run/firth/ws.sock", mode: "0666" }
` + "```" + `

`
