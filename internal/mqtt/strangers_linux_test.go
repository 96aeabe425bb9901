package mqtt_test

import (
	"net"
	"syscall"
	"testing"

	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// bare is the descriptor of a client that is nothing else, so that memory is that of our side. Who asks closes it.
func (h *house) bare(t *testing.T) (fd int) {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0); err != nil {
		t.Fatal(err)
	}
	to := &syscall.SockaddrInet4{Port: address.Port, Addr: [4]byte{127, 0, 0, 1}}
	if err := syscall.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestIdleStrangers: whatever those send whose CONNECT is not whole, all together hold a bounded part of the memory of
// the door. Who says CONNECT meanwhile is let in, and so is one with a large CONNECT once they are gone.
func TestIdleStrangers(t *testing.T) {
	for name, sent := range map[string]int{"half a CONNECT": 1200, "a part of one": 15_000, "most of one": 240_000} {
		t.Run(name, func(t *testing.T) { idleStrangers(t, sent) })
	}
}

func idleStrangers(t *testing.T, sent int) {
	const budget, most = 32 << 20, 4 << 20 // one eighth
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set; o.BudgetBytes = budget; o.ConnectTimeout = patience })
	hello := largeConnect("stranger", 250_000)
	strangers := make([]int, crowd(t))
	before := inUse()
	for i := range strangers {
		strangers[i] = h.bare(t)
		writeAll(strangers[i], hello[:sent])
	}
	client := h.connect(t, packet.V5, "", nil)
	client.quiet()
	held, each := sample(set, heldBytes), (inUse()-before)/int64(len(strangers))
	t.Logf("%d strangers hold %v bytes of the budget, and %d bytes of memory each", len(strangers), held, each)
	if held > most*5/4 { // several may see the same room
		t.Errorf("strangers hold %v bytes of the budget, want %d at most", held, most)
	}
	if each > 8<<10+most/int64(len(strangers)) && !race.Detector {
		t.Errorf("a stranger takes %d bytes", each)
	}
	client.net.Close()
	for _, fd := range strangers {
		syscall.Close(fd)
	}
	eventually(t, "they are gone", func() bool { return h.door.Stats().Connections == 0 && sample(set, heldBytes) == 0 })
	late := h.dial(t)
	late.v, late.dec = packet.V5, packet.Decoder{Version: packet.V5, Client: true}
	late.bytes(hello)
	if ack := want[*packet.Connack](late); ack.Reason != packet.Success {
		t.Errorf("CONNACK %s to a large CONNECT", ack.Reason)
	}
}

// crowd is how many strangers a test has: as many as the files allow that may be open, up to 10,000.
func crowd(t *testing.T) int {
	t.Helper()
	if race.Detector || testing.Short() {
		return 500
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	return int(min(10_000, files.Cur/2-200))
}

// writeAll writes until the server has ended the connection.
func writeAll(fd int, b []byte) {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		if err != nil {
			return
		}
		b = b[n:]
	}
}
