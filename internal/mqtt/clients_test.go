package mqtt_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestPaho3 talks to the door with the MQTT 3.1.1 client of Eclipse Paho [MQTT-7.0.0-2 of 3.1.1].
func TestPaho3(t *testing.T) {
	h := open(t, nil)
	connect := func(id string) paho3.Client {
		t.Helper()
		c := paho3.NewClient(paho3.NewClientOptions().AddBroker("tcp://" + h.addr).SetClientID(id).SetOrderMatters(true))
		done(t, c.Connect())
		t.Cleanup(func() { c.Disconnect(100) })
		return c
	}
	got := make(chan paho3.Message, 1000)
	sub := connect("sub")
	done(t, sub.Subscribe("paho/#", 2, func(_ paho3.Client, m paho3.Message) { got <- m }))
	pub := connect("pub")
	const count = 500
	for i := range count {
		pub.Publish(fmt.Sprintf("paho/%d", i%3), byte(i%2), false, fmt.Sprint(i))
	}
	done(t, pub.Publish("paho/retained", 1, true, "kept"))
	for range count + 1 {
		receive(t, got)
	}
	late := connect("late")
	done(t, late.Subscribe("paho/retained", 1, func(_ paho3.Client, m paho3.Message) { got <- m }))
	if m := receive(t, got); !m.Retained() || string(m.Payload()) != "kept" {
		t.Errorf("retained message %+v", m)
	}
	done(t, sub.Unsubscribe("paho/#"))
}

func done(t *testing.T, token paho3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("not in time")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("not in time")
		panic("unreachable")
	}
}

// TestPaho5 talks to the door with the MQTT 5 client of Eclipse Paho, over TCP and WebSocket.
func TestPaho5(t *testing.T) {
	h := open(t, nil)
	web := httptest.NewServer(h.door.WebSocket())
	defer web.Close()
	for _, address := range []string{"mqtt://" + h.addr, strings.Replace(web.URL, "http", "ws", 1) + "/mqtt"} {
		t.Run(address[:4], func(t *testing.T) { paho5(t, address) })
	}
}

func paho5(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *paho.Publish, 100)
	c, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 20, CleanStartOnInitialConnection: true,
		ClientConfig: paho.ClientConfig{ClientID: "paho5", OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) { got <- p.Packet; return true, nil },
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	id := 5
	if _, err := c.Subscribe(ctx, &paho.Subscribe{
		Properties:    &paho.SubscribeProperties{SubscriptionIdentifier: &id},
		Subscriptions: []paho.SubscribeOptions{{Topic: "five/#", QoS: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		user := paho.UserProperties{{Key: "n", Value: fmt.Sprint(i)}}
		if _, err := c.Publish(ctx, &paho.Publish{Topic: "five/1", QoS: byte(i % 2), Payload: []byte("x"),
			Properties: &paho.PublishProperties{User: user, ContentType: "text/plain"}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		p := receive(t, got)
		if p.Properties.User.Get("n") != fmt.Sprint(i) || p.Properties.ContentType != "text/plain" ||
			*p.Properties.SubscriptionIdentifier != 5 {
			t.Fatalf("message %d: %+v", i, p)
		}
	}
	if err := c.Disconnect(ctx); err != nil {
		t.Error(err)
	}
}

// webSocket dials a WebSocket and gives it as a connection of bytes.
func webSocket(t *testing.T, address string, opt *websocket.DialOptions) (*raw, *websocket.Conn) {
	t.Helper()
	ws, response, err := websocket.Dial(context.Background(), address, opt)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		response.Body.Close()
	}
	n := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	t.Cleanup(func() { n.Close() })
	return &raw{t: t, net: n}, ws
}

func TestWebSocket(t *testing.T) {
	h := open(t, nil)
	web := httptest.NewServer(h.door.WebSocket())
	defer web.Close()
	mqttOnly := &websocket.DialOptions{Subprotocols: []string{"mqtt"}}

	t.Run("packets cut over frames", func(t *testing.T) {
		c, ws := webSocket(t, web.URL, mqttOnly)
		if ws.Subprotocol() != "mqtt" {
			t.Errorf("sub-protocol %q", ws.Subprotocol())
		}
		c.v, c.dec = packet.V5, packet.Decoder{Version: packet.V5, Client: true}
		hello := (&packet.Connect{CleanStart: true, ClientID: []byte("ws")}).AppendTo(nil, packet.V5)
		hello = append(hello, 0xc0, 0)
		for _, b := range hello {
			c.bytes([]byte{b})
		}
		want[*packet.Connack](c)
		want[*packet.Pingresp](c)
		c.subscribe(1, "web/#")
		big := strings.Repeat("b", 200_000)
		c.publish(0, 0, "web/1", big)
		c.gets("web/1", big)
	})
	t.Run("takeover is told", func(t *testing.T) {
		c, _ := webSocket(t, web.URL, mqttOnly)
		c.hello(packet.V5, "twice", nil)
		want[*packet.Connack](c)
		h.connect(t, packet.V5, "twice", nil)
		if p := want[*packet.Disconnect](c); p.Reason != packet.SessionTakenOver {
			t.Errorf("DISCONNECT %s", p.Reason)
		}
	})
	t.Run("no sub-protocol", func(t *testing.T) {
		c, _ := webSocket(t, web.URL, nil)
		if _, err := c.next(patience); err == nil {
			t.Error("a connection without the sub-protocol mqtt was served")
		}
	})
	t.Run("text frames", func(t *testing.T) {
		c, ws := webSocket(t, web.URL, mqttOnly)
		if err := ws.Write(context.Background(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.next(patience); err == nil {
			t.Error("text was answered")
		}
	})
	t.Run("other origin", func(t *testing.T) {
		opt := &websocket.DialOptions{Subprotocols: []string{"mqtt"},
			HTTPHeader: http.Header{"Origin": {"https://evil.example"}}}
		_, response, err := websocket.Dial(context.Background(), web.URL, opt)
		if response != nil && response.Body != nil {
			response.Body.Close()
		}
		if err == nil || response == nil || response.StatusCode != http.StatusForbidden {
			t.Errorf("a page of another origin: %v", err)
		}
	})
}
