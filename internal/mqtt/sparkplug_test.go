package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// aware has a door be aware of Sparkplug.
func aware(o *mqtt.Options) {
	table, err := hinge.New(nil, hinge.Options{Sparkplug: true})
	if err != nil {
		panic(err)
	}
	o.Mapping = table
}

const (
	nodeBirth   = "spBv1.0/G1/NBIRTH/E1"
	deviceBirth = "spBv1.0/G1/DBIRTH/E1/D1"
	certificate = "$sparkplug/certificates/"
)

// TestSparkplugCertificates: a birth comes as it is, leaves a retained message below $sparkplug/certificates with all
// that it has, and the next one replaces it. Who is subscribed there gets it live; nobody else does.
//
// It is what these say: [tck-id-conformance-mqtt-aware-store]
// [tck-id-conformance-mqtt-aware-nbirth-mqtt-topic] [tck-id-conformance-mqtt-aware-nbirth-mqtt-retain]
// [tck-id-conformance-mqtt-aware-dbirth-mqtt-topic] [tck-id-conformance-mqtt-aware-dbirth-mqtt-retain].
func TestSparkplugCertificates(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, aware)
		all := h.connect(t, v, "all", nil)
		all.subscribe(2, "#")
		host := h.connect(t, v, "host", nil)
		host.subscribe(2, "$sparkplug/certificates/#")
		edge := h.connect(t, v, "edge", nil)
		edge.publish(0, 0, nodeBirth, "node 1")
		for _, c := range []struct {
			client *raw
			name   string
		}{{all, nodeBirth}, {host, certificate + nodeBirth}} {
			if p := c.client.gets(c.name, "node 1"); p.Retain || p.QoS != 0 {
				t.Errorf("got %+v", p)
			}
		}
		m := &packet.Publish{Topic: []byte(deviceBirth), Payload: []byte("device 1"), QoS: 1, PacketID: 7, Retain: true}
		if v == packet.V5 {
			m.Props.SetContentType([]byte("sparkplug"))
			m.Props.AddUser("a", "b")
		}
		edge.send(m)
		want[*packet.Puback](edge)
		all.gets(deviceBirth, "device 1")
		host.gets(certificate+deviceBirth, "device 1")
		for _, name := range []string{"spBv1.0/G1/NDATA/E1", "spBv1.0/G1/NDEATH/E1", "spBv1.0/G1/NBIRTH/E1/x"} {
			edge.published(name, "none", false)
			all.gets(name, "none")
		}
		edge.publish(0, 0, nodeBirth, "node 2")
		all.gets(nodeBirth, "node 2")
		host.gets(certificate+nodeBirth, "node 2")
		host.quiet()
		h.hasCertificates(t, v)
		edge.published(nodeBirth, "", false) // an empty one clears it
		host.gets(certificate+nodeBirth, "")
		other := h.connect(t, v, "other", nil)
		other.subscribe(0, certificate+nodeBirth)
		other.quiet()
	})
}

// hasCertificates subscribes to those that TestSparkplugCertificates has left.
func (h *house) hasCertificates(t *testing.T, v packet.Version) {
	late := h.connect(t, v, "late", nil)
	late.subscribe(1, certificate+"spBv1.0/+/NBIRTH/#")
	if p := late.gets(certificate+nodeBirth, "node 2"); !p.Retain || p.QoS != 0 {
		t.Errorf("got %+v", p)
	}
	late.subscribe(1, certificate+"spBv1.0/G1/DBIRTH/E1/D1")
	p := late.gets(certificate+deviceBirth, "device 1")
	if !p.Retain || p.QoS != 1 ||
		v == packet.V5 && (string(p.Props.ContentType) != "sparkplug" || p.Props.User.Len() != 1) {
		t.Errorf("got %+v", p)
	}
	late.subscribe(1, "#")
	late.gets(deviceBirth, "device 1") // what was published with RETAIN is that, too, and no certificate comes by #
	late.quiet()
}

// TestSparkplugIsOff: by default births leave nothing, and nothing comes by $sparkplug.
func TestSparkplugIsOff(t *testing.T) {
	h := open(t, nil)
	host := h.connect(t, packet.V5, "host", nil)
	host.subscribe(1, "$sparkplug/#", "spBv1.0/#")
	edge := h.connect(t, packet.V5, "edge", nil)
	edge.published("a", "retained", true)
	edge.published(nodeBirth, "node", false)
	host.gets(nodeBirth, "node")
	host.quiet()
	if n := len(h.records(hinge.RetainedTopic)); n != 1 {
		t.Errorf("%d retained messages", n)
	}
}

// TestSparkplugIsTheServers: clients cannot publish certificates, by no way.
func TestSparkplugIsTheServers(t *testing.T) {
	const forged = certificate + nodeBirth
	h := open(t, aware)
	c := h.connect(t, packet.V5, "c", nil)
	for _, name := range []string{forged, "$sparkplug/certificates", "$delayed/0/" + forged} {
		c.send(&packet.Publish{Topic: []byte(name), Payload: []byte("x"), QoS: 1, PacketID: 3, Retain: true})
		if ack := want[*packet.Puback](c); ack.Reason != packet.TopicNameInvalid {
			t.Errorf("%s: PUBACK %s", name, ack.Reason)
		}
	}
	dying := h.connect(t, packet.V5, "dying", func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte(forged), Payload: []byte("x"), QoS: 1, Retain: true}
	})
	dying.net.Close()
	eventually(t, "it is gone", func() bool { return h.door.Stats().Clients == 1 })
	c.published("a", "x", false) // behind the will
	if n := len(h.records(hinge.RetainedTopic)); n != 0 {
		t.Errorf("%d retained messages", n)
	}
}

// TestSparkplugOfOthers: a birth that is a will or was delayed leaves a certificate, too.
func TestSparkplugOfOthers(t *testing.T) {
	h := open(t, aware)
	host := h.connect(t, packet.V5, "host", nil)
	host.subscribe(0, "$sparkplug/#")
	c := h.connect(t, packet.V5, "c", func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: []byte(deviceBirth), Payload: []byte("will"), QoS: 1}
	})
	c.published("$delayed/0/"+nodeBirth, "late", false)
	host.gets(certificate+nodeBirth, "late")
	c.net.Close()
	host.gets(certificate+deviceBirth, "will")
}

// TestSparkplugWhileSubscribing: a client that subscribes while births come holds one that was there, and then each
// that comes, without a gap, whatever lies between the two records of the log.
func TestSparkplugWhileSubscribing(t *testing.T) {
	const births, subscribers = 150, 30
	disk := vfs.NewFaulty(vfs.NewMemory())
	disk.Inject(vfs.Fault{On: vfs.OpSync, Times: -1, Delay: time.Millisecond})
	h := openOn(t, disk, aware)
	t.Cleanup(func() { h.stop() })
	edge := h.connect(t, packet.V5, "edge", nil)
	edge.published(nodeBirth, "0", false)
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; n <= births; n++ {
			edge.published(nodeBirth, strconv.Itoa(n), false)
		}
	})
	for i := range subscribers {
		c := h.connect(t, packet.V5, fmt.Sprint("host", i), nil)
		c.send(&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte("$sparkplug/#")}}})
		want[*packet.Suback](c)
		wg.Go(func() {
			for last := -1; last < births; {
				m, err := c.next(patience)
				p, ok := m.(*packet.Publish)
				if err != nil || !ok {
					t.Errorf("%v, %#v behind %d", err, m, last)
					return
				}
				n, err := strconv.Atoi(string(p.Payload))
				if err != nil || last >= 0 && (n != last+1 || p.Retain) {
					t.Errorf("%s with RETAIN %v came behind %d", p.Payload, p.Retain, last)
				}
				last = n
			}
		})
	}
	wg.Wait()
}

// TestSparkplugIsKept: certificates are there after a restart, and a host whose session lasts gets those that it
// missed; those above QoS 0 that were on their way come again.
func TestSparkplugIsKept(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		fs := vfs.NewMemory()
		h := openOn(t, fs, aware)
		host, _ := h.comeBack(t, v, "host", nil)
		host.subscribe(1, "$sparkplug/#", "spBv1.0/#")
		edge := h.connect(t, v, "edge", nil)
		edge.published(nodeBirth, "node 1", false)
		open := map[string]uint16{}
		for range 2 {
			p := want[*packet.Publish](host)
			open[string(p.Topic)] = p.PacketID
		}
		if len(open) != 2 || open[certificate+nodeBirth] == 0 || open[nodeBirth] == 0 {
			t.Fatalf("got %v", open)
		}
		h.leave(host)
		edge.published(deviceBirth, "device 1", false)
		h.stop()
		h = openOn(t, fs, aware)
		defer h.stop()
		host = h.back(t, v, "host")
		host.getsMissed(open)
		late := h.connect(t, v, "late", nil)
		late.subscribe(1, certificate+"spBv1.0/+/NBIRTH/+")
		if p := late.gets(certificate+nodeBirth, "node 1"); !p.Retain {
			t.Errorf("got %+v", p)
		}
	})
}

// TestSparkplugMissed: a birth has QoS 0, and so has its certificate: a session that was away gets it only if those are
// kept, but as a retained message when it subscribes again.
func TestSparkplugMissed(t *testing.T) {
	for name, kept := range map[string]bool{"by default": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			h := open(t, func(o *mqtt.Options) { aware(o); o.QueueQoS0 = kept })
			host, _ := h.comeBack(t, packet.V5, "host", nil)
			host.subscribe(1, certificate+"#")
			h.leave(host)
			other := h.connect(t, packet.V5, "other", nil)
			other.subscribe(1, certificate+"#")
			edge := h.connect(t, packet.V5, "edge", nil)
			edge.publish(0, 0, nodeBirth, "node 1")
			other.gets(certificate+nodeBirth, "node 1") // live delivery is past it: it is not live for who comes now
			host = h.back(t, packet.V5, "host")
			if kept {
				host.gets(certificate+nodeBirth, "node 1")
			}
			host.quiet()
			host.subscribe(1, certificate+"#")
			if p := host.gets(certificate+nodeBirth, "node 1"); !p.Retain {
				t.Errorf("got %+v", p)
			}
			host.quiet()
		})
	}
}

// TestSparkplugClearedInFlight: that a certificate was cleared is a message as others: unacknowledged it comes again to
// a host that is back [MQTT-4.4.0-1], as it came, and to another member of a group.
func TestSparkplugClearedInFlight(t *testing.T) { both(t, sparkplugClearedInFlight) }

func sparkplugClearedInFlight(t *testing.T, v packet.Version) {
	fs := vfs.NewMemory()
	h := openOn(t, fs, aware)
	host, _ := h.comeBack(t, v, "host", nil)
	host.subscribe(1, certificate+"#")
	member, _ := h.comeBack(t, v, "member", nil)
	member.subscribe(1, "$share/g/"+certificate+"#")
	edge := h.connect(t, v, "edge", nil)
	inFlight := map[string]uint16{}
	clears := func(birth string, empty func() error) {
		t.Helper()
		edge.published(birth, "a birth", false)
		if err := empty(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*raw{member, host} {
			c.gets(certificate+birth, "a birth")
			inFlight[certificate+birth] = c.cleared(certificate + birth)
		}
	}
	clears(nodeBirth, func() error { edge.published(nodeBirth, "", false); return nil })
	clears(deviceBirth, func() error {
		_, err := h.door.ClearRetained(t.Context(), certificate+deviceBirth)
		return err
	})
	h.leave(host)
	other := h.connect(t, v, "other", nil)
	other.subscribe(1, "$share/g/"+certificate+"#")
	member.net.Close()
	other.clearedAgain(inFlight, false)
	h.stop()
	h = openOn(t, fs, aware)
	defer h.stop()
	h.back(t, v, "host").clearedAgain(inFlight, true)
}

// cleared takes an empty certificate, and leaves it in flight.
func (c *raw) cleared(name string) (id uint16) {
	c.t.Helper()
	p := want[*packet.Publish](c)
	if string(p.Topic) != name || len(p.Payload) > 0 || p.QoS != 1 || p.Retain {
		c.t.Fatalf("got %+v", p)
	}
	return p.PacketID
}

// clearedAgain takes those that were in flight, by packet id, to the same client or to another.
func (c *raw) clearedAgain(inFlight map[string]uint16, same bool) {
	c.t.Helper()
	for range inFlight {
		p := want[*packet.Publish](c)
		id := inFlight[string(p.Topic)]
		if id == 0 || len(p.Payload) > 0 || p.Retain || same && (!p.Dup || p.PacketID != id) {
			c.t.Errorf("again: %+v", p)
		}
		c.send(&packet.Puback{PacketID: p.PacketID})
	}
	c.quiet()
}

// getsMissed takes what TestSparkplugIsKept left in flight, by packet id, and then what was missed.
func (c *raw) getsMissed(inFlight map[string]uint16) {
	c.t.Helper()
	for range 2 {
		p := want[*packet.Publish](c)
		if !p.Dup || inFlight[string(p.Topic)] != p.PacketID || string(p.Payload) != "node 1" {
			c.t.Errorf("again: %s = %s, packet id %d, DUP %v", p.Topic, p.Payload, p.PacketID, p.Dup)
		}
		c.send(&packet.Puback{PacketID: p.PacketID})
	}
	missed := map[string]bool{}
	for range 2 {
		p := want[*packet.Publish](c)
		missed[string(p.Topic)] = string(p.Payload) == "device 1" && !p.Dup
		c.send(&packet.Puback{PacketID: p.PacketID})
	}
	if !missed[deviceBirth] || !missed[certificate+deviceBirth] {
		c.t.Errorf("missed %v", missed)
	}
	c.quiet()
}

// TestSparkplugCrash: wherever a power cut finds the server, the certificate is that of the last birth in the log, and
// the last birth that was acknowledged is there.
func TestSparkplugCrash(t *testing.T) {
	const nodes, births = 3, 40
	fs := vfs.NewMemory()
	h := openOn(t, fs, aware)
	edge := h.connect(t, packet.V5, "edge", nil)
	rng := rand.New(rand.NewPCG(5, 6))
	type image struct {
		fs    *vfs.Memory
		acked int
	}
	var images []image
	name := func(i int) string { return fmt.Sprint("spBv1.0/G1/NBIRTH/", i%nodes) }
	for i := range births {
		edge.send(&packet.Publish{Topic: []byte(name(i)), Payload: []byte(fmt.Sprint(i)), QoS: 1, PacketID: 1,
			Retain: i%2 == 0})
		if i%4 == 3 {
			images = append(images, image{onFiles(t, fs).CrashClone(rng), i - 1})
		}
		want[*packet.Puback](edge)
		if i%4 == 1 {
			images = append(images, image{onFiles(t, fs).CrashClone(rng), i})
		}
	}
	h.stop()
	for i, image := range images {
		h := openOn(t, image.fs, aware)
		last := map[string]string{}
		stored := 0
		for _, r := range h.records("spBv1.0") {
			last[string(r.Key)] = string(r.Value)
			stored++
		}
		if stored < image.acked+1 {
			t.Errorf("image %d: %d births, %d were acknowledged", i, stored, image.acked+1)
		}
		if n := h.door.Stats().Retained; n < len(last) {
			t.Errorf("image %d: %d retained messages of %d nodes", i, n, len(last))
		}
		for node, payload := range last {
			r, err := h.door.RetainedMessage(t.Context(), certificate+node)
			if err != nil || string(r.Payload) != payload {
				t.Errorf("image %d: the certificate of %s is %+v, %v; want %s", i, node, r, err, payload)
			}
		}
		h.stop()
	}
}

// TestSparkplugLookedAfter: certificates are listed, cleared and restored as retained messages are.
func TestSparkplugLookedAfter(t *testing.T) {
	h := open(t, aware)
	host := h.connect(t, packet.V5, "host", nil)
	host.subscribe(1, "$sparkplug/#")
	edge := h.connect(t, packet.V5, "edge", nil)
	for _, payload := range []string{"1", "2"} {
		edge.published(nodeBirth, payload, false)
		host.gets(certificate+nodeBirth, payload)
	}
	lines, err := h.door.Retained(t.Context(), "$sparkplug/#", "", 10)
	if err != nil || len(lines) != 1 || lines[0].Topic != certificate+nodeBirth {
		t.Errorf("%+v, %v", lines, err)
	}
	h.restores(t, certificate+nodeBirth, time.Time{}, "1")
	host.gets(certificate+nodeBirth, "1")
	if _, err := h.door.ClearRetained(t.Context(), certificate+nodeBirth); err != nil {
		t.Fatal(err)
	}
	host.gets(certificate+nodeBirth, "")
	if _, err := h.door.RetainedMessage(t.Context(), certificate+nodeBirth); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// TestSparkplugWithoutRoom: where no more retained messages fit, a birth goes without a certificate, and that is
// counted.
func TestSparkplugWithoutRoom(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) {
		aware(o)
		o.RetainedTopics, o.Metrics = 1, set
	})
	host := h.connect(t, packet.V5, "host", nil)
	host.subscribe(0, "spBv1.0/#", "$sparkplug/#")
	edge := h.connect(t, packet.V5, "edge", nil)
	edge.published(nodeBirth, "1", false)
	host.some(2)
	eventually(t, "it is full", func() bool { return h.door.Stats().Retained == 1 })
	edge.published(deviceBirth, "2", false)
	host.gets(deviceBirth, "2")
	host.quiet()
	edge.published(nodeBirth, "3", false) // in the place of the first
	host.some(2)
	if n := sample(set, "firth_mqtt_sparkplug_left_out_total"); n != 1 {
		t.Errorf("%v were counted", n)
	}
}
