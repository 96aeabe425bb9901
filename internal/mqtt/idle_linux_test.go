package mqtt_test

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestIdleConnectionMemory holds the memory of an idle plain connection: about 1.6 KiB of heap in 15
// objects and a goroutine, whose stack is 2 KiB at rest, or 4 KiB while the runtime's average is above
// that; fragmentation is in the figure too. With GODEBUG=adaptivestackstart=0 it is below 4 KiB at once.
// The clients are bare descriptors, so that only our side is measured.
func TestIdleConnectionMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("opens many sockets")
	}
	h := open(t, nil)
	address, err := net.ResolveTCPAddr("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	to := &syscall.SockaddrInet4{Port: address.Port, Addr: [4]byte{127, 0, 0, 1}}
	const count, most = 2000, 5 << 10
	before := inUse()
	for i := range count {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		if err := syscall.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		hello := packet.Connect{CleanStart: true, ClientID: fmt.Appendf(nil, "idle-%d", i), KeepAlive: 600}
		if _, err := syscall.Write(fd, hello.AppendTo(nil, packet.V311)); err != nil {
			t.Fatal(err)
		}
		var connack [4]byte
		if n, err := syscall.Read(fd, connack[:]); n != 4 || err != nil || connack[3] != 0 {
			t.Fatalf("CONNACK %x, %v", connack[:n], err)
		}
	}
	var each int64
	eventually(t, "the readers rest", func() bool {
		each = (inUse() - before) / count
		return each <= most || race.Detector
	})
	t.Logf("%d bytes for an idle connection", each)
}

// inUse is the memory of heap and stacks after the collector has shrunk them.
func inUse() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
