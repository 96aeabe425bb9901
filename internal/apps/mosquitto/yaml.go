package mosquitto

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// quoted is a text as YAML takes it.
func quoted(text string) string { return strconv.Quote(text) }

// YAML is the translation as a firth.yaml, with a comment behind each key that says where it comes from.
func (t *Translation) YAML() []byte {
	var b strings.Builder
	b.WriteString("# Translated from a mosquitto.conf.\n")
	if len(t.doors) > 0 {
		b.WriteString("listen:\n  mqtt: []\n  ws: []\nlisteners:\n")
		for _, at := range t.doors {
			fmt.Fprintf(&b, "  - %s # %s\n", at.flow(), at.from)
		}
	}
	if t.open {
		b.WriteString("allow_remote_without_auth: true # allow_anonymous\n")
	}
	if len(t.bridges) > 0 {
		b.WriteString("bridges:\n")
		for _, at := range t.bridges {
			b.WriteString(at.block())
		}
	}
	keys := slices.Clone(t.keys)
	slices.SortStableFunc(keys, func(a, b setting) int { return cmp.Compare(room(a.key), room(b.key)) })
	last := ""
	for _, s := range keys {
		key, indent := s.key, ""
		if of, rest, in := strings.Cut(s.key, "."); in {
			if key, indent = rest, "  "; of != last {
				fmt.Fprintf(&b, "%s:\n", of)
			}
			last = of
		}
		fmt.Fprintf(&b, "%s%s: %s # %s\n", indent, key, s.value, s.from)
	}
	return []byte(b.String())
}

// room is the part of a key in which it stands; those without any come first.
func room(key string) string {
	of, _, in := strings.Cut(key, ".")
	if !in {
		return ""
	}
	return of
}

// String is the directive as it was written, without secrets, and where.
func (d Directive) String() string {
	text := d.Name
	if !secret(d.Name) {
		text = strings.TrimSpace(d.Name + " " + d.Value)
	}
	if d.File == "" {
		return text
	}
	return text + ", " + d.Place.String()
}

// flow is a listener in one line.
func (at *door) flow() string {
	address := "unix:" + at.unix
	if at.unix == "" {
		host := at.everywhere()
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		address = host + ":" + at.port
	}
	s := "{ address: " + quoted(address)
	if at.ws {
		s += ", kind: ws"
	}
	if at.proxy {
		s += ", proxy: true"
	}
	if at.most != "" {
		s += ", connections: " + at.most
	}
	if at.tls {
		s += ", tls: true" + at.files()
	}
	return s + " }"
}

// files are the keys of a listener with TLS. Without client certificates their authorities mean nothing.
func (at *door) files() string {
	var b strings.Builder
	for i, value := range at.shows {
		if needed := at.shows[itsDemand] != "" || i != itsAuthorities && i != itsCRL; value != "" && needed {
			fmt.Fprintf(&b, ", %s: %s", shown[i], quoted(value))
		}
	}
	return b.String()
}

// everywhere is the host to listen on: without one that is every address, of the family that socket_domain says.
func (at *door) everywhere() string {
	switch {
	case at.host == "" && at.domain == "ipv4":
		return "0.0.0.0"
	case at.host == "" && at.domain == "ipv6":
		return "::"
	}
	return at.host
}
