package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/node"
)

// serveVariable has this program be a server on a disk that can be made to fail: it holds the settings, a line each.
const serveVariable = "TORTURE_SERVE"

// healed is the line by which all faults are taken away.
const healed = "heal"

// serveOnFaulty is firth serve on a vfs.Faulty around the real disk. Standard input says what goes wrong: a vfs.Fault
// in a line of JSON, or healed.
func serveOnFaulty(set []string) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	load := func() (*node.Config, error) {
		var l node.Loader
		for _, text := range set {
			l.Flags = append(l.Flags, node.Assignment{Flag: "--set", Text: text})
		}
		c, err := l.Load()
		if err != nil {
			return nil, err
		}
		disk, err := vfs.NewDisk(c.Data)
		if err != nil {
			return nil, err
		}
		faulty := vfs.NewFaulty(disk)
		c.FS = faulty
		go obey(faulty)
		return c, nil
	}
	p := node.Process{Load: load, Out: os.Stdout, Err: os.Stderr, JSON: true, Signals: signals}
	if err := node.Run(context.Background(), p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// obey does what standard input says until it ends.
func obey(disk *vfs.Faulty) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var f vfs.Fault
		if in.Text() == healed {
			disk.Heal()
		} else if err := json.Unmarshal(in.Bytes(), &f); err != nil {
			panic(err)
		} else {
			disk.Inject(f)
		}
	}
}

// launchFaulty prepares this program as the server.
func (s *server) launchFaulty(set []string) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.cmd = exec.Command(self)
	s.cmd.Env = append(os.Environ(), serveVariable+"="+strings.Join(set, "\n"))
	s.disk, err = s.cmd.StdinPipe()
	return err
}

// inject has the disk fail.
func (s *server) inject(f vfs.Fault) error {
	line, err := json.Marshal(f)
	if err == nil {
		_, err = s.disk.Write(append(line, '\n'))
	}
	return err
}

// heal takes away what inject did.
func (s *server) heal() error {
	_, err := s.disk.Write([]byte(healed + "\n"))
	return err
}
