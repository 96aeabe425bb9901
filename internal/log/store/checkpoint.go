package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
)

// The format, byte for byte, is docs/format/checkpoint.md.
const (
	checkpointPrefix  = "checkpoint."
	checkpointMagic   = "FIRTHCP1"
	checkpointVersion = 3 // writes 3, reads 1 to 3
	checkpointsKept   = 2
)

// place is a place in the journal: the state up to there is known.
type place struct {
	File uint64
	Pos  int64
}

// checkpoint is the durable state of the log at a place. What lies behind is applied again when the log is
// opened; what was applied already is known by its offsets.
type checkpoint struct {
	Place      place
	Taken      int64   // unix milliseconds of the node's clock, 0: not known
	Ends       []place // where journals ended that are sealed
	Epoch      int32
	NextPID    int64
	NextPart   uint32
	Topics     [][]byte // the values of the topics topic
	Partitions []partitionState
}

type partitionState struct {
	ID uint32
	partition.State
	Producers []producerState
}

type producerState struct {
	ID   int64
	Sent partition.Sent
}

// idle is how long ago, in milliseconds, something was when the checkpoint was taken.
func (c *checkpoint) idle(unixMillis int64) int64 {
	if c.Taken == 0 {
		return 0
	}
	return max(0, c.Taken-unixMillis)
}

func (c *checkpoint) encode() []byte {
	b := []byte(checkpointMagic)
	b = binary.LittleEndian.AppendUint32(b, checkpointVersion)
	b = binary.AppendUvarint(b, c.Place.File)
	b = binary.AppendVarint(b, c.Place.Pos)
	b = binary.AppendVarint(b, c.Taken)
	b = binary.AppendUvarint(b, uint64(len(c.Ends)))
	for _, at := range c.Ends {
		b = binary.AppendVarint(binary.AppendUvarint(b, at.File), at.Pos)
	}
	b = binary.AppendVarint(b, int64(c.Epoch))
	b = binary.AppendVarint(b, c.NextPID)
	b = binary.AppendUvarint(b, uint64(c.NextPart))
	b = binary.AppendUvarint(b, uint64(len(c.Topics)))
	for _, t := range c.Topics {
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Partitions)))
	for i := range c.Partitions {
		b = c.Partitions[i].append(b)
	}
	return binary.LittleEndian.AppendUint32(b, record.Checksum(0, b))
}

func (p *partitionState) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(p.ID))
	b = binary.AppendVarint(b, int64(p.Start))
	b = binary.AppendVarint(b, int64(p.High))
	b = binary.AppendUvarint(b, uint64(len(p.Epochs)))
	for _, e := range p.Epochs {
		b = binary.AppendVarint(b, int64(e.Epoch))
		b = binary.AppendVarint(b, int64(e.Start))
	}
	b = binary.AppendUvarint(b, uint64(len(p.Producers)))
	for _, s := range p.Producers {
		b = binary.AppendVarint(b, s.ID)
		b = binary.AppendVarint(b, int64(s.Sent.Epoch))
		b = binary.AppendVarint(b, int64(s.Sent.First))
		b = binary.AppendVarint(b, int64(s.Sent.Last))
		b = binary.AppendVarint(b, int64(s.Sent.Base))
		b = binary.AppendVarint(b, s.Sent.Time)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Transactions.Opened)))
	for _, o := range p.Transactions.Opened {
		b = binary.AppendVarint(b, o.ProducerID)
		b = binary.AppendVarint(b, int64(o.Epoch))
		b = binary.AppendVarint(b, int64(o.First))
	}
	b = binary.AppendUvarint(b, uint64(len(p.Transactions.Aborts)))
	for _, a := range p.Transactions.Aborts {
		b = binary.AppendVarint(b, a.ProducerID)
		b = binary.AppendVarint(b, int64(a.First))
		b = binary.AppendVarint(b, int64(a.Last))
		b = binary.AppendVarint(b, int64(a.Stable))
	}
	return b
}

// decoder reads varints; after the first bad one everything is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	return varint(d, v, n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return varint(d, v, n)
}

func varint[T uint64 | int64](d *decoder, v T, n int) T {
	if n <= 0 || d.bad {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of items, each of which takes at least a byte.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count()
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func decodeCheckpoint(name string, b []byte) (*checkpoint, error) {
	const op = "store.Checkpoint"
	n := len(b) - 4
	if n < len(checkpointMagic)+4 || string(b[:len(checkpointMagic)]) != checkpointMagic ||
		binary.LittleEndian.Uint32(b[n:]) != record.Checksum(0, b[:n]) {
		return nil, fault.New(fault.Corrupt, op, "%s fails its checksum", name)
	}
	version := binary.LittleEndian.Uint32(b[len(checkpointMagic):])
	if version < 1 || version > checkpointVersion {
		return nil, fault.New(fault.Unsupported, op, "%s: format version %d, this firth reads 1 to %d",
			name, version, checkpointVersion).
			WithHint("open it with the firth that wrote it, or a newer one")
	}
	d := &decoder{b: b[len(checkpointMagic)+4 : n]}
	c := &checkpoint{Place: place{File: d.uvarint(), Pos: d.varint()}}
	if version > 1 {
		c.Taken = d.varint()
		for range d.count() {
			c.Ends = append(c.Ends, place{File: d.uvarint(), Pos: d.varint()})
		}
	}
	c.Epoch, c.NextPID, c.NextPart = int32(d.varint()), d.varint(), uint32(d.uvarint())
	for range d.count() {
		c.Topics = append(c.Topics, slices.Clone(d.bytes()))
	}
	for range d.count() {
		c.Partitions = append(c.Partitions, d.partition(version))
	}
	if d.bad {
		return nil, fault.New(fault.Corrupt, op, "%s cannot be decoded", name)
	}
	return c, nil
}

func (d *decoder) partition(version uint32) partitionState {
	p := partitionState{ID: uint32(d.uvarint())}
	p.Start, p.High = record.Offset(d.varint()), record.Offset(d.varint())
	for range d.count() {
		p.Epochs = append(p.Epochs, partition.Epoch{Epoch: int32(d.varint()), Start: record.Offset(d.varint())})
	}
	for range d.count() {
		p.Producers = append(p.Producers, producerState{ID: d.varint(), Sent: partition.Sent{
			Epoch: int16(d.varint()), First: int32(d.varint()), Last: int32(d.varint()),
			Base: record.Offset(d.varint()), Time: d.varint(),
		}})
	}
	if version > 2 {
		p.Transactions = d.transactions()
	}
	return p
}

func (d *decoder) transactions() (t partition.Transactions) {
	for range d.count() {
		t.Opened = append(t.Opened, partition.Open{
			ProducerID: d.varint(), Epoch: int16(d.varint()), First: record.Offset(d.varint()),
		})
	}
	for range d.count() {
		t.Aborts = append(t.Aborts, partition.Aborted{
			ProducerID: d.varint(), First: record.Offset(d.varint()), Last: record.Offset(d.varint()),
			Stable: record.Offset(d.varint()),
		})
	}
	return t
}

// checkpoints lists the checkpoint files by number, oldest first.
func checkpoints(fs vfs.FS) ([]uint64, error) {
	names, err := fs.List(".")
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, name := range names {
		if digits, ok := strings.CutPrefix(name, checkpointPrefix); ok {
			if n, err := strconv.ParseUint(digits, 16, 64); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func checkpointName(n uint64) string { return fmt.Sprintf("%s%016x", checkpointPrefix, n) }

// loadCheckpoint reads the newest valid checkpoint; nil if there is none. bad lists the ones that are not.
func loadCheckpoint(fs vfs.FS) (cp *checkpoint, number uint64, bad []error, err error) {
	numbers, err := checkpoints(fs)
	if err != nil {
		return nil, 0, nil, err
	}
	for _, number0 := range slices.Backward(numbers) {
		number = max(number, number0)
		b, err := readFile(fs, checkpointName(number0))
		if err == nil {
			cp, err = decodeCheckpoint(checkpointName(number0), b)
		}
		switch {
		case err == nil:
			return cp, number, bad, nil
		case fault.Is(err, fault.Corrupt):
			bad = append(bad, err)
		default:
			return nil, 0, bad, err
		}
	}
	return nil, number, bad, nil
}

// saveCheckpoint writes a checkpoint under a number of its own and removes all but the newest two.
func saveCheckpoint(fs vfs.FS, encoded []byte, number uint64) error {
	if err := writeFile(fs, checkpointName(number), encoded); err != nil {
		return err
	}
	numbers, err := checkpoints(fs)
	if err != nil {
		return err
	}
	for len(numbers) > checkpointsKept {
		if err := fs.Remove(checkpointName(numbers[0])); err != nil {
			return err
		}
		numbers = numbers[1:]
	}
	return nil
}

// writeFile makes a file of that name and content, whole or not at all, on stable storage.
func writeFile(fs vfs.FS, name string, content []byte) error {
	f, err := fs.Create(name + ".tmp")
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = fs.Rename(name+".tmp", name)
	}
	if err != nil {
		_ = fs.Remove(name + ".tmp") // the first error tells
		return err
	}
	return fs.SyncDir(".")
}

// readFile reads a whole small file.
func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if size == 0 {
		return b, nil
	}
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return b, nil
}
