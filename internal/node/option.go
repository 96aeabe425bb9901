package node

import (
	"errors"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/names"
)

// Option describes one key of the configuration. The file, the environment, --set, `config print` and
// docs/configuration.md all work from the same list.
type Option = OptionOf[Config]

// OptionOf describes one value of a C: of the configuration, or of an entry of one of its lists.
type OptionOf[C any] struct {
	Key     string // as in the file, with dots: "listen.mqtt"
	Type    string // what a value looks like, for people: "address", "size", "disk | memory"
	Default string
	Doc     string // a sentence or two: what it does, in which unit
	Bounds  string // what is allowed, for people; empty if Type says it all
	Shows   string // of a limit: what a client sees when it meets it
	Reload  bool   // SIGHUP changes it without a restart

	parse   func(c *C, text string) error // nil for a list of objects
	show    func(c *C) string             // the value as parse takes it
	bare    bool                          // JSON prints the value without quotes
	list    bool                          // the file may hold a list of words; the text has commas
	listing listing                       // of a list of objects
	items   items[C]                      // the same, within an entry of a list
}

// listing is a list of objects in the configuration.
type listing interface {
	// read reads the list; at tells where a piece of it stands.
	read(l *loader, n ast.Node, at func(ast.Node) spot)
	// rows prints each entry as one JSON object, which is YAML too.
	rows(c *Config) []string
	// manual says what an entry looks like.
	manual() string
}

// objects completes an option that is a list of objects.
func objects(o Option, list listing) Option {
	o.Default, o.bare, o.listing = "[]", true, list
	o.show = func(c *Config) string { return "[" + strings.Join(list.rows(c), ",") + "]" }
	return o
}

// Env is the name of the option's environment variable: FIRTH_LISTEN_MQTT for listen.mqtt.
func (o *OptionOf[C]) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.Key, ".", "_"))
}

const envPrefix = "FIRTH_"

// Each function below completes an option with the reading, printing and bounds of one kind of value.

func (o OptionOf[C]) text(field func(*C) *string, check func(string) error) OptionOf[C] {
	o.parse = func(c *C, s string) error {
		if err := check(s); err != nil {
			return err
		}
		*field(c) = s
		return nil
	}
	o.show = func(c *C) string { return *field(c) }
	return o
}

func (o OptionOf[C]) choice(field func(*C) *string, allowed ...string) OptionOf[C] {
	o.Type = strings.Join(allowed, " | ")
	return o.text(field, func(s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("%q is not one of %s%s", s, strings.Join(allowed, ", "), didYouMean(s, allowed))
		}
		return nil
	})
}

func (o OptionOf[C]) flag(field func(*C) *bool) OptionOf[C] {
	o.Type, o.bare = "true | false", true
	o.parse = func(c *C, s string) error {
		if s != "true" && s != "false" {
			return fmt.Errorf("%q is not true or false", s)
		}
		*field(c) = s == "true"
		return nil
	}
	o.show = func(c *C) string { return strconv.FormatBool(*field(c)) }
	return o
}

func (o OptionOf[C]) count(field func(*C) *int, low, high int) OptionOf[C] {
	o.Type, o.bare, o.Bounds = "whole number", true, fmt.Sprintf("%d to %d", low, high)
	o.parse = func(c *C, s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number (%s)", s, o.Bounds)
		}
		if n < int64(low) || n > int64(high) {
			return fmt.Errorf("%s is out of range (%s)", s, o.Bounds)
		}
		*field(c) = int(n)
		return nil
	}
	o.show = func(c *C) string { return strconv.Itoa(*field(c)) }
	return o
}

// size is a number of bytes; with none, the word for no bound ("unlimited"), it may be without one.
func (o OptionOf[C]) size(field func(*C) *int64, low, high int64, none string) OptionOf[C] {
	o.Type, o.Bounds = "size", formatSize(low)+" to "+formatSize(high)
	if none != "" {
		o.Bounds += ", or " + none
	}
	o.parse = func(c *C, s string) error {
		if none != "" && s == none {
			*field(c) = unlimited
			return nil
		}
		n, err := parseSize(s)
		if err != nil {
			return err
		}
		if n < low || n > high {
			return fmt.Errorf("%s is out of range (%s)", s, o.Bounds)
		}
		*field(c) = n
		return nil
	}
	o.show = func(c *C) string {
		if *field(c) == unlimited {
			return none
		}
		return formatSize(*field(c))
	}
	return o
}

// span is a length of time; with none, the word for no end ("forever"), it may be without one.
func (o OptionOf[C]) span(field func(*C) *time.Duration, low, high time.Duration, none string) OptionOf[C] {
	o.Type, o.Bounds = "time", formatDuration(low)+" to "+formatDuration(high)
	if none != "" {
		o.Bounds += ", or " + none
	}
	o.parse = func(c *C, s string) error {
		if none != "" && s == none {
			*field(c) = forever
			return nil
		}
		d, err := parseDuration(s)
		if err != nil {
			return err
		}
		if d < low || d > high {
			return fmt.Errorf("%s is out of range (%s)", s, o.Bounds)
		}
		*field(c) = d
		return nil
	}
	o.show = func(c *C) string {
		if *field(c) == forever {
			return none
		}
		return formatDuration(*field(c))
	}
	return o
}

// addresses is a list of addresses, or off. It may hold Unix sockets.
func (o OptionOf[C]) addresses(field func(*C) *string) OptionOf[C] {
	o.Type, o.list = "list of addresses", true
	return o.addressBy(field, parseListens)
}

// hosts is a list of addresses without Unix sockets, or off.
func (o OptionOf[C]) hosts(field func(*C) *string) OptionOf[C] {
	o.Type, o.list = "list of TCP addresses", true
	return o.addressBy(field, func(s string) (string, error) { return parseEach(s, parseListen) })
}

func (o OptionOf[C]) addressBy(field func(*C) *string, parse func(string) (string, error)) OptionOf[C] {
	o.parse = func(c *C, s string) error {
		address, err := parse(s)
		if err == nil {
			*field(c) = address
		}
		return err
	}
	o.show = func(c *C) string {
		if *field(c) == "" {
			return "off"
		}
		return *field(c)
	}
	return o
}

// unixPrefix begins the address of a Unix socket; its path follows.
const unixPrefix = "unix:"

// maxUnixPath is the longest path of a Unix socket: the system has 108 bytes for it, and a zero behind it.
const maxUnixPath = 107

// parseListens reads addresses with commas between them, Unix sockets too.
func parseListens(s string) (string, error) { return parseEach(s, parseSocket) }

func parseEach(s string, parse func(string) (string, error)) (string, error) {
	if s == "" || s == "off" {
		return "", nil
	}
	var all []string
	for _, one := range splitList(s) {
		address, err := parse(one)
		if err != nil {
			return "", err
		}
		if address == "" {
			return "", fmt.Errorf("%q stands alone: there is nothing to turn off beside other addresses", one)
		}
		all = append(all, address)
	}
	return strings.Join(all, ","), nil
}

// parseSocket is parseListen for what may be a Unix socket, too.
func parseSocket(s string) (string, error) {
	path, isUnix := strings.CutPrefix(s, unixPrefix)
	switch {
	case !isUnix:
		return parseListen(s)
	case !filepath.IsAbs(path):
		return "", fmt.Errorf("%q is no absolute path of a Unix socket (example: unix:/run/firth/mqtt.sock)", s)
	case len(path) > maxUnixPath:
		return "", fmt.Errorf("the path of a Unix socket has at most %d bytes, this one has %d", maxUnixPath, len(path))
	}
	return unixPrefix + filepath.Clean(path), nil
}

// parseListen gives the address to listen on as host:port, or "" for none.
func parseListen(s string) (string, error) {
	if s == "" || s == "off" {
		return "", nil
	}
	if _, err := strconv.Atoi(s); err == nil {
		s = net.JoinHostPort(localhost, s)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, " /") {
		return "", fmt.Errorf("%q is not an address (examples: localhost:1883, 1883 for a port on localhost, off)", s)
	}
	if err := checkPort(port, 0); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

func checkPort(port string, low int) error {
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil || n < uint64(low) || n > 65535 {
		return fmt.Errorf("port %q is not a number from %d to 65535", port, low)
	}
	return nil
}

func checkAdvertise(s string) error {
	if s == "auto" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || strings.ContainsAny(host, " /") {
		return fmt.Errorf("%q is neither auto nor host:port (example: broker.example.org:9092)", s)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("%q is an address to listen on; clients need one that they can connect to", s)
	}
	return checkPort(port, 1)
}

// checkSeen refuses what nobody sees in a value: white space of any kind at its ends, as a variable or a copied line
// brings it along, and anywhere in it control characters and those without a width.
func checkSeen(s string) error {
	unseen := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	switch {
	case strings.TrimFunc(s, unicode.IsSpace) != s:
		return fmt.Errorf("%+q begins or ends with white space", s)
	case strings.ContainsFunc(s, unseen):
		return fmt.Errorf("%+q has a character that cannot be seen", s)
	}
	return nil
}

func checkPath(s string) error {
	if s == "" {
		return errors.New("an empty path; the data needs a folder")
	}
	return nil
}

func checkOrigins(s string) error {
	for _, pattern := range splitList(s) {
		if strings.Contains(pattern, "/") {
			return fmt.Errorf("%q is not host[:port]; leave out http:// and any path", pattern)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%q is not a pattern: %w", pattern, err)
		}
	}
	return nil
}

// checkTopicPrefix wants the beginning of a topic name.
func checkTopicPrefix(s string) error {
	if s == "" {
		return nil
	}
	if err := names.CheckName([]byte(s)); err != nil {
		return fmt.Errorf("%q is not the beginning of a topic name: %w", s, err)
	}
	if s[0] == '$' {
		return fmt.Errorf("%q begins with $; devices do not publish there", s)
	}
	return nil
}

func checkReference(s string) error {
	const longest = 1000
	if len(s) > longest {
		return fmt.Errorf("%d bytes are too many, at most %d", len(s), longest)
	}
	return nil
}

// splitList gives the words of a list with commas.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func checkCatchAll(s string) error {
	_, err := hinge.New(nil, hinge.Options{CatchAll: s})
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return errors.New(strings.TrimPrefix(f.Err.Error(), "catch-all: "))
	}
	if s == "" {
		return errors.New("an empty name")
	}
	return err
}
