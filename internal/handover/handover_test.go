package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// patience is how long a test waits for another process.
const patience = time.Minute

// role says in the environment what this program is instead of the tests.
const role = "HANDOVER_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "next":
		err = beNext()
	case "activated":
		err = beActivated()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// beNext takes over, and serves one connection.
func beNext() error {
	g, err := Receive(os.Environ(), os.Getpid())
	if err != nil {
		return err
	}
	if err := g.Before.Prepared(context.Background()); err != nil {
		return err
	}
	l, err := g.Sockets[0].Listener()
	if err != nil {
		return err
	}
	g.Before.Serving()
	return greet(l, g.Sockets[0].Name+" "+g.Sockets[0].Address)
}

// beActivated serves one connection of each socket that it was given as systemd does.
func beActivated() error {
	g, err := Receive(os.Environ(), os.Getpid())
	if err != nil {
		return err
	}
	for _, s := range g.Sockets {
		l, err := s.Listener()
		if err != nil {
			return err
		}
		if err := greet(l, fmt.Sprint(s.Name, " ", s.Lasting)); err != nil {
			return err
		}
	}
	return nil
}

func greet(l net.Listener, text string) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.WriteString(c, text)
	return err
}

// listener is a socket that nobody accepts by.
func listener(t *testing.T) (net.Listener, Socket) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Duplicate(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); f.Close() })
	return l, Socket{Name: "mqtt", Address: "localhost:1883", File: f}
}

// self is this program in a role.
func self(t *testing.T, as string, args ...string) Command {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Command{Program: program, Args: args, Env: append(os.Environ(), role+"="+as), Out: os.Stdout, Err: os.Stderr}
}

func script(text string) Command { return Command{Program: "/bin/sh", Args: []string{"-c", text}} }

func await(t *testing.T, n *Next, want Event) {
	t.Helper()
	select {
	case got := <-n.Events():
		if got != want {
			t.Fatalf("event %d, want %d: %v", got, want, n.Err())
		}
	case <-time.After(patience):
		t.Fatalf("no event %d", want)
	}
}

// said is what a server says to who has connected.
func said(t *testing.T, c net.Conn) string {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTakesOver: who connects while nobody accepts is served by the next process.
func TestTakesOver(t *testing.T) {
	l, s := listener(t)
	next, err := Start(self(t, "next"), []Socket{s})
	if err != nil {
		t.Fatal(err)
	}
	await(t, next, Prepared)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	next.Go()
	await(t, next, Serving)
	next.Bye()
	if got, want := said(t, c), "mqtt localhost:1883"; got != want {
		t.Errorf("the next process says %q, want %q", got, want)
	}
	if await(t, next, Ended); next.Err() != nil {
		t.Error(next.Err())
	}
}

// TestStillAccepts: a socket that is passed on serves here meanwhile as it did, and can be interrupted.
func TestStillAccepts(t *testing.T) {
	l, s := listener(t)
	next, err := Start(self(t, "next"), []Socket{s})
	if err != nil {
		t.Fatal(err)
	}
	await(t, next, Prepared)
	go greet(l, "the one before")
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := said(t, c); got != "the one before" {
		t.Error(got)
	}
	closed := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		closed <- err
	}()
	go l.Close() // of a socket that blocks it does not return
	select {
	case err := <-closed:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Accept does not end: the socket blocks")
	}
	next.Signal(os.Kill)
	await(t, next, Ended)
}

// TestNextEnds: whatever it says or does not, its end is heard, after all that it said.
func TestNextEnds(t *testing.T) {
	for text, want := range map[string][]Event{
		"exit 3":                   {Ended},
		"echo serving >&4; exit 3": {Ended}, // out of turn
		"echo prepared >&4; echo prepared >&4; echo what >&4; exit 3": {Prepared, Ended},
		"echo prepared >&4; read a <&3; read b <&3; echo serving >&4": {Prepared, Serving, Ended},
	} {
		_, s := listener(t)
		next, err := Start(script(text), []Socket{s})
		if err != nil {
			t.Fatal(err)
		}
		next.Go()
		for _, event := range want {
			await(t, next, event)
		}
		if fails := strings.Contains(text, "exit 3"); fails != (next.Err() != nil) {
			t.Errorf("%s: ended with %v", text, next.Err())
		}
	}
	if _, err := Start(Command{Program: "/nowhere/firth"}, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestBeforeEnds: without a go the next process ends.
func TestBeforeEnds(t *testing.T) {
	_, s := listener(t)
	next, err := Start(self(t, "next"), []Socket{s})
	if err != nil {
		t.Fatal(err)
	}
	await(t, next, Prepared)
	if err := next.tell.Close(); err != nil {
		t.Fatal(err)
	}
	if await(t, next, Ended); next.Err() == nil {
		t.Error("it ended well")
	}
}

// TestActivated: a process takes the sockets that systemd passes, by their names.
func TestActivated(t *testing.T) {
	one, first := listener(t)
	other, second := listener(t)
	c := self(t, "activated")
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, c.Program)
	cmd.Env = append(c.Env, "LISTEN_FDS=2", "LISTEN_FDNAMES=mqtt:kafka")
	cmd.ExtraFiles = []*os.File{first.File, second.File}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		l    net.Listener
		text string
	}{{one, "mqtt true"}, {other, "kafka true"}} {
		c, err := net.Dial("tcp", want.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := said(t, c); got != want.text {
			t.Errorf("%q, want %q", got, want.text)
		}
		c.Close()
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestEnvironment: sockets of another process are not ours, a count that is none is refused, and what was given to this
// process is not given on.
func TestEnvironment(t *testing.T) {
	for _, env := range [][]string{nil, {"LISTEN_FDS=2"}, {"LISTEN_FDS=2", "LISTEN_PID=1"}} {
		if g, err := Receive(env, 77); err != nil || len(g.Sockets) > 0 || g.Before != nil {
			t.Errorf("%v: %v, %v", env, g, err)
		}
	}
	for _, env := range [][]string{
		{"LISTEN_PID=77", "LISTEN_FDS=-1"}, {"LISTEN_PID=77", "LISTEN_FDS=4000"}, {"LISTEN_PID=77", "LISTEN_FDS="},
		{Variable + "=x"}, {Variable + "=1025"},
	} {
		if _, err := Receive(env, 77); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", env, err)
		}
	}
	got := without([]string{
		"A=1", "LISTEN_FDS=1", "LISTEN_PID=2", "LISTEN_FDNAMES=x", Variable + "=3", "NOTIFY_SOCKET=/n",
	})
	if want := []string{"A=1", "NOTIFY_SOCKET=/n"}; !slices.Equal(got, want) {
		t.Errorf("passed on: %v", got)
	}
}
