package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/firthmq/firth/internal/kit/fault"
)

// DefaultMaxDecompressed is the most bytes one batch may have decompressed, unless a Scratch says
// otherwise.
const DefaultMaxDecompressed = 64 << 20

const (
	// maxZstdWindow is the largest window that Kafka's own decompressor takes.
	maxZstdWindow = 128 << 20
	// The most that one byte can become: a zstd block of 4 bytes stands for 128 KiB, a snappy copy of
	// 3 bytes for 64. A header that promises more is a lie and is found out before memory is taken.
	maxZstdRatio   = 128 << 10 / 4
	maxSnappyRatio = 64
)

// xerialMagic begins the framing that Java producers put around snappy blocks.
const xerialMagic = "\x82SNAPPY\x00"

const xerialHeader = 16

// Scratch holds the memory, the decoders and the encoders for compressed batches, used again from batch to batch.
// The zero Scratch is ready. It belongs to one goroutine.
type Scratch struct {
	// MaxDecompressed is the most bytes one batch may have decompressed. 0: DefaultMaxDecompressed.
	MaxDecompressed int

	buf    []byte
	src    bytes.Reader
	gzip   *gzip.Reader
	lz4    *lz4.Reader
	zstd   *zstd.Decoder
	zstMax int // what zstd was made for

	gzipOut *gzip.Writer
	lz4Out  *lz4.Writer
	zstdOut *zstd.Encoder
}

func (s *Scratch) limit() int {
	if s.MaxDecompressed > 0 {
		return s.MaxDecompressed
	}
	return DefaultMaxDecompressed
}

func tooLarge(limit int) error {
	return fault.New(fault.TooLarge, "record.decompress", "records take more than %d bytes", limit)
}

func malformed(c Codec, err error) error {
	return fault.New(fault.Corrupt, "record.decompress", "%s: %w", c, err)
}

// records is the records of b as plain bytes: in b itself or, decompressed, in s.
func (s *Scratch) records(b Batch) ([]byte, error) {
	codec, src := b.Attributes().Codec(), b[BatchOverhead:]
	if codec == None {
		return src, nil
	}
	if s == nil {
		return nil, fault.New(fault.Internal, "record.decompress", "no scratch for a compressed batch")
	}
	return s.Decompress(codec, src)
}

// Decompress gives what src is compressed of. It is good until the next use of s. Errors: TooLarge, beyond
// MaxDecompressed; Corrupt.
func (s *Scratch) Decompress(codec Codec, src []byte) ([]byte, error) {
	s.buf = s.buf[:0]
	var err error
	switch codec {
	case None:
		return src, nil
	case Gzip:
		err = s.gunzip(src)
	case Snappy:
		err = s.unsnap(src)
	case LZ4:
		err = s.unlz4(src)
	case Zstd:
		err = s.unzstd(src)
	default:
		err = fault.New(fault.Corrupt, "record.decompress", "unknown %s", codec)
	}
	return s.buf, err
}

func (s *Scratch) gunzip(src []byte) error {
	s.src.Reset(src)
	var err error
	if s.gzip == nil {
		s.gzip = new(gzip.Reader)
	}
	if err = s.gzip.Reset(&s.src); err != nil {
		return malformed(Gzip, err)
	}
	return s.readAll(Gzip, s.gzip, len(src))
}

func (s *Scratch) unlz4(src []byte) error {
	s.src.Reset(src)
	if s.lz4 == nil {
		s.lz4 = lz4.NewReader(&s.src)
	} else {
		s.lz4.Reset(&s.src)
	}
	return s.readAll(LZ4, s.lz4, len(src))
}

// readAll reads r to its end into buf, which grows with what really comes.
func (s *Scratch) readAll(c Codec, r io.Reader, compressed int) error {
	limit := s.limit()
	s.reserve(min(4*compressed, limit))
	for {
		if len(s.buf) == cap(s.buf) {
			s.reserve(min(2*cap(s.buf), limit+1))
		}
		n, err := r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		switch {
		case len(s.buf) > limit:
			return tooLarge(limit)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return malformed(c, err)
		}
	}
}

// reserve makes room for n bytes in all.
func (s *Scratch) reserve(n int) {
	if n = max(n, 512); cap(s.buf) < n {
		s.buf = append(make([]byte, 0, n), s.buf...)
	}
}

func (s *Scratch) unzstd(src []byte) error {
	limit := s.limit()
	var head zstd.Header
	if err := head.Decode(src); err != nil {
		return malformed(Zstd, err)
	}
	if head.HasFCS {
		if head.FrameContentSize > uint64(limit) {
			return tooLarge(limit)
		}
		if head.FrameContentSize > uint64(len(src))*maxZstdRatio {
			return malformed(Zstd, errors.New("states a size that cannot be"))
		}
	}
	if s.zstd == nil || s.zstMax != limit {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(uint64(limit)), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return fault.New(fault.Internal, "record.decompress", "zstd: %w", err)
		}
		s.zstd, s.zstMax = d, limit
	}
	out, err := s.zstd.DecodeAll(src, s.buf)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return tooLarge(limit)
	case err != nil:
		return malformed(Zstd, err)
	}
	s.buf = out
	return nil
}

// unsnap knows both forms: a bare block, as most clients write it, and xerial's frames of blocks, as
// Java clients do.
func (s *Scratch) unsnap(src []byte) error {
	if !bytes.HasPrefix(src, []byte(xerialMagic)) {
		return s.unsnapBlock(src)
	}
	for len(src) > 0 {
		if bytes.HasPrefix(src, []byte(xerialMagic)) { // streams may follow one another
			if len(src) < xerialHeader {
				return malformed(Snappy, io.ErrUnexpectedEOF)
			}
			src = src[xerialHeader:]
			continue
		}
		if len(src) < 4 {
			return malformed(Snappy, io.ErrUnexpectedEOF)
		}
		n := int64(binary.BigEndian.Uint32(src))
		if n > int64(len(src)-4) {
			return malformed(Snappy, io.ErrUnexpectedEOF)
		}
		if err := s.unsnapBlock(src[4 : 4+n]); err != nil {
			return err
		}
		src = src[4+n:]
	}
	return nil
}

// unsnapBlock appends one block to buf.
func (s *Scratch) unsnapBlock(src []byte) error {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return malformed(Snappy, err)
	}
	have, limit := len(s.buf), s.limit()
	if n > limit-have {
		return tooLarge(limit)
	}
	if n > len(src)*maxSnappyRatio {
		return malformed(Snappy, errors.New("states a size that cannot be"))
	}
	if cap(s.buf)-have < n {
		s.reserve(max(have+n, min(2*cap(s.buf), limit)))
	}
	if _, err = s2.Decode(s.buf[have:have+n], src); err != nil {
		return malformed(Snappy, err)
	}
	s.buf = s.buf[:have+n]
	return nil
}

// Compress appends src, compressed, to dst. Snappy comes out as one bare block.
// Errors: Invalid, for an unknown codec.
func (s *Scratch) Compress(dst []byte, c Codec, src []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	switch c {
	case None:
		return append(dst, src...), nil
	case Gzip:
		if s.gzipOut == nil {
			s.gzipOut = gzip.NewWriter(out)
		}
		s.gzipOut.Reset(out)
		return finish(out, s.gzipOut, src)
	case Snappy:
		return append(dst, s2.EncodeSnappy(nil, src)...), nil
	case LZ4:
		if s.lz4Out == nil {
			s.lz4Out = lz4.NewWriter(out)
		}
		s.lz4Out.Reset(out)
		return finish(out, s.lz4Out, src)
	case Zstd:
		if s.zstdOut == nil {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return dst, fault.Wrap(fault.Internal, "record.Compress", err)
			}
			s.zstdOut = enc
		}
		return s.zstdOut.EncodeAll(src, dst), nil
	}
	return dst, fault.New(fault.Invalid, "record.Compress", "unknown %s", c)
}

// finish writes src through an encoder to its end.
func finish(out *bytes.Buffer, w io.WriteCloser, src []byte) ([]byte, error) {
	_, err := w.Write(src)
	if err = errors.Join(err, w.Close()); err != nil {
		return out.Bytes(), fault.Wrap(fault.Internal, "record.Compress", err)
	}
	return out.Bytes(), nil
}
