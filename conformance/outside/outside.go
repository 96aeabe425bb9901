// Package outside is for tests that see Firth from outside: it builds the binary, hears when it serves, and speaks to
// it in raw frames.
package outside

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds firth in a folder and gives the path of it, unless FIRTH in the environment names one. Errors: what the
// compiler says.
func Build(dir string) (string, error) {
	if name := os.Getenv("FIRTH"); name != "" {
		return filepath.Abs(name)
	}
	name := filepath.Join(dir, "firth")
	cmd := exec.Command("go", "build", "-o", name, "github.com/firthmq/firth/cmd/firth")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return name, nil
}

// Addresses are where a process serves, as host:port; "" for a door that is off.
type Addresses struct{ MQTT, WS, Kafka, HTTP string }

// Serving reads the line by which firth serve -o json tells that it serves. Errors: io.EOF when it ends instead, or
// that the line is another one.
func Serving(stdout *bufio.Reader) (Addresses, error) {
	line, err := stdout.ReadBytes('\n')
	if err != nil {
		return Addresses{}, err
	}
	var ready struct{ Addresses Addresses }
	if err := json.Unmarshal(line, &ready); err != nil {
		return Addresses{}, fmt.Errorf("%s: %w", line, err)
	}
	return ready.Addresses, nil
}

// Ended gives what a process that serves ends with, once it has; what else it writes is read and dropped.
func Ended(cmd *exec.Cmd, stdout io.WriterTo) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, _ = stdout.WriteTo(io.Discard) // an error is its end, too
		ended <- cmd.Wait()
	}()
	return ended
}

// Ask sends a Kafka request, which begins with its size, and gives the answer without its size. Errors: those of the
// connection.
func Ask(c net.Conn, request []byte) (answer []byte, err error) {
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	answer = make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(c, answer)
	return answer, err
}
