package handover

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Command is how the next process is started.
type Command struct {
	Program  string   // a path, or a name to look for in PATH: looked up at Start
	Args     []string // without the program
	Env      []string
	Out, Err io.Writer // what it writes; files are passed on as they are
}

// Event is what the next process does.
type Event uint8

// The events, in the order in which they come. Ended comes last, whatever came before.
const (
	Prepared Event = iota + 1
	Serving
	Ended
)

// Next is the process that takes the place of this one.
type Next struct {
	cmd    *exec.Cmd
	tell   io.WriteCloser
	events chan Event
	err    error // what it ended with
}

// Start starts the next process and passes the sockets on; they stay open here. Errors: NotFound (there is no such
// program), Unsupported (not on this system), IO.
func Start(c Command, sockets []Socket) (*Next, error) {
	about, err := json.Marshal(sockets)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "handover", err)
	}
	hears, tell, err := os.Pipe()
	if err != nil {
		return nil, fault.Wrap(fault.IO, "handover", err)
	}
	said, says, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.IO, "handover", err), hears.Close(), tell.Close())
	}
	n := &Next{cmd: exec.Command(c.Program, c.Args...), tell: tell, events: make(chan Event, Ended)}
	n.cmd.Env = append(without(c.Env), Variable+"="+strconv.Itoa(len(sockets)))
	n.cmd.Stdout, n.cmd.Stderr = c.Out, c.Err
	n.cmd.ExtraFiles = []*os.File{hears, says}
	for _, s := range sockets {
		n.cmd.ExtraFiles = append(n.cmd.ExtraFiles, s.File)
	}
	err = n.cmd.Start()
	ours := errors.Join(hears.Close(), says.Close()) // it has its own
	if err != nil {
		return nil, errors.Join(explain(c.Program, err), ours, tell.Close(), said.Close())
	}
	go n.listen(said)
	n.say(string(about))
	return n, nil
}

func explain(program string, err error) error {
	kind := fault.IO
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		kind = fault.NotFound
	case errors.Is(err, errors.ErrUnsupported):
		kind = fault.Unsupported
	}
	return fault.New(kind, "handover", "%s cannot be started: %w", program, err)
}

// say tells it something. If it does not hear, it has ended, which is an event.
func (n *Next) say(what string) { _, _ = io.WriteString(n.tell, what+"\n") }

// listen hears what the next process says, until it ends.
func (n *Next) listen(said io.ReadCloser) {
	heard, next := lines(said), Prepared
	words := map[Event]string{Prepared: saysPrepared, Serving: saysServing}
	for heard.Scan() {
		if heard.Text() == words[next] {
			n.events <- next // there is room for each of them once
			next++
		}
	}
	n.err = n.cmd.Wait()
	_ = said.Close() // it was read to its end
	n.events <- Ended
}

// PID is its number.
func (n *Next) PID() int { return n.cmd.Process.Pid }

// Events tells what it does. After Ended nothing comes.
func (n *Next) Events() <-chan Event { return n.events }

// Err is what it ended with, once it has: nil for exit code 0.
func (n *Next) Err() error { return n.err }

// Go tells it that this process has let go of everything but the sockets.
func (n *Next) Go() { n.say(saysGo) }

// Bye tells it that this process ends now. It is not looked after any more.
func (n *Next) Bye() { n.say(saysBye) }

// Signal sends it a signal. One that has ended hears nothing.
func (n *Next) Signal(s os.Signal) { _ = n.cmd.Process.Signal(s) }
