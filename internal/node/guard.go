package node

import (
	"io/fs"
	"net"
	"net/netip"
	"strings"
)

// checkWhole looks at what no single option can tell: the doors against each other and the outside, and bounds.
func (l *loader) checkWhole() {
	l.checkGateway()
	taken, names := map[string]string{}, map[string]bool{"mqtt": true, "ws": true, "mqtts": true, "wss": true}
	for _, d := range l.config.doors() {
		at := l.origin(d.key)
		if d.own != nil {
			at = l.entries[d.key][d.entry]
			if names[d.label()] {
				l.report(at, "%s: two are called %s", d.key, d.label())
			}
			names[d.label()] = true
		}
		if other := taken[d.address]; other != "" && !anyPort(d.address) {
			l.report(at, "%s: %s is taken by %s already", d.key, d.address, other)
		}
		taken[d.address] = d.key
		l.checkTLS(&d, at)
		if !l.config.mayListen(&d) {
			l.report(at, "%s: %s", d.key, refuseRemote(d.address))
		}
	}
	l.checkBridges()
	l.checkWebhooks()
	const least = "groups.min_session_timeout"
	switch g := &l.config.Groups; {
	case g.MinSessionTimeout <= g.MaxSessionTimeout:
	case l.config.origins[least] == Origin{}:
		g.MinSessionTimeout = g.MaxSessionTimeout // nobody asked for the default
	default:
		l.report(l.origin(least), "%s: %s is above groups.max_session_timeout, %s", least,
			formatDuration(g.MinSessionTimeout), formatDuration(g.MaxSessionTimeout))
	}
	l.checkConsumers()
	l.checkService()
	l.checkOIDC()
}

// checkConsumers holds the heartbeats of consumers against their sessions. Of the two, the one that nobody gave yields.
func (l *loader) checkConsumers() {
	const session, beat = "groups.consumer_session_timeout", "groups.consumer_heartbeat_interval"
	switch g := &l.config.Groups; {
	case g.ConsumerHeartbeatInterval < g.ConsumerSessionTimeout:
	case l.config.origins[beat] == Origin{}:
		g.ConsumerHeartbeatInterval = g.ConsumerSessionTimeout / 3
	case l.config.origins[session] == Origin{}:
		g.ConsumerSessionTimeout = 3 * g.ConsumerHeartbeatInterval
	default:
		l.report(l.origin(beat), "%s: %s is not below %s, %s", beat,
			formatDuration(g.ConsumerHeartbeatInterval), session, formatDuration(g.ConsumerSessionTimeout))
	}
}

// refuseRemote says why a door does not listen beyond loopback, and what to do.
func refuseRemote(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		port = "PORT"
	}
	return address + " can be reached from other machines, and nothing asks who is there: anybody could read " +
		"and write everything. firth expose --address HOST opens it with TLS and logins. Or use 127.0.0.1:" + port +
		", client_auth: require, or set allow_remote_without_auth: true where the network itself keeps strangers out"
}

// mayListen tells whether a door may have its address.
func (c *Config) mayListen(d *door) bool {
	return isLoopback(d.address) || c.AllowRemoteWithoutAuth || c.asksWho(d)
}

// origin is the spot that the value of a key came from.
func (l *loader) origin(key string) spot {
	o := l.config.Origin(key)
	s := spot{place: o.String()}
	if o.Source == "file" {
		s.line, s.column = position(o.Place)
	}
	return s
}

// door is one address that a node may listen on.
type door struct {
	name, key, address string
	tls                bool
	own                *Listener // of listeners; nil: there are no limits of its own
	entry              int       // which one of its key
}

// doors are all addresses that a node listens on; one that is off is not among them.
func (c *Config) doors() (all []door) {
	add := func(name, addresses string, tls bool) {
		for i, one := range splitList(addresses) {
			d := door{name: name, address: one, tls: tls, entry: i}
			d.key = "listen." + d.label()
			all = append(all, d)
		}
	}
	add("mqtt", c.Listen.MQTT, false)
	add("ws", c.Listen.WS, false)
	if !c.isGateway() {
		add("kafka", c.Listen.Kafka, false)
	}
	add("http", c.Listen.HTTP, false)
	add("mqtt", c.Listen.MQTTS, true)
	add("ws", c.Listen.WSS, true)
	if !c.isGateway() {
		add("kafka", c.Listen.Kafkas, true)
	}
	add("http", c.Listen.HTTPS, true)
	for i := range c.Listeners {
		l := &c.Listeners[i]
		all = append(all, door{name: l.Kind, key: "listeners", address: l.Address, tls: l.Encrypted, own: l, entry: i})
	}
	return all
}

// label is what metrics and log lines call it.
func (d *door) label() string {
	switch {
	case d.own != nil:
		return d.own.label()
	case d.tls:
		return d.name + "s"
	}
	return d.name
}

// socketMode is the mode of a Unix socket.
func (d *door) socketMode() fs.FileMode {
	if d.own == nil {
		return defaultSocketMode
	}
	return d.own.Mode
}

const defaultSocketMode = 0o660

func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

// isLoopback tells whether only this machine reaches an address. A name other than localhost is not
// looked up: it fails closed. localhost is not looked up either, see listen.
func isLoopback(address string) bool {
	if strings.HasPrefix(address, unixPrefix) || strings.HasPrefix(address, "/") {
		return true // a Unix socket
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == localhost {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
