package node

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// Setting is a key of the configuration and its value.
type Setting struct{ Key, Value string }

// String is the setting as a person says it.
func (s Setting) String() string { return s.Key + ": " + s.Value }

// Exposure is what it takes to let other machines in, by TLS and with logins.
type Exposure struct {
	Config *Config   // as it was
	File   string    // that holds it
	Was    []byte    // what is in it; nil: it is not there
	Text   []byte    // what is to be in it
	Add    []Setting // what it says in Text and not in Was
	Kept   []string  // what it, or another source, says otherwise and goes on to, with the place
	Names  []string  // of the certificate of the server; none: one of the operator is shown
}

// TLS ports, as they are usual.
const (
	mqttsPort  = "8883"
	wssPort    = "8084"
	kafkasPort = "9093"
	httpsPort  = "8443"
)

// Expose finds out what the configuration of a loader lacks to let other machines in at addresses: IP addresses of
// this machine to listen on, or names, for which it listens on all. names are more names that clients connect to. What
// somebody has written stays. Errors: Invalid; Exists, something in the configuration is against it; Unsupported, the
// file is written in a way that nothing can be added to.
func Expose(l Loader, addresses, names []string) (*Exposure, error) {
	src, err := l.sources()
	if err != nil {
		return nil, err
	}
	x := &Exposure{File: cmp.Or(l.File, DefaultFile), Was: src.Text}
	if x.Config, err = loadParts(src); err != nil { // as a whole it may be what this is to mend
		return nil, err
	}
	hosts, err := x.hosts(addresses, names)
	if err != nil {
		return nil, err
	}
	if err := x.settings(x.Config, hosts); err != nil {
		return nil, err
	}
	if x.Text, err = amend(x.Was, x.Add); err != nil {
		return nil, err
	}
	src.File, src.Text = x.File, x.Text
	return x, x.check(src)
}

// hosts are those to listen on; "" stands for all.
func (x *Exposure) hosts(addresses, names []string) (hosts []string, err error) {
	for _, text := range addresses {
		at, err := netip.ParseAddr(strings.Trim(text, "[]"))
		switch {
		case err == nil && !at.IsUnspecified():
			hosts, x.Names = append(hosts, at.String()), append(x.Names, at.WithZone("").String())
		case err == nil:
			hosts = append(hosts, "")
		case strings.ContainsAny(text, ":/ "):
			return nil, fault.New(fault.Invalid, "expose", "%q is neither an address nor a name", text).
				WithHint("the ports are %s, %s, %s and %s; listen.mqtts and the like say others", mqttsPort, wssPort,
					kafkasPort, httpsPort)
		default:
			hosts, x.Names = append(hosts, ""), append(x.Names, text)
		}
	}
	if x.Names = append(x.Names, names...); len(x.Names) == 0 {
		return nil, fault.New(fault.Invalid, "expose", "nothing says what clients connect to").
			WithHint("--address broker.example.org, or --name with it")
	}
	if slices.Contains(hosts, "") {
		hosts = []string{""}
	}
	x.Names = append(x.Names, "localhost", "127.0.0.1", "::1")
	slices.Sort(x.Names[1:])
	x.Names = slices.Compact(x.Names)
	return hosts, nil
}

// settings finds what has to be added.
func (x *Exposure) settings(c *Config, hosts []string) error {
	said := func(key string) bool { return c.Origin(key).Source != "default" }
	add := func(key, value string) {
		if !said(key) {
			x.Add = append(x.Add, Setting{key, value})
			return
		}
		if is := c.show(key); is != value {
			x.Kept = append(x.Kept, fmt.Sprintf("%s (%s)", Setting{key, is}, c.Origin(key)))
		}
	}
	if said("access.anonymous") && c.Access.Anonymous != "deny" {
		return fault.New(fault.Exists, "expose", "%s says access.anonymous: %s, so strangers would be let in",
			c.Origin("access.anonymous"), c.Access.Anonymous).WithHint("write deny there, or take the line out")
	}
	if c.Origin("data").Source == "flag" {
		x.Add = append(x.Add, Setting{"data", c.Data})
	}
	add("access.anonymous", "deny")
	own := filepath.ToSlash(c.ownFile(authority.ServerFile))
	if said("tls.certificate") && c.TLS.Certificate != own {
		x.Names = nil
	}
	add("tls.certificate", own)
	add("tls.key", filepath.ToSlash(c.ownFile(authority.ServerKeyFile)))
	add("tls.client_ca", filepath.ToSlash(c.ownFile(authority.CertificateFile)))
	add("tls.client_auth", "request")
	for _, door := range []Setting{{"listen.mqtts", mqttsPort}, {"listen.wss", wssPort}, {"listen.kafkas", kafkasPort},
		{"listen.https", httpsPort}} {
		if c.isGateway() && door.Key == "listen.kafkas" {
			continue
		}
		var all []string
		for _, host := range hosts {
			all = append(all, net.JoinHostPort(host, door.Value))
		}
		add(door.Key, strings.Join(all, ","))
	}
	return nil
}

// show is the value of a key as text.
func (c *Config) show(key string) string {
	for _, o := range Options() {
		if o.Key == key {
			return o.show(c)
		}
	}
	return ""
}

// check sees that the new text says what it shall, and keeps it.
func (x *Exposure) check(src Sources) error {
	c, err := Load(src)
	if err != nil {
		return fault.New(fault.Unsupported, "expose", "with what it needs, %s would be wrong: %w", x.File, err).
			WithHint("add by hand:\n%s", addition(x.Add))
	}
	for _, s := range x.Add {
		if c.show(s.Key) != s.Value {
			return fault.New(fault.Unsupported, "expose", "%s is written in a way that %s cannot be added to", x.File, s.Key).
				WithHint("add by hand:\n%s", addition(x.Add))
		}
	}
	return nil
}

// Write puts the new text in the place of the old. A file that is there keeps its owner and mode, and may be a link.
// Nothing is done if there is nothing to add.
func (x *Exposure) Write() error {
	if len(x.Add) == 0 {
		return nil
	}
	if x.Was == nil {
		return writeWhole(x.File, x.Text)
	}
	folder, err := vfs.OpenDisk(filepath.Dir(x.File))
	if err != nil {
		return err
	}
	f, err := folder.OpenWrite(filepath.Base(x.File))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(x.Text, 0) // it is longer than what was there
	return errors.Join(err, f.Close())
}

// Addition is what is added, as a file of its own.
func (x *Exposure) Addition() string { return addition(x.Add) }

func addition(add []Setting) string {
	text, _ := amend(nil, add) // nothing is in the way
	return string(text)
}

// amend adds settings to a configuration, line by line: all that is there stays as it is. Errors: Unsupported, a
// section is written on one line.
func amend(text []byte, add []Setting) ([]byte, error) {
	var lines []string
	if len(text) > 0 {
		lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	plain := plainText()
	for _, s := range add {
		section, key, nested := strings.Cut(s.Key, ".")
		value := s.Value
		if !plain.MatchString(value) {
			value = quote(value)
		}
		if !nested {
			lines = append(lines, section+": "+value)
			continue
		}
		at, indent, err := placeIn(lines, section)
		if err != nil {
			return nil, err.WithHint("add by hand:\n%s", addition(add))
		}
		if at < 0 {
			lines = append(lines, section+":")
			at, indent = len(lines), "  "
		}
		lines = slices.Insert(lines, at, indent+key+": "+value)
	}
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// placeIn finds the line behind the last key of a section, and how far its keys are indented; below 0: there is no such
// section.
func placeIn(lines []string, section string) (at int, indent string, bad *fault.Error) {
	at = -1
	for i, line := range lines {
		text := strings.TrimSpace(line)
		switch inside := strings.HasPrefix(line, " "); {
		case text == "" || strings.HasPrefix(text, "#"):
		case at < 0 && strings.HasPrefix(line, section+":"):
			if rest := strings.TrimSpace(line[len(section)+1:]); rest != "" && !strings.HasPrefix(rest, "#") {
				return 0, "", fault.New(fault.Unsupported, "expose", "line %d: %s is written on one line", i+1, section)
			}
			at = i + 1
		case at >= 0 && !inside:
			return at, cmp.Or(indent, "  "), nil
		case at >= 0:
			indent = cmp.Or(indent, line[:len(line)-len(strings.TrimLeft(line, " "))])
			at = i + 1
		}
	}
	return at, cmp.Or(indent, "  "), nil
}
