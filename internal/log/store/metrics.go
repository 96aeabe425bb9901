package store

import (
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// metrics are the counters of the log.
type metrics struct {
	append  telemetry.Histogram
	sync    telemetry.Histogram
	batches telemetry.Counter
	bytes   telemetry.Counter
	corrupt telemetry.Counter

	compaction telemetry.Histogram
	compacted  telemetry.Counter
}

func (m *metrics) register(s *Store, set *telemetry.Set) {
	m.append = set.Histogram("firth_log_append_duration_seconds",
		"From the first append of a commit group until all of it is acknowledged.", telemetry.Seconds()).With()
	m.sync = set.Histogram("firth_log_fsync_duration_seconds",
		"Time the disk took to make a commit group durable.", telemetry.Seconds()).With()
	m.batches = set.Counter("firth_log_batches_total", "Record batches appended.").With()
	m.bytes = set.Counter("firth_log_append_bytes_total", "Bytes of record batches appended.").With()
	m.corrupt = set.Counter("firth_log_corrupt_reads_total", "Reads that met damaged records.").With()
	m.compaction = set.Histogram("firth_log_compaction_duration_seconds",
		"Time a pass of compaction took.", telemetry.Seconds()).With()
	m.compacted = set.Counter("firth_log_compacted_records_total",
		"Records that compaction removed, superseded or tombstones.").With()
	set.GaugeFunc("firth_log_writable", "1 while appends are accepted.", func() float64 {
		if s.Refused() != nil {
			return 0
		}
		return 1
	})
	set.GaugeFunc("firth_log_sealed_files", "Full journal files that wait to be made segments.", func() float64 {
		all, _ := s.housekeeper.sealedFiles()
		return float64(all)
	})
	set.GaugeFunc("firth_log_stuck_files", "Those of them that could not be made segments; it is tried again.",
		func() float64 {
			_, stuck := s.housekeeper.sealedFiles()
			return float64(stuck)
		})
	set.GaugeFunc("firth_log_topics", "Topics, internal ones included.", func() float64 {
		if t := s.Topics(); t != nil {
			return float64(t.Len())
		}
		return 0
	})
	set.GaugeFunc("firth_log_disk_free_bytes", "Free bytes on the disk of the data directory.", func() float64 {
		free, _, err := vfs.Space(s.fs)
		if err != nil {
			return -1
		}
		return float64(free)
	})
}
