package gcm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"golang.org/x/sys/cpu"
)

const (
	blockBytes  = 16
	groupBlocks = 16
	groupBytes  = groupBlocks * blockBytes
	nonceBytes  = 12
	tagBytes    = 16
	rounds      = 14
)

var errOpen = errors.New("gcm: message authentication failed")

func supported() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512VAES && x.HasAVX512VPCLMULQDQ
}

// wide is the AEAD of one key. The assembly has its offsets.
type wide struct {
	keys   [rounds + 1][blockBytes]byte
	powers [groupBlocks][blockBytes]byte // of the hash key, the highest first: times x, bytes reversed
}

// run is where groups goes on.
type run struct {
	counter [blockBytes]byte // of the first block
	sum     [blockBytes]byte // the hash so far
}

// groups encrypts src, which is whole groups, into dst and adds what is sealed to the hash: src if opens, else dst.
//
//go:noescape
func groups(w *wide, r *run, dst, src []byte, opens bool)

// subWord is SubWord of AES (FIPS 197, section 5.2).
func subWord(w uint32) uint32

func newWide(block cipher.Block, key []byte) *wide {
	w := new(wide)
	w.expand(key)
	var power [blockBytes]byte
	block.Encrypt(power[:], power[:])
	// The last power multiplies the last block, so with it alone the hash of one block is a product.
	for i := groupBlocks - 1; i >= 0; i-- {
		w.powers[i] = timesX(power)
		var r run
		w.hash(&r, power[:])
		power = r.sum
	}
	return w
}

// expand makes the round keys (FIPS 197, section 5.2, for 256 bits).
func (w *wide) expand(key []byte) {
	const words = keyBytes / 4
	var all [(rounds + 1) * 4]uint32
	for i := range all {
		if i < words {
			all[i] = binary.LittleEndian.Uint32(key[4*i:])
		} else {
			last := all[i-1]
			switch i % words {
			case 0:
				last = subWord(bits.RotateLeft32(last, -8)) ^ 1<<(i/words-1)
			case 4:
				last = subWord(last)
			}
			all[i] = all[i-words] ^ last
		}
		binary.LittleEndian.PutUint32(w.keys[i/4][i%4*4:], all[i])
	}
}

// timesX multiplies a block by x, which makes up for the place that a product of reversed bits is off.
func timesX(b [blockBytes]byte) (out [blockBytes]byte) {
	high, low := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	carry := high >> 63
	binary.LittleEndian.PutUint64(out[:], low<<1^carry)
	binary.LittleEndian.PutUint64(out[8:], high<<1^low>>63^carry*0xc2<<56)
	return out
}

// NonceSize implements cipher.AEAD.
func (w *wide) NonceSize() int { return nonceBytes }

// Overhead implements cipher.AEAD.
func (w *wide) Overhead() int { return tagBytes }

// Seal implements cipher.AEAD.
func (w *wide) Seal(dst, nonce, plain, bound []byte) []byte {
	all := slices.Grow(dst, len(plain)+tagBytes)[:len(dst)+len(plain)]
	tag := w.crypt(all[len(dst):], plain, [nonceBytes]byte(nonce), bound, false)
	return append(all, tag[:]...)
}

// Open implements cipher.AEAD.
func (w *wide) Open(dst, nonce, sealed, bound []byte) ([]byte, error) {
	n := len(sealed) - tagBytes
	if n < 0 {
		return nil, errOpen
	}
	all := slices.Grow(dst, n)[:len(dst)+n]
	tag := w.crypt(all[len(dst):], sealed[:n], [nonceBytes]byte(nonce), bound, true)
	if subtle.ConstantTimeCompare(tag[:], sealed[n:]) != 1 {
		clear(all[len(dst):])
		return nil, errOpen
	}
	return all, nil
}

// crypt writes in, sealed or opened, to out and gives its tag.
func (w *wide) crypt(out, in []byte, nonce [nonceBytes]byte, bound []byte, opens bool) (tag [tagBytes]byte) {
	var r run
	w.hash(&r, bound)
	whole := len(in) / groupBytes * groupBytes
	r.counter = counter(nonce, 2)
	groups(w, &r, out[:whole], in[:whole], opens)
	if rest := in[whole:]; len(rest) > 0 {
		var last [groupBytes]byte
		n := copy(last[:], rest)
		aside := run{counter: counter(nonce, 2+uint32(whole/blockBytes))}
		groups(w, &aside, last[:], last[:], opens)
		if opens {
			w.hash(&r, rest)
		} else {
			w.hash(&r, last[:n])
		}
		copy(out[whole:], last[:n])
	}
	// The lengths end a group of zeros, whose first block becomes the mask of the tag.
	var end [groupBytes]byte
	lengths := end[groupBytes-blockBytes:]
	binary.BigEndian.PutUint64(lengths, uint64(len(bound))*8)
	binary.BigEndian.PutUint64(lengths[8:], uint64(len(in))*8)
	subtle.XORBytes(lengths, lengths, r.sum[:])
	r = run{counter: counter(nonce, 1)}
	groups(w, &r, end[:], end[:], true)
	subtle.XORBytes(tag[:], end[:], r.sum[:])
	return tag
}

// counter is the counter of a block: 1 for the mask of the tag, from 2 on for the text.
func counter(nonce [nonceBytes]byte, n uint32) (c [blockBytes]byte) {
	copy(c[:], nonce[:])
	binary.BigEndian.PutUint32(c[nonceBytes:], n)
	return c
}

// hash adds p to the hash, padded with zeros to whole blocks. They go to the end of a group: blocks of zeros ahead of
// the first one do not change a hash of zero.
func (w *wide) hash(r *run, p []byte) {
	for len(p) > 0 {
		n := min(len(p), groupBytes)
		var group [groupBytes]byte
		at := (groupBytes - n) / blockBytes * blockBytes
		copy(group[at:], p[:n])
		subtle.XORBytes(group[at:], group[at:at+blockBytes], r.sum[:])
		r.sum = [blockBytes]byte{}
		groups(w, r, group[:], group[:], true)
		p = p[n:]
	}
}
