package store

import (
	"context"
	"errors"
	"slices"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Offline is a stopped log opened for reading only: nothing on the disk changes.
type Offline struct {
	store    *Store
	recovery *recovery
	unlock   func() error
}

// OpenOffline reads a stopped log. What is damaged is a Finding, not an error. keys may be nil where nothing is
// encrypted. Errors: NotFound (no log there), Exists (a firth runs on it), Unsupported (a newer format), Denied (a key
// is missing), IO.
func OpenOffline(ctx context.Context, fs vfs.FS, keys *atrest.Ring) (*Offline, error) {
	id, err := readIdentity(fs)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "store.OpenOffline", "no Firth log in this directory: %w", err).
			WithHint("name the data directory, the one with the file %s", identityName)
	}
	if err != nil {
		return nil, err
	}
	o := &Offline{unlock: func() error { return nil }}
	names, err := fs.List(".")
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, lockName) {
		lock, err := fs.Lock(lockName)
		if err != nil {
			return nil, err
		}
		o.unlock = lock.Close
	}
	if err := id.needs(keys); err != nil {
		return nil, errors.Join(err, o.unlock())
	}
	unlock := o.unlock
	if o, err = openStill(ctx, fs, id, keys); err != nil {
		return nil, errors.Join(err, unlock())
	}
	o.unlock = unlock
	return o, nil
}

// OpenImage is OpenOffline of the files of an image, of which nothing is locked. Errors: Denied (a key is missing),
// Unsupported, IO.
func OpenImage(ctx context.Context, fs vfs.FS, cluster string, format int, keys *atrest.Ring) (*Offline, error) {
	id := identity{Cluster: cluster, Format: format}
	if err := id.needs(keys); err != nil {
		return nil, err
	}
	return openStill(ctx, fs, id, keys)
}

// openStill opens what nobody changes. There is no lock to let go of. After an error nothing is open.
func openStill(ctx context.Context, fs vfs.FS, id identity, keys *atrest.Ring) (*Offline, error) {
	s := &Store{opt: Options{FS: fs, Keys: keys}.withDefaults(), identity: id}
	s.layer()
	s.housekeeper.init(s)
	s.parts.Store(&table{})
	r := &recovery{fs: s.fs, store: s, readOnly: true, opened: s.opt.Clock().UnixMilli()}
	if err := r.load(ctx); err != nil {
		r.close()
		return nil, err
	}
	s.registry = r.registry
	s.adoptPartitions(r)
	return &Offline{store: s, recovery: r, unlock: func() error { return nil }}, nil
}

// Close lets go of the files.
func (o *Offline) Close() error {
	o.recovery.close()
	return o.unlock()
}

// ClusterID names the log.
func (o *Offline) ClusterID() string { return o.store.identity.Cluster }

// Topics is the set of topics, internal ones included.
func (o *Offline) Topics() *stream.Topics { return o.store.Topics() }

// Files is how many journals and segments there are.
func (o *Offline) Files() int { return len(o.recovery.files) }

// Checked is how far a check has come.
type Checked struct {
	Partitions, PartitionsDone int
	Batches, Records, Bytes    int64
}

// Check reads every record of every topic and reports what is not as it should be. progress may be nil.
// Errors: Timeout when ctx ends.
func (o *Offline) Check(ctx context.Context, report func(Finding), progress func(Checked)) (Checked, error) {
	for _, f := range o.recovery.findings {
		report(f)
	}
	for _, f := range o.recovery.files {
		if err := f.checkBlocks(report); err != nil {
			return Checked{}, err
		}
	}
	var done Checked
	topics := o.Topics().All()
	for _, t := range topics {
		done.Partitions += len(t.Partitions)
	}
	for _, t := range topics {
		for i, id := range t.Partitions {
			place := Place{Topic: t.Name, Index: i, ID: id}
			if err := o.checkPartition(ctx, place, report, &done); err != nil {
				return done, err
			}
			done.PartitionsDone++
			if progress != nil {
				progress(done)
			}
		}
	}
	return done, nil
}

// Plain is how many bytes of the files of the log are not encrypted.
func (o *Offline) Plain() int64 {
	var n int64
	for _, f := range o.recovery.files {
		if !f.sealed {
			size, err := f.handle().Size()
			if err == nil {
				n += size
			}
		}
	}
	return n
}

// Place names a partition for people.
type Place struct {
	Topic string
	Index int
	ID    stream.PartitionID
}

func (o *Offline) checkPartition(ctx context.Context, at Place, report func(Finding), done *Checked) error {
	p, err := o.store.partition(at.ID)
	if err != nil {
		return err
	}
	p.Live(func(span partition.Span) {
		if err := p.AbortsOf(&span, span.Base, func(partition.Aborted) {}); err != nil {
			report(Finding{File: logDir, What: fault.New(fault.KindOf(err), "check",
				"topic %s partition %d: %w", at.Topic, at.Index, err).Error()})
		}
	})
	next := record.Offset(-1)
	return o.Each(ctx, at.ID, func(b record.Batch, err error) error {
		if err == nil {
			if next >= 0 && b.BaseOffset() > next && p.Gap(next, b.BaseOffset()) {
				next = b.BaseOffset() // compacted
			}
			err = checkBatch(b, next)
			next = b.LastOffset() + 1
			done.Batches++
			done.Records += int64(b.Count())
			done.Bytes += int64(len(b))
		}
		if err != nil {
			report(Finding{File: logDir, What: fault.New(fault.KindOf(err), "check",
				"topic %s partition %d: %w", at.Topic, at.Index, err).Error()})
		}
		return nil
	})
}

// checkBatch walks the records of a batch that is due at next (-1: any offset).
func checkBatch(b record.Batch, next record.Offset) error {
	if next >= 0 && b.BaseOffset() != next {
		return fault.New(fault.Corrupt, "check", "offset %d follows %d", b.BaseOffset(), next-1)
	}
	var it record.Iter
	var scratch record.Scratch
	if err := it.Reset(b, &scratch); err != nil {
		return err
	}
	records := int32(0)
	for v := (record.View{}); it.Next(&v); {
		records++
	}
	if err := it.Err(); err != nil {
		return err
	}
	if records != b.Count() {
		return fault.New(fault.Corrupt, "check", "batch at %d holds %d records, its head says %d",
			b.BaseOffset(), records, b.Count())
	}
	return nil
}

// Each visits the batches of a partition in order. What cannot be read is visited as an error and passed
// over. Errors: NotFound, Timeout, and what visit returns.
func (o *Offline) Each(
	ctx context.Context, id stream.PartitionID, visit func(b record.Batch, err error) error,
) error {
	p, err := o.store.partition(id)
	if err != nil {
		return err
	}
	bounds, err := p.Bounds()
	if err != nil {
		return err
	}
	var batches []record.Batch
	for next := bounds.Start; next < bounds.High; {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Timeout, "log.Read", err)
		}
		batches, err = p.Read(next, rollBytes, batches[:0])
		if err != nil {
			if err := visit(nil, err); err != nil {
				return err
			}
			next = p.Behind(next)
			continue
		}
		for _, b := range batches {
			if err := visit(b, nil); err != nil {
				return err
			}
			next = b.LastOffset() + 1
		}
	}
	return nil
}
