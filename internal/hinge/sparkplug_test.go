package hinge

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
)

// TestCertificates: births of Sparkplug have one by their name, and nothing else has
// [tck-id-conformance-mqtt-aware-nbirth-mqtt-topic] [tck-id-conformance-mqtt-aware-dbirth-mqtt-topic].
func TestCertificates(t *testing.T) {
	aware, err := New(nil, Options{Sparkplug: true, PlainQoS: 1})
	if err != nil {
		t.Fatal(err)
	}
	unaware, err := New(nil, Options{PlainQoS: 1})
	if err != nil {
		t.Fatal(err)
	}
	long := "spBv1.0/G1/NBIRTH/" + strings.Repeat("x", 65_535-len("spBv1.0/G1/NBIRTH/"))
	for name, has := range map[string]bool{
		"spBv1.0/G1/NBIRTH/E1": true, "spBv1.0/G1/DBIRTH/E1/D1": true, "spBv1.0/NBIRTH/NBIRTH/NBIRTH": true,
		"spBv1.0/G1/NBIRTH/E1/D1": false, "spBv1.0/G1/NBIRTH": false, "spBv1.0/G1/NBIRTH/": false,
		"spBv1.0/G1/DBIRTH/E1": false, "spBv1.0/G1/DBIRTH/E1/": false, "spBv1.0/G1/DBIRTH/E1/D1/": false,
		"spBv1.0//NBIRTH/E1": false, "spBv1.0/G1/DBIRTH//D1": false, "spBv1.0/G1/NDATA/E1": false,
		"spBv1.0/G1/NDEATH/E1": false, "spBv1.0/STATE/NBIRTH": false, "spAv1.0/G1/NBIRTH/E1": false,
		"x/spBv1.0/G1/NBIRTH/E1": false, "spBv1.0": false, "spBv1.0/": false, "$sparkplug/certificates/x": false,
		"spBv1.0/G1/nbirth/E1": false, long: false,
	} {
		if unaware.Certificate([]byte(name)) != nil {
			t.Errorf("%.40s has a certificate, and nobody asked for it", name)
		}
		to := aware.Certificate([]byte(name))
		if (to != nil) != has {
			t.Errorf("%.40s has a certificate: %v", name, to != nil)
		}
		if to == nil {
			continue
		}
		want := "$sparkplug/certificates/" + name
		if to.Topic != RetainedTopic || string(to.Key) != want || !IsCertificate(to.Key) {
			t.Errorf("%s goes to %s with the key %s", name, to.Topic, to.Key)
		}
		in := Message{Topic: []byte(name), Payload: []byte("born"), ContentType: []byte("x"),
			UserProperties: []byte("\x26\x00\x01a\x00\x01b")}
		var rec record.Record
		to.Record(&in, &rec)
		v := asView(t, &rec)
		var out Message
		if unaware.Message(to.Topic, v, &out) || aware.Message("__firth_other", v, &out) {
			t.Errorf("%s is a message where it must not be", want)
		}
		if !aware.Message(to.Topic, v, &out) || string(out.Topic) != want || string(out.Payload) != "born" ||
			!out.Retain || out.QoS != 0 || string(out.ContentType) != "x" ||
			string(out.UserProperties) != string(in.UserProperties) {
			t.Errorf("it is %+v", out)
		}
	}
	var out Message
	for _, key := range []string{"a/b", "$sparkplug/other", "$sparkplug/certificates/#", ""} {
		if aware.Message(RetainedTopic, asView(t, &record.Record{Key: []byte(key), Value: []byte("x")}), &out) {
			t.Errorf("%q is a message", key)
		}
	}
	if stems, all := aware.Stems(RetainedTopic); all || len(stems) != 1 || stems[0] != "$sparkplug/certificates" {
		t.Errorf("stems %v, all %v", stems, all)
	}
	if stems, all := unaware.Stems(RetainedTopic); all || len(stems) != 0 {
		t.Errorf("stems %v, all %v", stems, all)
	}
}
