// Package seal is the record layer of TLS 1.3 behind a handshake (RFC 8446, section 5): what was a connection's is
// carried on by its two traffic secrets, and no memory but theirs while it is idle. In opens what comes, Out seals what
// goes. Neither is safe for concurrent use; they share nothing.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// Head is how long the head of a record is.
	Head = 5
	// MaxPlain is the most that one record carries.
	MaxPlain = 16 << 10
	// Overhead is how much longer a record that Out seals is than what it carries: its head, the type and the tag.
	Overhead = Head + 1 + tagSize
	// MaxRecord is the longest record, with its head (section 5.2).
	MaxRecord = Head + MaxPlain + 256

	tagSize = 16
	ivSize  = 12

	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23

	version = 0x0303 // as all records say (section 5.1)
)

// Alert is a description of what is wrong (section 6), as an error: what is to be sent, or was got.
type Alert byte

// The alerts that are sent here.
const (
	CloseNotify       Alert = 0
	UnexpectedMessage Alert = 10
	BadRecordMAC      Alert = 20
	RecordOverflow    Alert = 22
	DecodeError       Alert = 50
	userCanceled      Alert = 90
)

// Error implements error.
func (a Alert) Error() string {
	switch a {
	case CloseNotify:
		return "TLS: the client closed"
	case UnexpectedMessage:
		return "TLS: unexpected message"
	case BadRecordMAC:
		return "TLS: bad record MAC"
	case RecordOverflow:
		return "TLS: record overflow"
	case DecodeError:
		return "TLS: a message that cannot be read"
	}
	return fmt.Sprintf("TLS: alert %d", byte(a))
}

// Received is an alert that the other side sent: it is over.
type Received struct{ Alert }

// Error implements error.
func (r Received) Error() string { return "the client ended the connection: " + r.Alert.Error() }

// half is one direction.
type half struct {
	aead     cipher.AEAD
	secret   [sha512.Size384]byte
	iv       [ivSize]byte
	nonce    [ivSize]byte
	head     [Head]byte // additional data of the record in hand
	sequence uint64
	suite    uint16
}

func (h *half) hash() (func() hash.Hash, int) {
	if h.suite == tls.TLS_AES_256_GCM_SHA384 {
		return sha512.New384, sha512.Size384
	}
	return sha256.New, sha256.Size
}

// expand is HKDF-Expand-Label without a context (section 7.1).
func (h *half) expand(label string, size int) ([]byte, error) {
	newHash, n := h.hash()
	label = "tls13 " + label
	info := make([]byte, 0, 4+len(label))
	info = binary.BigEndian.AppendUint16(info, uint16(size))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(newHash, h.secret[:n], string(info), size)
}

// begin has records be under a secret, from number 0 on. Errors: an unknown suite, a secret of another size.
func (h *half) begin(suite uint16, secret []byte) error {
	h.suite = suite
	if _, n := h.hash(); len(secret) != n {
		return fmt.Errorf("a secret of %d bytes, not of %d", len(secret), n)
	}
	copy(h.secret[:], secret)
	return h.key()
}

// key makes key and nonces of the secret.
func (h *half) key() error {
	size := 32
	switch h.suite {
	case tls.TLS_AES_128_GCM_SHA256:
		size = 16
	case tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256:
	default:
		return fmt.Errorf("suite %#x is not known", h.suite)
	}
	key, err := h.expand("key", size)
	if err != nil {
		return err
	}
	iv, err := h.expand("iv", ivSize)
	if err != nil {
		return err
	}
	copy(h.iv[:], iv)
	h.sequence = 0
	if h.suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		h.aead, err = chacha20poly1305.New(key)
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	h.aead, err = cipher.NewGCM(block)
	return err
}

// update goes on with the next secret (section 7.2).
func (h *half) update() error {
	_, n := h.hash()
	next, err := h.expand("traffic upd", n)
	if err != nil {
		return err
	}
	copy(h.secret[:], next)
	return h.key()
}

// next is the nonce of the record in hand (section 5.3).
func (h *half) next() []byte {
	h.nonce = h.iv
	for i := range 8 {
		h.nonce[ivSize-1-i] ^= byte(h.sequence >> (8 * i))
	}
	h.sequence++
	return h.nonce[:]
}

// In opens what comes.
type In struct {
	half
	useless int             // records in a row that carried nothing
	message [keyUpdate]byte // a handshake message that has begun
	begun   int
}

// keyUpdate is the size of the one message that may come behind a handshake (section 4.6.3).
const keyUpdate = 5

// maxUseless is how many records in a row may carry nothing.
const maxUseless = 16

// Begin has what comes be under a secret. Errors: of a suite or secret that cannot be.
func (in *In) Begin(suite uint16, secret []byte) error { return in.begin(suite, secret) }

// Same tells whether two have the same key.
func (in *In) Same(as *In) bool { return in.secret == as.secret }

// Open opens the record at the front of b, in place: it is n bytes long; 0: it is not whole. Plain is what it carries
// for the application, maybe nothing. Asked tells that new keys are asked of us. Errors: io.EOF when the other side has
// closed, Received for an alert, Alert for what is to be told to it. After an error there is nothing more to open.
func (in *In) Open(b []byte) (n int, plain []byte, asked bool, err error) {
	if len(b) < Head {
		return 0, nil, false, nil
	}
	size := int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case b[0] != typeData:
		return 0, nil, false, UnexpectedMessage
	case Head+size > MaxRecord:
		return 0, nil, false, RecordOverflow
	case len(b) < Head+size:
		return 0, nil, false, nil
	case size < tagSize+1:
		return 0, nil, false, BadRecordMAC
	}
	n = Head + size
	in.head = [Head]byte(b)
	inner, err := in.aead.Open(b[Head:Head], in.next(), b[Head:n], in.head[:])
	if err != nil {
		return 0, nil, false, BadRecordMAC
	}
	kind := -1
	for len(inner) > 0 && kind < 0 { // padding (section 5.4)
		if last := inner[len(inner)-1]; last != 0 {
			kind = int(last)
		}
		inner = inner[:len(inner)-1]
	}
	if len(inner) > MaxPlain {
		return 0, nil, false, RecordOverflow
	}
	plain, asked, err = in.take(kind, inner)
	return n, plain, asked, err
}

// take judges what a record carries.
func (in *In) take(kind int, inner []byte) (plain []byte, asked bool, err error) {
	if kind == typeData && len(inner) > 0 && in.begun == 0 {
		in.useless = 0
		return inner, false, nil
	}
	if in.useless++; in.useless > maxUseless {
		return nil, false, UnexpectedMessage
	}
	switch {
	case in.begun > 0 && kind != typeHandshake: // a message is not interrupted (section 5.1)
		return nil, false, UnexpectedMessage
	case kind == typeData:
		return nil, false, nil
	case kind == typeHandshake && len(inner) > 0:
		asked, err = in.handshake(inner)
		return nil, asked, err
	case kind == typeAlert && len(inner) == 2:
		switch a := Alert(inner[1]); a {
		case CloseNotify:
			return nil, false, io.EOF
		case userCanceled: // a close follows
			return nil, false, nil
		default:
			return nil, false, Received{a}
		}
	}
	return nil, false, UnexpectedMessage
}

// handshake takes a KeyUpdate, the last thing under the old key.
func (in *In) handshake(b []byte) (asked bool, err error) {
	if in.begun+len(b) > keyUpdate {
		return false, UnexpectedMessage
	}
	in.begun += copy(in.message[in.begun:], b)
	if in.begun < keyUpdate {
		return false, nil
	}
	in.begun = 0
	if [4]byte(in.message[:]) != [4]byte{24, 0, 0, 1} || in.message[4] > 1 {
		return false, UnexpectedMessage
	}
	return in.message[4] == 1, in.update()
}

// Out seals what goes.
type Out struct {
	half
	sealed uint64 // bytes under the key
}

// maxSealed is how many bytes go under one key of AES-GCM: 2^24.5 full records (section 5.5).
const maxSealed = 1 << 38

// Begin has what goes be under a secret, of which some records were used.
func (o *Out) Begin(suite uint16, secret []byte, used int) error {
	err := o.begin(suite, secret)
	o.sequence = uint64(used)
	return err
}

// Seal appends as few records as hold plain.
func (o *Out) Seal(dst, plain []byte) []byte {
	for len(plain) > 0 {
		n := min(len(plain), MaxPlain)
		if o.sealed += uint64(n); o.sealed > maxSealed {
			dst = o.Update(dst)
		}
		dst = o.record(dst, typeData, plain[:n])
		plain = plain[n:]
	}
	return dst
}

// Update appends a KeyUpdate, and goes on under the next key.
func (o *Out) Update(dst []byte) []byte { return o.renew(dst, 0) }

// AskUpdate is Update that asks the other side to do the same.
func (o *Out) AskUpdate(dst []byte) []byte { return o.renew(dst, 1) }

func (o *Out) renew(dst []byte, ask byte) []byte {
	dst = o.record(dst, typeHandshake, []byte{24, 0, 0, 1, ask})
	o.sealed = 0
	if o.update() != nil {
		panic("seal: a key of a size that was good is not") // it cannot be
	}
	return dst
}

// Alert appends an alert. Nothing may follow it.
func (o *Out) Alert(dst []byte, a Alert) []byte {
	level := byte(2)
	if a == CloseNotify {
		level = 1
	}
	return o.record(dst, typeAlert, []byte{level, byte(a)})
}

func (o *Out) record(dst []byte, kind byte, plain []byte) []byte {
	at := len(dst)
	o.head = [Head]byte{typeData, version >> 8, version & 0xff}
	binary.BigEndian.PutUint16(o.head[3:], uint16(len(plain)+1+tagSize))
	dst = append(dst, o.head[:]...)
	dst = append(dst, plain...)
	dst = append(dst, kind)
	return o.aead.Seal(dst[:at+Head], o.next(), dst[at+Head:], o.head[:])
}

// Used is how many of the records of a server, the last ones, are under its first traffic secret: the session tickets
// that it sent behind its handshake. Records are whole ones, as they went.
func Used(suite uint16, secret []byte, records [][]byte) (int, error) {
	for used := 1; used <= len(records); used++ {
		var in In
		if err := in.begin(suite, secret); err != nil {
			return 0, err
		}
		first := records[len(records)-used]
		if len(first) < Head+tagSize || first[0] != typeData {
			return 0, nil
		}
		in.head = [Head]byte(first)
		if _, err := in.aead.Open(nil, in.next(), first[Head:], in.head[:]); err == nil {
			return used, nil
		}
	}
	return 0, nil
}
