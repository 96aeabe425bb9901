package wire

import (
	"bytes"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// bodies seeds a fuzz target with a default request of each version of an API.
func bodies(f *testing.F, key int16) {
	for v := Find(key).Min; v <= Find(key).Max; v++ {
		req := kmsg.RequestForKey(key)
		req.SetVersion(v)
		f.Add(v, req.AppendTo(nil))
	}
}

func FuzzProduce(f *testing.F) {
	bodies(f, Produce)
	f.Add(int16(13), produceBody(2, 2))
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		if version < 0 || version > 13 {
			return
		}
		var p ProduceRequest
		err := p.Parse(version, body)
		sameStreamed(t, version, body, &p, err)
		if err != nil {
			return
		}
		if p.Partitions > len(body) {
			t.Fatalf("%d partitions in %d bytes", p.Partitions, len(body))
		}
		out := AppendProduceResponse(nil, &p, 1, make([]ProduceResult, p.Partitions))
		resp := kmsg.NewProduceResponse()
		resp.Version = version
		rest := out[8:]
		if version >= 9 {
			rest = rest[1:]
		}
		if err := resp.ReadFrom(rest); err != nil {
			t.Fatalf("v%d: %v", version, err)
		}
	})
}

func FuzzFetch(f *testing.F) {
	bodies(f, Fetch)
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		if version < 4 || version > 18 {
			return
		}
		var req FetchRequest
		if err := req.Decode(version, body); err != nil {
			return
		}
		if len(req.Partitions)*16 > len(body) {
			t.Fatalf("%d partitions in %d bytes", len(req.Partitions), len(body))
		}
		var w FetchResponse
		w.Begin(&req, 1, len(req.Topics))
		for i := range req.Topics {
			w.Topic(&req.Topics[i], req.Topics[i].Last-req.Topics[i].First)
			for range req.Partitions[req.Topics[i].First:req.Topics[i].Last] {
				Partition(&w, &FetchResult{}, [][]byte{[]byte("x")})
			}
		}
		if n := len(bytes.Join(w.Done(), nil)); n != w.Size() {
			t.Fatalf("%d bytes, said %d", n, w.Size())
		}
	})
}

func FuzzMetadata(f *testing.F) {
	bodies(f, Metadata)
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		if version < 0 || version > 13 {
			return
		}
		var m MetadataRequest
		if err := m.Parse(version, body); err != nil {
			return
		}
		n := 0
		m.Each(func(MetadataName) { n++ })
		if n != m.Topics || n > len(body) {
			t.Fatalf("%d topics, said %d", n, m.Topics)
		}
	})
}

// FuzzDecode holds the shapes to kmsg: what passes the walk, kmsg decodes too, and in bounded memory.
func FuzzDecode(f *testing.F) {
	eachVersion(func(api *API, version int16) {
		req := kmsg.RequestForKey(api.Key)
		req.SetVersion(version)
		f.Add(api.Key, version, req.AppendTo(nil))
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		api := Find(key)
		if api == nil || !api.Has(version) || shapes[key] == "" {
			return
		}
		if _, err := Decode(api, version, body); err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, ok := Head(frame)
		if !ok {
			return
		}
		if api := Find(h.Key); api != nil {
			if _, body, err := ParseHeader(api, frame); err == nil && len(body) > len(frame)-HeadLen-2 {
				t.Fatal("the body is longer than what is left")
			}
			if api.Key == ApiVersions {
				ParseApiVersions(h.Version, frame[HeadLen:])
			}
		}
	})
}
