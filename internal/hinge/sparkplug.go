package hinge

import (
	"bytes"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/names"
)

// Sparkplug 3.0: the births of edge nodes and devices, and the certificates that a Sparkplug Aware MQTT Server makes of
// them (chapter Conformance). A certificate is a retained message: a record of RetainedTopic with its name as the key,
// beside that of the birth. It is the one kind of name with $ that comes from the log.

// RetainedTopic is the log topic of retained messages: the key is the topic name.
const RetainedTopic = "__firth_retained"

// SparkplugPrefix is what the names of certificates, and filters that match some, begin with.
const SparkplugPrefix = "$sparkplug/"

// The name of a certificate is certificatePrefix and that of the birth.
const (
	certificateRoot   = SparkplugPrefix + "certificates"
	certificatePrefix = certificateRoot + "/"
)

// IsCertificate tells whether a topic name is one of a certificate.
func IsCertificate(name []byte) bool { return bytes.HasPrefix(name, []byte(certificatePrefix)) }

// isBirth tells whether a topic name is one of Sparkplug births: spBv1.0/GROUP/NBIRTH/NODE or
// spBv1.0/GROUP/DBIRTH/NODE/DEVICE.
func isBirth(name []byte) bool {
	rest, ok := bytes.CutPrefix(name, []byte("spBv1.0/"))
	if !ok {
		return false
	}
	group, rest, _ := bytes.Cut(rest, slash)
	kind, rest, _ := bytes.Cut(rest, slash)
	node, device, more := bytes.Cut(rest, slash)
	if len(group) == 0 || len(node) == 0 {
		return false
	}
	switch string(kind) {
	case "NBIRTH":
		return !more
	case "DBIRTH":
		return len(device) > 0 && !bytes.Contains(device, slash)
	}
	return false
}

// Certificate is the target of the certificate that a birth leaves; nil: the name is none of a birth, or the server is
// not aware of Sparkplug [tck-id-conformance-mqtt-aware-nbirth-mqtt-topic]
// [tck-id-conformance-mqtt-aware-dbirth-mqtt-topic].
func (t *Table) Certificate(name []byte) *Target {
	if !t.sparkplug || !isBirth(name) {
		return nil
	}
	to := t.CertificateTarget(append([]byte(certificatePrefix), name...))
	if names.CheckName(to.Key) != nil {
		return nil // too long
	}
	return to
}

// CertificateTarget is the target of a certificate by its name, which it keeps.
func (t *Table) CertificateTarget(name []byte) *Target {
	return &Target{Topic: RetainedTopic, Key: name, name: name, plain: t.plain}
}

// certificate makes m the message that a record of an internal topic is: ok is false for all but certificates.
func (t *Table) certificate(logTopic string, v *record.View, m *Message) (ok bool) {
	if !t.sparkplug || logTopic != RetainedTopic || !IsCertificate(v.Key) || names.CheckName(v.Key) != nil {
		return false
	}
	t.begin(v, m)
	if v.HeaderCount > 0 {
		if _, users := m.fixed(v); users > 0 {
			m.users(v, nil)
		}
	}
	m.Topic, m.Retain = v.Key, true
	return true
}
