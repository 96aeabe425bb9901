package handover

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Given is what a process was given when it was started.
type Given struct {
	Sockets []Socket
	Before  *Before // nil: it takes nobody's place
}

// Receive finds what the process with a number was given: by the one whose place it takes, or by systemd
// (sd_listen_fds(3)). It is called once, before other files are opened. Errors: Invalid, what the environment says and
// what is there differ.
func Receive(env []string, pid int) (Given, error) {
	given := map[string]string{}
	for _, pair := range env {
		if name, value, ok := strings.Cut(pair, "="); ok {
			given[name] = value
		}
	}
	if n, ok := given[Variable]; ok {
		return fromBefore(n)
	}
	if given["LISTEN_PID"] != strconv.Itoa(pid) {
		return Given{}, nil
	}
	return fromSystemd(given["LISTEN_FDS"], given["LISTEN_FDNAMES"])
}

// maxSockets is how many sockets a process may be given.
const maxSockets = 1024

func parseCount(variable, text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n > maxSockets {
		return 0, fault.New(fault.Invalid, variable, "%q is no number of sockets (0 to %d)", text, maxSockets)
	}
	return int(n), nil
}

// inherited is a file that the process has from its start.
func inherited(fd int, name string) (*os.File, error) {
	keepToOurselves(fd)
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return nil, fault.New(fault.Invalid, "handover", "descriptor %d is not there", fd)
	}
	return f, nil
}

// systemdAt is where the sockets begin that systemd passes: SD_LISTEN_FDS_START.
const systemdAt = 3

func fromSystemd(count, names string) (g Given, err error) {
	n, err := parseCount("LISTEN_FDS", count)
	if err != nil {
		return g, err
	}
	named := strings.Split(names, ":")
	for i := range n {
		s := Socket{Lasting: true}
		if i < len(named) {
			s.Name = named[i]
		}
		if s.File, err = inherited(systemdAt+i, s.Name); err != nil {
			return g, err
		}
		g.Sockets = append(g.Sockets, s)
	}
	return g, nil
}

func fromBefore(count string) (g Given, err error) {
	n, err := parseCount(Variable, count)
	if err != nil {
		return g, err
	}
	b := &Before{went: make(chan struct{}), ended: make(chan struct{})}
	heard, err := inherited(heardAt, "from the process before")
	if err != nil {
		return g, err
	}
	if b.tell, err = inherited(spokenAt, "to the process before"); err != nil {
		return g, err
	}
	said := lines(heard)
	if !said.Scan() {
		return g, errLeft
	}
	if err := json.Unmarshal(said.Bytes(), &g.Sockets); err != nil || len(g.Sockets) != n {
		return g, fault.New(fault.Invalid, "handover", "what was said of %d sockets is not understood", n)
	}
	for i := range g.Sockets {
		if g.Sockets[i].File, err = inherited(socketsAt+i, g.Sockets[i].Name); err != nil {
			return g, err
		}
	}
	g.Before = b
	go b.listen(said)
	return g, nil
}

// Before is the process whose place this one takes.
type Before struct {
	tell  io.Writer
	went  chan struct{} // closed when it has let go
	ended chan struct{} // closed when it says no more
}

// errLeft tells that the process before ended without letting go: what becomes of its place is for who started it.
var errLeft = fault.New(fault.Closed, "handover", "the process before ended, or has changed its mind").
	WithHint("whoever looks after it starts another one")

// listen hears what the process before says, until it ends.
func (b *Before) listen(said *bufio.Scanner) {
	defer close(b.ended)
	for said.Scan() {
		if said.Text() == saysGo {
			close(b.went)
			break
		}
	}
	for said.Scan() && said.Text() != saysBye {
		continue
	}
}

func (b *Before) say(what string) error {
	_, err := io.WriteString(b.tell, what+"\n")
	return err
}

// Prepared says that everything is checked, and returns when the process before has let go. Errors: Closed, it ended
// instead; that of ctx.
func (b *Before) Prepared(ctx context.Context) error {
	if b.say(saysPrepared) != nil {
		return errLeft
	}
	select {
	case <-b.went:
		return nil
	case <-b.ended:
		select {
		case <-b.went: // and then it ended
			return nil
		default:
			return errLeft
		}
	case <-ctx.Done():
		return fault.New(fault.Closed, "handover", "ended before the process before had let go: %w", ctx.Err())
	}
}

// farewell is how long a process that serves waits for the one before it to end.
const farewell = 10 * time.Second

// Serving says that this process serves, and returns when the one before has told others so, or is gone.
func (b *Before) Serving() {
	if b.say(saysServing) != nil {
		return // it has ended before: nobody needs to know
	}
	late := time.NewTimer(farewell)
	defer late.Stop()
	select {
	case <-b.ended:
	case <-late.C:
	}
}
