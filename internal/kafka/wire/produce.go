package wire

// ProduceFloor is the lowest version of Produce that carries record batches v2.
const ProduceFloor = 3

// ProduceRequest is a Produce request, v0-13, in place: it is walked, never built. Versions 0 to 2
// carry message sets from before record batches, which are walked but not served.
type ProduceRequest struct {
	Version         int16
	TransactionalID []byte // nil: null
	Acks            int16
	TimeoutMillis   int32
	Partitions      int // how many partitions it has, over all topics

	topics []byte // from the count of topics on
}

// ProducePartition is what the request says of one partition.
type ProducePartition struct {
	Topic   []byte // up to v12
	TopicID UUID   // from v13
	Index   int32
	Records []byte // in place, capacity cut to length; nil: null
}

// Parse takes the body of a request and checks that all of it can be walked. It does not allocate.
func (p *ProduceRequest) Parse(version int16, body []byte) error {
	*p = ProduceRequest{Version: version}
	r := reader{b: body}
	flexible := version >= 9
	if version >= ProduceFloor {
		p.TransactionalID = r.nullableString(flexible)
	}
	p.Acks = r.i16()
	p.TimeoutMillis = r.i32()
	p.topics = r.b
	w := p.Walk()
	for w.Next() {
		p.Partitions++
	}
	w.r.skipTags(flexible)
	if r.bad || w.r.bad {
		return invalid("wire.ProduceRequest", "Produce v%d is cut short or counts more than it has", version)
	}
	return nil
}

// Old tells whether the request carries message sets from before record batches.
func (p *ProduceRequest) Old() bool { return p.Version < ProduceFloor }

// ProduceWalk goes over the partitions of a request, in its order.
type ProduceWalk struct {
	ProducePartition
	NewTopic      bool // this partition is the first of its topic
	TopicParts    int  // how many partitions the topic has
	Topics        int  // how many topics the request has
	r             reader
	flexible      bool
	byID          bool
	topics, parts int // left
}

// Walk begins a walk.
func (p *ProduceRequest) Walk() ProduceWalk {
	w := ProduceWalk{r: reader{b: p.topics}, flexible: p.Version >= 9, byID: p.Version >= 13}
	w.Topics = max(w.r.count(w.flexible, 2), 0)
	w.topics = w.Topics
	return w
}

// Next steps to the next partition. A topic without partitions is passed over in Walk's counts only:
// its place in the response is kept by AppendProduceResponse.
func (w *ProduceWalk) Next() bool {
	w.NewTopic = false
	for w.parts == 0 {
		if w.topics == 0 || !w.nextTopic() {
			return false
		}
	}
	w.parts--
	w.Index = w.r.i32()
	w.Records = w.r.nullableBytes(w.flexible)
	w.r.skipTags(w.flexible)
	if w.parts == 0 {
		w.r.skipTags(w.flexible)
	}
	return !w.r.bad
}

// nextTopic reads the head of a topic.
func (w *ProduceWalk) nextTopic() bool {
	w.topics--
	if w.byID {
		w.TopicID = w.r.uuid()
	} else {
		w.Topic = w.r.str(w.flexible)
	}
	w.parts = max(w.r.count(w.flexible, 5), 0)
	w.TopicParts = w.parts
	w.NewTopic = true
	if w.parts == 0 {
		w.r.skipTags(w.flexible)
	}
	return !w.r.bad
}

// ProduceResult is the fate of one partition of a Produce request.
type ProduceResult struct {
	Code          Code
	BaseOffset    int64  // of the first record; -1 with an error
	LogAppendTime int64  // milliseconds since 1970; -1 unless the log stamps the records
	LogStart      int64  // log start offset; -1 if not known
	Message       string // what to tell a person (v8+); empty: null
	Records       []RecordError
}

// RecordError is what is wrong with one record of a refused batch (v8+, KIP-467).
type RecordError struct {
	Index   int32 // from 0
	Message string
}

// AppendProduceResponse appends the response to a request, framed and with its size. results stand in
// the order of the walk. It does not allocate beyond dst.
func AppendProduceResponse(dst []byte, p *ProduceRequest, correlationID int32, results []ProduceResult) []byte {
	start := len(dst)
	dst = AppendResponseHeader(dst, &apis[Produce], p.Version, correlationID)
	flexible := p.Version >= 9
	w := p.Walk()
	dst = appendCount(dst, w.Topics, flexible)
	for w.topics > 0 && w.nextTopic() {
		if w.byID {
			dst = append(dst, w.TopicID[:]...)
		} else {
			dst = appendString(dst, w.Topic, flexible)
		}
		dst = appendCount(dst, w.parts, flexible)
		for n := w.parts; n > 0 && w.Next(); n-- {
			dst = appendProduceResult(dst, p.Version, w.Index, &results[0])
			results = results[1:]
		}
		dst = appendNoTags(dst, flexible)
	}
	if p.Version >= 1 {
		dst = appendI32(dst, 0) // throttle time
	}
	dst = appendNoTags(dst, flexible)
	PutSize(dst[start:], 0)
	return dst
}

func appendProduceResult(dst []byte, version int16, index int32, res *ProduceResult) []byte {
	flexible := version >= 9
	dst = appendI32(dst, index)
	dst = appendI16(dst, res.Code)
	dst = appendI64(dst, res.BaseOffset)
	if version >= 2 {
		dst = appendI64(dst, res.LogAppendTime)
	}
	if version >= 5 {
		dst = appendI64(dst, res.LogStart)
	}
	if version >= 8 {
		dst = appendCount(dst, len(res.Records), flexible)
		for i := range res.Records {
			dst = appendI32(dst, res.Records[i].Index)
			dst = appendOptional(dst, res.Records[i].Message, flexible)
			dst = appendNoTags(dst, flexible)
		}
		dst = appendOptional(dst, res.Message, flexible)
	}
	return appendNoTags(dst, flexible)
}
