package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/firthmq/firth/internal/handover"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// Process is what surrounds a node that is a process of its own.
type Process struct {
	Load      func() (*Config, error) // reads the configuration, again at each SIGHUP
	Out       io.Writer               // gets the addresses and the first commands to try
	Err       io.Writer               // gets the log
	JSON      bool                    // Out gets one line of JSON instead
	ReadyFile string                  // gets the line of JSON once the node serves; empty: no file
	Notify    string                  // NOTIFY_SOCKET of systemd, which hears when the node serves and ends; empty: none
	Signals   <-chan os.Signal        // SIGTERM and SIGINT end the node, SIGHUP reloads, SIGUSR2 hands over
	Given     handover.Given          // what the process was given when it was started
	Next      handover.Command        // starts the process to hand over to; without a program there is none
}

// Run runs a node until a signal, the end of ctx, a fault of a room, or until another process has taken over. A first
// SIGTERM or SIGINT drains and closes; a second one ends at once, as a crash would: what was acknowledged is on disk.
func Run(ctx context.Context, p Process) error {
	c, err := p.Load()
	if err != nil {
		return err
	}
	var level slog.LevelVar
	level.Set(c.Log.slogLevel())
	c.lines = &lastLines{out: p.Err}
	c.Logger = newLogger(c.lines, c.Log.Format, &level)
	defer limitMemory(c.Limits.Memory)()
	if err := p.takeUp(ctx, c); err != nil {
		return err
	}
	for c != nil && err == nil {
		c, err = p.live(ctx, c, &level)
		p.Given = handover.Given{}
	}
	return err
}

// live runs a node until it ends, or another process has its place. With a configuration, that one ended before it
// served, and this one shall again.
func (p Process) live(ctx context.Context, c *Config, level *slog.LevelVar) (again *Config, err error) {
	begin := time.Now()
	c.StandsBy = func(n *Node) {
		if err := p.announceStandby(n, time.Since(begin)); err != nil {
			c.Logger.Warn("nobody was told that this node stands by", "error", err)
		}
	}
	n, err := p.start(ctx, c)
	if err != nil || n == nil {
		return nil, err
	}
	if err := p.announce(n, time.Since(begin)); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	why, next, err := p.wait(ctx, n, level)
	if next != nil {
		return p.handOver(ctx, n, next)
	}
	c.Logger.Info("closing", "because", why)
	p.notify(c.Logger, "STOPPING=1", "closing: "+why)
	_, closed := p.close(n)
	return nil, errors.Join(err, closed)
}

// start starts a node, which may take a while after a crash, and longer where it stands by; a signal to end ends that
// too. Without a node and an error, it stood by until then.
func (p Process) start(ctx context.Context, c *Config) (*Node, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var n *Node
	var standsBy atomic.Bool
	tell := c.StandsBy
	c.StandsBy = func(n *Node) {
		standsBy.Store(true)
		tell(n)
	}
	started := make(chan error, 1)
	go func() {
		var err error
		n, err = Start(ctx, c)
		started <- err
	}()
	for {
		select {
		case err := <-started:
			if errors.Is(err, errDrained) {
				return nil, nil
			}
			return n, err
		case s := <-p.Signals:
			if asksForNext(s) {
				c.Logger.Warn("a node that does not serve yet hands over to nobody")
				continue
			}
			if s == syscall.SIGHUP {
				if standsBy.Load() {
					c.Logger.Warn("a node that stands by reads its configuration again when it is restarted")
				}
				continue // else what was just read is what it asks for
			}
			cancel()
			early := fault.New(fault.Closed, "node.Start", "ended by %s before it served", s)
			if err := <-started; err != nil {
				if standsBy.Load() && fault.Is(err, fault.Closed) {
					return nil, nil
				}
				return nil, early
			}
			return nil, errors.Join(early, n.Close())
		}
	}
}

// wait serves signals until the node shall end, and tells why, or until another process is ready to take over.
func (p Process) wait(ctx context.Context, n *Node, level *slog.LevelVar) (why string, ready *successor, err error) {
	var next *successor
	for {
		select {
		case <-ctx.Done():
			return "the caller is done", nil, nil
		case <-n.Drained():
			return "it was drained", nil, nil
		case err := <-n.Failed():
			return err.Error(), nil, err
		case e := <-next.events():
			switch {
			case e == handover.Prepared && !next.killed:
				return "", next, nil
			case e != handover.Ended:
				continue
			}
			n.log.Error("the process that was to take over ended: this one goes on", "pid", next.PID(), "error", next.failure())
			next = next.dismissed()
		case <-next.late():
			n.log.Error("the process that was to take over does not get ready: it is killed", "pid", next.PID())
			next.kill()
		case s := <-p.Signals:
			switch {
			case s == syscall.SIGHUP:
				p.reload(n, level)
			case !asksForNext(s):
				return s.String(), nil, nil
			case next != nil:
				n.log.Warn("a process that takes over gets ready already", "pid", next.PID())
			default:
				next = p.prepareNext(n)
			}
		}
	}
}

// echo is how long after a signal another one is the same: timeout(1), for one, signals its child and then the group
// that the child is in.
const echo = 500 * time.Millisecond

// close closes the node, unless another signal comes first, which cuts that short.
func (p Process) close(n *Node) (cut bool, err error) {
	begin := time.Now()
	closed := make(chan error, 1)
	go func() { closed <- n.Close() }()
	for {
		select {
		case err := <-closed:
			return false, err
		case s := <-p.Signals:
			if s != syscall.SIGHUP && !asksForNext(s) && time.Since(begin) > echo {
				return true, fault.New(fault.Closed, "node.Close", "ended by a second %s before all was closed", s).
					WithHint("nothing that was acknowledged is lost; the next start recovers")
			}
		}
	}
}

func (p Process) reload(n *Node, level *slog.LevelVar) {
	next, err := p.Load()
	if err == nil {
		var changed, waiting []string
		if changed, waiting, err = n.Reload(next); err == nil {
			level.Set(next.Log.slogLevel())
			n.log.Info("reloaded the configuration", "changed", changed)
			if len(waiting) > 0 {
				n.log.Warn("these keys have changed and wait for a restart", "keys", waiting)
			}
			return
		}
	}
	for line := range strings.Lines(err.Error()) {
		n.log.Error("the new configuration is bad, the old one stays in force", "problem", strings.TrimSpace(line))
	}
}

func (l Log) slogLevel() slog.Level {
	switch l.Level {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// Ready is the line of JSON that a node writes when it serves.
type Ready struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	Data      string    `json:"data"`              // absolute path
	Cluster   string    `json:"cluster"`           // the identity of the log, as Kafka clients see it
	Brokers   string    `json:"brokers,omitempty"` // of a log in Kafka, as they were given
	Addresses Addresses `json:"addresses"`
	More      []Address `json:"listeners,omitempty"` // besides those
	StartMs   float64   `json:"start_ms"`            // from reading the configuration to serving
	StandsBy  bool      `json:"stands_by,omitempty"` // another gateway serves; another line follows when this one does
}

// announce says where the node can be reached, to people and to scripts.
func (p Process) announce(n *Node, took time.Duration) error {
	r := n.ready(took)
	r.Cluster, r.Addresses, r.More = n.keeper.ClusterID(), n.Addresses(), n.more()
	if err := p.tell(r, greeting(r)); err != nil {
		return err
	}
	if b := p.Given.Before; b != nil {
		b.Serving() // it tells the service manager whom to listen to from now on
	}
	p.notify(n.log, "READY=1", r.state())
	return nil
}

// ready is what is known of a node before its log is.
func (n *Node) ready(took time.Duration) Ready {
	return Ready{
		Version: BuildVersion().Version, PID: os.Getpid(), Data: n.folder, Brokers: n.cfg.Log.Kafka.Addresses,
		StartMs: float64(took.Microseconds()) / 1000,
	}
}

// tell tells it to people or to scripts.
func (p Process) tell(r Ready, greeting string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if p.JSON {
		_, err = p.Out.Write(line)
	} else {
		_, err = io.WriteString(p.Out, greeting)
	}
	if err == nil && p.ReadyFile != "" {
		err = writeWhole(p.ReadyFile, line)
	}
	return err
}

// state is how a node is, in a few words.
func (r Ready) state() string {
	if r.StandsBy {
		return "standing by while another gateway serves"
	}
	return fmt.Sprintf("ready in %.0f ms", r.StartMs)
}

// writeWhole writes a file that is either not there or there with all of text.
func writeWhole(name string, text []byte) error {
	folder, err := vfs.OpenDisk(filepath.Dir(name))
	if err != nil {
		return err
	}
	base := filepath.Base(name)
	f, err := folder.Create(base + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return folder.Rename(base+".new", base)
}

// greeting is what a person reads first. The lines of the doors are a name, spaces and host:port or off,
// and stay that way.
func greeting(r Ready) string {
	var b strings.Builder
	a := r.Addresses
	fmt.Fprintf(&b, "firth %s, %s\n\n", r.Version, r.state())
	remote := false
	for _, d := range a.list() {
		fmt.Fprintf(&b, "%-7s%s\n", d.label(), orOff(d.address))
		remote = remote || d.address != "" && !isLoopback(d.address)
	}
	for _, more := range r.More {
		kind := more.Kind
		if more.TLS {
			kind += "s"
		}
		fmt.Fprintf(&b, "%-7s%s\n", kind, more.Address)
		remote = remote || !isLoopback(more.Address)
	}
	fmt.Fprintf(&b, "data   %s\n", r.Data)
	if r.Brokers != "" {
		fmt.Fprintf(&b, "log    Kafka at %s\n", r.Brokers)
	}
	if !remote {
		b.WriteString("\nOnly programs on this machine can connect.\n")
	}
	if a.MQTT != "" && a.Kafka != "" {
		fmt.Fprintf(&b, "\nTry, in another terminal:\n  %s\n  %s\n", tryPublish(a.MQTT), tryConsume(a.Kafka))
	} else if brokers := splitList(r.Brokers); a.MQTT != "" && len(brokers) > 0 {
		fmt.Fprintf(&b, "\nTry, in another terminal:\n  %s\n  %s\n", tryPublish(a.MQTT), tryConsume(brokers[0]))
	}
	return b.String()
}

func orOff(address string) string {
	if address == "" {
		return "off"
	}
	return address
}

func tryPublish(address string) string {
	command := "firth pub -t sensors/room1/temp -m 21.5"
	if host, port, err := net.SplitHostPort(reachable(address)); err == nil {
		if host != "127.0.0.1" {
			command += " -h " + host
		}
		if port != "1883" {
			command += " -p " + port
		}
	}
	return command
}

func tryConsume(address string) string {
	command := "firth consume sensors -o beginning -e -f '%k %s\\n'"
	if at := reachable(address); at != "127.0.0.1:9092" {
		command += " -b " + at
	}
	return command
}

// reachable is an address to connect to for one that may be a wildcard to listen on.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
