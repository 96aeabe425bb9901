package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestTable(t *testing.T) {
	eachVersion(func(api *API, version int16) {
		req := kmsg.RequestForKey(api.Key)
		req.SetVersion(version)
		if req.MaxVersion() < version {
			t.Errorf("%s v%d is advertised, kmsg ends at v%d", api.Name, version, req.MaxVersion())
		}
		if req.IsFlexible() != api.IsFlexible(version) {
			t.Errorf("%s v%d: flexible is %v", api.Name, version, api.IsFlexible(version))
		}
		name := kmsg.NameForKey(api.Key)
		if name == "AlterPartitionAssignments" { // Kafka's name is another
			name = "AlterPartitionReassignments"
		}
		if !strings.EqualFold(name, api.Name) {
			t.Errorf("key %d is %s, not %s", api.Key, name, api.Name)
		}
	})
	for _, key := range []int16{-1, 4, 5, 93, 1000} {
		if Find(key) != nil {
			t.Errorf("key %d is in the table", key)
		}
	}
}

// Every request that goes to kmsg has a shape, and the shape fits every version of it to the byte.
func TestShapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	byHand := map[int16]bool{Produce: true, Fetch: true, Metadata: true, ApiVersions: true}
	eachVersion(func(api *API, version int16) {
		if byHand[api.Key] {
			return
		}
		for range 15 {
			req := kmsg.RequestForKey(api.Key)
			fill(rng, reflect.ValueOf(req).Elem(), 0)
			req.SetVersion(version)
			body := req.AppendTo(nil)
			w := walker{reader: reader{b: body}, version: version, flexible: api.IsFlexible(version), elements: maxElements}
			w.walk(shapeNodes[api.Key])
			w.skipTags(w.flexible)
			if w.bad || len(w.b) != 0 {
				t.Fatalf("%s v%d: the shape fits badly (%v, %d bytes left) on %x", api.Name, version, w.bad, len(w.b), body)
			}
			back, err := Decode(api, version, body)
			if err != nil {
				t.Fatal(err)
			}
			if again := back.AppendTo(nil); !bytes.Equal(again, body) {
				t.Fatalf("%s v%d: %x became %x", api.Name, version, body, again)
			}
			for cut := range body {
				if _, err := Decode(api, version, body[:cut]); !fault.Is(err, fault.Invalid) {
					t.Fatalf("%s v%d cut at %d of %d: %v", api.Name, version, cut, len(body), err)
				}
			}
		}
	})
}

// A count that the bytes cannot hold is refused at once, whatever it counts (CVE-2026-111108, -111115).
func TestDecodeHostile(t *testing.T) {
	eachVersion(func(api *API, version int16) {
		if shapes[api.Key] == "" {
			return
		}
		for _, n := range []int{64, 4096} {
			for _, fillByte := range []byte{0x00, 0x01, 0x02, 0x7f, 0x80, 0xff} {
				body := bytes.Repeat([]byte{fillByte}, n)
				for head := range 24 { // a run of zeros, then a large count somewhere
					clear(body[:head])
					allocs := testing.AllocsPerRun(1, func() { Decode(api, version, body) })
					if allocs > 4*float64(n)+50 {
						t.Fatalf("%s v%d: %v allocations for %d bytes", api.Name, version, allocs, n)
					}
				}
			}
		}
	})
	many := []byte{0} // DescribeCluster v0, then 2^32-1 tagged fields
	many = append(many, 0xff, 0xff, 0xff, 0xff, 0x0f)
	if _, err := Decode(Find(DescribeCluster), 0, many); !fault.Is(err, fault.Invalid) {
		t.Fatalf("2^32-1 tagged fields in no bytes: %v", err)
	}
	names := appendCount(nil, maxElements+1, true) // more names than one request may have
	names = append(names, bytes.Repeat([]byte{1}, maxElements+1)...)
	if _, err := Decode(Find(DeleteGroups), 2, append(names, 0)); !fault.Is(err, fault.Invalid) {
		t.Fatalf("too many elements: %v", err)
	}
}

func TestHeader(t *testing.T) {
	eachVersion(func(api *API, version int16) {
		for _, client := range []*string{nil, new(""), new("a client")} {
			req := kmsg.RequestForKey(api.Key)
			req.SetVersion(version)
			req.(interface{ Default() }).Default()
			f := kmsg.NewRequestFormatter()
			if client != nil {
				f = kmsg.NewRequestFormatter(kmsg.FormatterClientID(*client))
			}
			frame := f.AppendRequest(nil, req, 77)[SizeLen:]
			h, body, err := ParseHeader(api, frame)
			if err != nil || h.Key != api.Key || h.Version != version || h.CorrelationID != 77 {
				t.Fatalf("%s v%d: %+v, %v", api.Name, version, h, err)
			}
			if (client == nil) != (h.ClientID == nil) || (client != nil && string(h.ClientID) != *client) {
				t.Fatalf("client id is %q", h.ClientID)
			}
			if !bytes.Equal(body, req.AppendTo(nil)) {
				t.Fatalf("%s v%d: the body is %x", api.Name, version, body)
			}
			for cut := range len(frame) - len(body) {
				if _, _, err := ParseHeader(api, frame[:cut]); !fault.Is(err, fault.Invalid) {
					t.Fatalf("header cut at %d: %v", cut, err)
				}
			}
		}
	})
}

func TestApiVersions(t *testing.T) {
	served := []API{*Find(Produce), *Find(Fetch), *Find(ApiVersions)}
	for version := int16(0); version <= 7; version++ {
		h := Header{Key: ApiVersions, Version: version, CorrelationID: 5}
		want := None
		as := version
		if version > 5 {
			want, as = UnsupportedVersion, 0
		}
		out := AppendApiVersions([]byte("before"), h, want, served)[6:]
		if size := int(out[3]) | int(out[2])<<8; size != len(out)-SizeLen || out[7] != 5 {
			t.Fatalf("v%d: size %d of %d, %x", version, size, len(out)-SizeLen, out[:8])
		}
		resp := kmsg.NewApiVersionsResponse()
		resp.Version = as
		if err := resp.ReadFrom(out[8:]); err != nil || resp.ErrorCode != want || len(resp.ApiKeys) != 3 {
			t.Fatalf("v%d: %+v, %v", version, resp, err)
		}
		if k := resp.ApiKeys[0]; k.ApiKey != 0 || k.MinVersion != 0 || k.MaxVersion != 13 {
			t.Fatalf("v%d: %+v", version, k)
		}
		if !bytes.Equal(resp.AppendTo(nil), out[8:]) {
			t.Fatalf("v%d: more bytes than kmsg writes", version)
		}
		f := resp.FinalizedFeatures
		inForce := len(f) > 0 && f[0].Name == "group.version" && f[0].MaxVersionLevel == 1 && resp.FinalizedFeaturesEpoch >= 0
		if inForce != (as >= 3) || len(resp.SupportedFeatures) > 0 != (as >= 4) {
			t.Fatalf("v%d: features %+v in force, %+v known", version, f, resp.SupportedFeatures)
		}
	}
	for name, want := range map[string]bool{
		"apache-kafka-java": true, "a": true, "4.1.0": true,
		"": false, "-a": false, "a-": false, "a b": false, "a\n": false,
	} {
		if isSoftware([]byte(name)) != want {
			t.Errorf("software %q: %v", name, !want)
		}
	}
}

func TestMetadata(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for version := Find(Metadata).Min; version <= Find(Metadata).Max; version++ {
		for range 30 {
			checkMetadataRequest(t, rng, version)
			checkMetadataResponse(t, version)
		}
	}
	null := kmsg.NewMetadataRequest()
	null.Version = 9
	var m MetadataRequest
	if err := m.Parse(9, null.AppendTo(nil)); err != nil || !m.All {
		t.Fatalf("null topics: %+v, %v", m, err)
	}
	null.Topics = []kmsg.MetadataRequestTopic{}
	if err := m.Parse(9, null.AppendTo(nil)); err != nil || m.All {
		t.Fatalf("no topics: %+v, %v", m, err)
	}
	if err := m.Parse(0, []byte{0, 0, 0, 0}); err != nil || !m.All {
		t.Fatalf("no topics in v0: %+v, %v", m, err)
	}
}

func checkMetadataRequest(t *testing.T, rng *rand.Rand, version int16) {
	req := kmsg.NewMetadataRequest()
	fill(rng, reflect.ValueOf(&req).Elem(), 0)
	req.Version = version
	body := req.AppendTo(nil)
	var m MetadataRequest
	if err := m.Parse(version, body); err != nil || m.Topics != len(req.Topics) {
		t.Fatalf("v%d: %+v, %v", version, m, err)
	}
	i := 0
	m.Each(func(n MetadataName) {
		if string(n.Name) != *req.Topics[i].Topic || (version >= 10 && n.ID != req.Topics[i].TopicID) {
			t.Fatalf("v%d: topic %d is %+v", version, i, n)
		}
		i++
	})
	if version >= 4 && m.AutoCreate != req.AllowAutoTopicCreation ||
		version >= 8 && m.TopicOperations != req.IncludeTopicAuthorizedOperations {
		t.Fatalf("v%d: %+v", version, m)
	}
	for cut := range body {
		if err := m.Parse(version, body[:cut]); err == nil && cut < len(body) {
			t.Fatalf("v%d cut at %d of %d passes", version, cut, len(body))
		}
	}
}

func checkMetadataResponse(t *testing.T, version int16) {
	cluster := &Cluster{ID: "an id", NodeID: 1, Host: "localhost", Port: 9092, Operations: 7}
	topics := []MetadataTopic{
		{Name: "a", HasName: true, ID: UUID{1}, Internal: true, Partitions: 2, Epoch: 5, Operations: NoOperations},
		{Code: UnknownTopicID, ID: UUID{9}, Operations: NoOperations},
	}
	var w MetadataResponse
	h := Header{Version: version, CorrelationID: 9}
	out := w.Begin([]byte("x"), h, cluster, len(topics))
	for i := range topics {
		out = w.Topic(out, &topics[i])
	}
	out = w.Done(out)[1:]
	resp := kmsg.NewMetadataResponse()
	resp.Version = version
	rest := out[8:]
	if version >= 9 {
		rest = rest[1:]
	}
	if err := resp.ReadFrom(rest); err != nil {
		t.Fatalf("v%d: %v", version, err)
	}
	if !bytes.Equal(resp.AppendTo(nil), rest) {
		t.Fatalf("v%d: kmsg reads it otherwise", version)
	}
	a := resp.Topics[0]
	if *a.Topic != "a" || len(a.Partitions) != 2 || a.Partitions[1].Partition != 1 || a.Partitions[1].ISR[0] != 1 ||
		resp.Brokers[0].Host != "localhost" {
		t.Fatalf("v%d: %+v", version, resp)
	}
	if version >= 7 && a.Partitions[0].LeaderEpoch != 5 {
		t.Fatalf("v%d: epoch %d", version, a.Partitions[0].LeaderEpoch)
	}
}

func TestAppendResponse(t *testing.T) {
	eachVersion(func(api *API, version int16) {
		if api.Key == ApiVersions {
			return
		}
		resp := kmsg.ResponseForKey(api.Key)
		resp.SetVersion(version)
		out := AppendResponse(nil, api, 3, resp)
		want := append([]byte{0, 0, 0, 3}, resp.AppendTo(nil)...)
		if api.IsFlexible(version) {
			want = append([]byte{0, 0, 0, 3, 0}, resp.AppendTo(nil)...)
		}
		if !bytes.Equal(out[SizeLen:], want) || fmt.Sprintf("%08x", len(want)) != fmt.Sprintf("%x", out[:SizeLen]) {
			t.Fatalf("%s v%d: %x", api.Name, version, out)
		}
	})
}
