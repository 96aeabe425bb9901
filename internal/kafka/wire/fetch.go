package wire

// FetchRequest is a Fetch request, v4-18. Decode uses its slices again: one request costs nothing once
// they have grown. Names point into the body.
type FetchRequest struct {
	Version       int16
	ReplicaID     int32 // -1: a consumer
	MaxWaitMillis int32
	MinBytes      int32
	MaxBytes      int32
	Isolation     int8  // 1: read committed
	SessionID     int32 // 0: none (KIP-227)
	SessionEpoch  int32 // -1: no session; 0: a new one
	Topics        []FetchTopic
	Partitions    []FetchPartition // of all topics, in order
	forgotten     []byte           // what leaves the session, in place
}

// FetchTopic is a topic of a Fetch request and its range in Partitions.
type FetchTopic struct {
	Name        []byte // up to v12, in place
	ID          UUID   // from v13
	First, Last int    // Partitions[First:Last]
}

// FetchPartition is what a Fetch request asks of one partition.
type FetchPartition struct {
	Index       int32
	LeaderEpoch int32 // the client's; -1: not known (KIP-320)
	Offset      int64
	MaxBytes    int32
}

// Decode reads the body of a request. Partitions are kept only as long as the bytes for them are there.
func (f *FetchRequest) Decode(version int16, body []byte) error {
	*f = FetchRequest{
		Version: version, ReplicaID: -1, SessionEpoch: -1,
		Topics: f.Topics[:0], Partitions: f.Partitions[:0],
	}
	r := reader{b: body}
	flexible := version >= 12
	if version <= 14 {
		f.ReplicaID = r.i32()
	}
	f.MaxWaitMillis = r.i32()
	f.MinBytes = r.i32()
	f.MaxBytes = r.i32()
	f.Isolation = r.i8()
	if version >= 7 {
		f.SessionID = r.i32()
		f.SessionEpoch = r.i32()
	}
	for n := r.count(flexible, 5); n > 0 && !r.bad; n-- {
		f.decodeTopic(&r, flexible)
	}
	if version >= 7 {
		f.skipForgotten(&r, flexible)
	}
	if version >= 11 {
		r.str(flexible) // rack
	}
	f.decodeTags(&r, flexible)
	if r.bad {
		return invalid("wire.FetchRequest", "Fetch v%d is cut short or counts more than it has", version)
	}
	return nil
}

func (f *FetchRequest) decodeTopic(r *reader, flexible bool) {
	t := FetchTopic{First: len(f.Partitions)}
	if f.Version >= 13 {
		t.ID = r.uuid()
	} else {
		t.Name = r.str(flexible)
	}
	for n := r.count(flexible, 16); n > 0 && !r.bad; n-- {
		p := FetchPartition{Index: r.i32(), LeaderEpoch: -1}
		if f.Version >= 9 {
			p.LeaderEpoch = r.i32()
		}
		p.Offset = r.i64()
		if f.Version >= 12 {
			r.i32() // last fetched epoch: replicas only
		}
		if f.Version >= 5 {
			r.i64() // log start offset: replicas only
		}
		p.MaxBytes = r.i32()
		r.skipTags(flexible)
		f.Partitions = append(f.Partitions, p)
	}
	r.skipTags(flexible)
	t.Last = len(f.Partitions)
	if t.Last > t.First { // a topic that asks nothing gets no answer, as in Kafka
		f.Topics = append(f.Topics, t)
	}
}

// Release lets go of memory that grew beyond room for keep partitions.
func (f *FetchRequest) Release(keep int) {
	if cap(f.Partitions) > keep {
		f.Topics, f.Partitions = nil, nil
	}
}

// skipForgotten checks the partitions that leave the session and keeps where they are.
func (f *FetchRequest) skipForgotten(r *reader, flexible bool) {
	from := r.b
	for n := r.count(flexible, 5); n > 0 && !r.bad; n-- {
		f.forgottenTopic(r, flexible, func(*FetchTopic, int32) {})
	}
	f.forgotten = from[:len(from)-len(r.b)]
}

// Forgotten visits the partitions that leave the session, as long as the body of the request is there. The topic is
// good for the length of a visit.
func (f *FetchRequest) Forgotten(visit func(t *FetchTopic, partition int32)) {
	if len(f.forgotten) == 0 {
		return
	}
	r, flexible := reader{b: f.forgotten}, f.Version >= 12
	for n := r.count(flexible, 5); n > 0 && !r.bad; n-- {
		f.forgottenTopic(&r, flexible, visit)
	}
}

func (f *FetchRequest) forgottenTopic(r *reader, flexible bool, visit func(*FetchTopic, int32)) {
	var t FetchTopic
	if f.Version >= 13 {
		t.ID = r.uuid()
	} else {
		t.Name = r.str(flexible)
	}
	for n := r.count(flexible, 4); n > 0 && !r.bad; n-- {
		visit(&t, r.i32())
	}
	r.skipTags(flexible)
}

// decodeTags reads the tagged fields of the request: from v15 on the replica's id is one (KIP-903).
func (f *FetchRequest) decodeTags(r *reader, flexible bool) {
	if !flexible {
		return
	}
	for n := r.tags(); n > 0 && !r.bad; n-- {
		id, value := r.tag()
		if id == 1 && f.Version >= 15 {
			state := reader{b: value}
			f.ReplicaID = state.i32()
			r.bad = r.bad || state.bad
		}
	}
}

// FetchResult is what a Fetch response says of one partition, its records apart.
type FetchResult struct {
	Index    int32
	Code     Code
	High     int64 // high watermark; -1 with an error
	Stable   int64 // last stable offset; -1 with an error
	LogStart int64 // -1 with an error
	Stored   int   // bytes of records that come before the batches and are not in memory
	// Aborted are the transactions whose records a reader of committed records must skip, in the order of First.
	Aborted []AbortedTxn
}

// AbortedTxn is a transaction that was aborted: the records of a producer from an offset on, up to its next marker.
type AbortedTxn struct {
	ProducerID int64
	First      int64
}

// FetchResponse frames a Fetch response around record bytes that stay where they are. Begin, then Topic
// and Partition in the order of the request, then Done. Its memory is used again by the next Begin.
type FetchResponse struct {
	Throttle  int32 // milliseconds
	Session   int32 // the id of the fetch session; 0: there is none (KIP-227)
	version   int16
	committed bool
	head      []byte
	cuts      []cut
	out       [][]byte
	records   int // bytes of records
	inTopic   bool
}

// cut is a place in head where record bytes stand on the wire.
type cut struct {
	at   int
	data []byte // nil: they are not in memory
}

func (f *FetchResponse) flexible() bool { return f.version >= 12 }

// Begin starts a response to req with as many topics as will be named.
func (f *FetchResponse) Begin(req *FetchRequest, correlationID int32, topics int) {
	f.start(req, correlationID, None)
	f.head = appendCount(f.head, topics, f.flexible())
}

func (f *FetchResponse) start(req *FetchRequest, correlationID int32, code Code) {
	f.version, f.committed = req.Version, req.Isolation == 1
	clear(f.cuts)
	clear(f.out)
	f.cuts, f.out, f.records, f.inTopic = f.cuts[:0], f.out[:0], 0, false
	f.head = AppendResponseHeader(f.head[:0], &apis[Fetch], req.Version, correlationID)
	f.head = appendI32(f.head, f.Throttle)
	if req.Version >= 7 {
		f.head = appendI16(f.head, code)
		f.head = appendI32(f.head, f.Session)
	}
}

// Refuse makes a whole response of an error of the request (v7+; before, it is an empty response).
func (f *FetchResponse) Refuse(req *FetchRequest, correlationID int32, code Code) [][]byte {
	f.Session, f.Throttle = 0, 0
	f.start(req, correlationID, code)
	f.head = appendCount(f.head, 0, f.flexible())
	return f.Done()
}

// Topic begins the answer for so many partitions of one topic.
func (f *FetchResponse) Topic(t *FetchTopic, partitions int) {
	f.endTopic()
	f.inTopic = true
	if f.version >= 13 {
		f.head = append(f.head, t.ID[:]...)
	} else {
		f.head = appendString(f.head, t.Name, f.flexible())
	}
	f.head = appendCount(f.head, partitions, f.flexible())
}

func (f *FetchResponse) endTopic() {
	if f.inTopic {
		f.head = appendNoTags(f.head, f.flexible())
	}
}

// Partition appends the answer for one partition. The bytes of its batches are not copied; those that are
// stored get their place.
func Partition[B ~[]byte](f *FetchResponse, res *FetchResult, batches []B) {
	flexible := f.flexible()
	size := res.Stored
	for _, b := range batches {
		size += len(b)
	}
	f.head = appendI32(f.head, res.Index)
	f.head = appendI16(f.head, res.Code)
	f.head = appendI64(f.head, res.High)
	f.head = appendI64(f.head, res.Stable)
	if f.version >= 5 {
		f.head = appendI64(f.head, res.LogStart)
	}
	f.appendAborted(res.Aborted)
	if f.version >= 11 {
		f.head = appendI32(f.head, -1) // preferred read replica
	}
	f.head = appendCount(f.head, size, flexible)
	if res.Stored > 0 {
		f.cuts = append(f.cuts, cut{at: len(f.head)})
	}
	for _, b := range batches {
		f.cuts = append(f.cuts, cut{at: len(f.head), data: b})
	}
	f.records += size
	f.head = appendNoTags(f.head, flexible)
}

// appendAborted says which transactions a reader must skip: null unless it reads committed records.
func (f *FetchResponse) appendAborted(aborted []AbortedTxn) {
	if !f.committed {
		f.head = appendCount(f.head, -1, f.flexible())
		return
	}
	f.head = appendCount(f.head, len(aborted), f.flexible())
	for i := range aborted {
		f.head = appendI64(f.head, aborted[i].ProducerID)
		f.head = appendI64(f.head, aborted[i].First)
		f.head = appendNoTags(f.head, f.flexible())
	}
}

// Done gives the response as the pieces to write, in order. They are valid until the next Begin. A nil piece
// stands for the stored records of a partition: for each partition that has some there is one.
func (f *FetchResponse) Done() [][]byte {
	f.endTopic()
	f.inTopic = false
	f.head = appendNoTags(f.head, f.flexible())
	PutSize(f.head, f.records)
	from := 0
	for _, c := range f.cuts {
		if c.at > from {
			f.out = append(f.out, f.head[from:c.at])
			from = c.at
		}
		f.out = append(f.out, c.data)
	}
	f.out = append(f.out, f.head[from:])
	return f.out
}

// Size is the number of bytes of the response, valid after Done.
func (f *FetchResponse) Size() int { return len(f.head) + f.records }

// Release lets go of the record bytes of the last response, and of memory that grew beyond keep bytes.
func (f *FetchResponse) Release(keep int) {
	clear(f.cuts[:cap(f.cuts)])
	clear(f.out[:cap(f.out)])
	f.cuts, f.out = f.cuts[:0], f.out[:0]
	if cap(f.head) > keep {
		f.head = nil
	}
}
