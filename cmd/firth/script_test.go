package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/firthmq/firth/internal/node"
)

// TestMain lets the scripts run this very binary as firth.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"firth": main})
}

// TestScript runs testdata/script/*.txtar. Besides the usual commands a script has
//
//	exits CODE COMMAND...   runs a command and wants this exit code
//	ready FILE              waits for the file that firth serve --ready-file writes; sets MQTT, WS, KAFKA and
//	                        HTTP to the addresses, and MQTTPORT
//	signal NAME FILE        sends TERM, INT or HUP to the process that wrote the file
//	taken                   sets TAKEN to an address of this machine that is in use
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Deadline:            time.Now().Add(5 * time.Minute),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ready": ready, "signal": sendSignal, "taken": taken,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// readReady waits for a ready file: it appears whole.
func readReady(ts *testscript.TestScript, name string) (r node.Ready) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		text, err := os.ReadFile(ts.MkAbs(name))
		if err == nil {
			ts.Check(json.Unmarshal(text, &r))
			return r
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("no %s after a minute", name)
		}
	}
}

func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ready FILE")
	}
	a := readReady(ts, args[0]).Addresses
	ts.Setenv("MQTT", a.MQTT)
	ts.Setenv("WS", a.WS)
	ts.Setenv("KAFKA", a.Kafka)
	ts.Setenv("HTTP", a.HTTP)
	if _, port, err := net.SplitHostPort(a.MQTT); err == nil {
		ts.Setenv("MQTTPORT", port)
	}
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP,
		"KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal TERM|INT|HUP|KILL FILE")
	}
	process, err := os.FindProcess(readReady(ts, args[1]).PID)
	ts.Check(err)
	ts.Check(process.Signal(signals[args[0]]))
}

func taken(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: taken")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv("TAKEN", l.Addr().String())
	_, port, found := strings.Cut(l.Addr().String(), ":")
	if found {
		ts.Setenv("TAKENPORT", port)
	}
}
