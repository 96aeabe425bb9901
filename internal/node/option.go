package node

import (
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Option describes one key of the configuration. The file, the environment, --set, `config print` and
// docs/configuration.md all work from the same list.
type Option struct {
	Key     string // as in the file, with dots: "listen.mqtt"
	Type    string // what a value looks like, for people: "address", "size", "disk | memory"
	Default string
	Doc     string // a sentence or two: what it does, in which unit
	Bounds  string // what is allowed, for people; empty if Type says it all
	Shows   string // of a limit: what a client sees when it meets it
	Reload  bool   // SIGHUP changes it without a restart

	parse func(c *Config, text string) error // nil for a list
	show  func(c *Config) string             // the value as parse takes it
	bare  bool                               // JSON prints the value without quotes
	list  bool                               // the file may hold a list of words; the text has commas
}

// Env is the name of the option's environment variable: FIRTH_LISTEN_MQTT for listen.mqtt.
func (o *Option) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.Key, ".", "_"))
}

const envPrefix = "FIRTH_"

// Each function below completes an option with the reading, printing and bounds of one kind of value.

func (o Option) text(field func(*Config) *string, check func(string) error) Option {
	o.parse = func(c *Config, s string) error {
		if err := check(s); err != nil {
			return err
		}
		*field(c) = s
		return nil
	}
	o.show = func(c *Config) string { return *field(c) }
	return o
}

func (o Option) choice(field func(*Config) *string, allowed ...string) Option {
	o.Type = strings.Join(allowed, " | ")
	return o.text(field, func(s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("%q is not one of %s%s", s, strings.Join(allowed, ", "), didYouMean(s, allowed))
		}
		return nil
	})
}

func (o Option) flag(field func(*Config) *bool) Option {
	o.Type, o.bare = "true | false", true
	o.parse = func(c *Config, s string) error {
		if s != "true" && s != "false" {
			return fmt.Errorf("%q is not true or false", s)
		}
		*field(c) = s == "true"
		return nil
	}
	o.show = func(c *Config) string { return strconv.FormatBool(*field(c)) }
	return o
}

func (o Option) count(field func(*Config) *int, low, high int) Option {
	o.Type, o.bare, o.Bounds = "whole number", true, fmt.Sprintf("%d to %d", low, high)
	o.parse = func(c *Config, s string) error {
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
	o.show = func(c *Config) string { return strconv.Itoa(*field(c)) }
	return o
}

// size is a number of bytes; with none, the word for no bound ("unlimited"), it may be without one.
func (o Option) size(field func(*Config) *int64, low, high int64, none string) Option {
	o.Type, o.Bounds = "size", formatSize(low)+" to "+formatSize(high)
	if none != "" {
		o.Bounds += ", or " + none
	}
	o.parse = func(c *Config, s string) error {
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
	o.show = func(c *Config) string {
		if *field(c) == unlimited {
			return none
		}
		return formatSize(*field(c))
	}
	return o
}

// span is a length of time; with none, the word for no end ("forever"), it may be without one.
func (o Option) span(field func(*Config) *time.Duration, low, high time.Duration, none string) Option {
	o.Type, o.Bounds = "time", formatDuration(low)+" to "+formatDuration(high)
	if none != "" {
		o.Bounds += ", or " + none
	}
	o.parse = func(c *Config, s string) error {
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
	o.show = func(c *Config) string {
		if *field(c) == forever {
			return none
		}
		return formatDuration(*field(c))
	}
	return o
}

// address is host:port, a bare port on localhost, or off.
func (o Option) address(field func(*Config) *string) Option {
	o.Type = "address"
	o.parse = func(c *Config, s string) error {
		address, err := parseListen(s)
		if err == nil {
			*field(c) = address
		}
		return err
	}
	o.show = func(c *Config) string {
		if *field(c) == "" {
			return "off"
		}
		return *field(c)
	}
	return o
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
