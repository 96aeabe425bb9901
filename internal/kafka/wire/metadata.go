package wire

// NoOperations stands for authorized operations that were not asked for.
const NoOperations int32 = -1 << 31

// MetadataRequest is a Metadata request, v0-13, in place.
type MetadataRequest struct {
	Version           int16
	All               bool // all topics are asked for
	AutoCreate        bool // the client allows a missing topic to be created; always before v4
	ClusterOperations bool // v8-10
	TopicOperations   bool // v8+
	Topics            int  // how many topics are named

	topics []byte
}

// MetadataName names one topic: by name, or from v10 on by id with no name.
type MetadataName struct {
	Name []byte // in place; nil: null
	ID   UUID
}

// Parse takes the body of a request and checks that all of it can be walked. It does not allocate.
func (m *MetadataRequest) Parse(version int16, body []byte) error {
	*m = MetadataRequest{Version: version, AutoCreate: true}
	r := reader{b: body}
	flexible := version >= 9
	m.topics = r.b
	n := r.count(flexible, 2)
	m.All = n < 0 || (n == 0 && version == 0)
	m.Topics = max(n, 0)
	for i := m.Topics; i > 0 && !r.bad; i-- {
		m.name(&r)
	}
	if version >= 4 {
		m.AutoCreate = r.boolean()
	}
	if version >= 8 && version <= 10 {
		m.ClusterOperations = r.boolean()
	}
	if version >= 8 {
		m.TopicOperations = r.boolean()
	}
	r.skipTags(flexible)
	if r.bad {
		return invalid("wire.MetadataRequest", "Metadata v%d is cut short or counts more than it has", version)
	}
	return nil
}

func (m *MetadataRequest) name(r *reader) (n MetadataName) {
	flexible := m.Version >= 9
	if m.Version >= 10 {
		n.ID = r.uuid()
		n.Name = r.nullableString(flexible)
	} else {
		n.Name = r.str(flexible)
	}
	r.skipTags(flexible)
	return n
}

// Each calls f for each topic named.
func (m *MetadataRequest) Each(f func(MetadataName)) {
	r := reader{b: m.topics}
	r.count(m.Version >= 9, 2)
	for range m.Topics {
		f(m.name(&r))
	}
}

// Cluster is the head of a Metadata response: the one broker there is.
type Cluster struct {
	ID         string
	NodeID     int32
	Host       string
	Port       int32
	Operations int32 // v8-10, a set of bits by AclOperation; NoOperations if not asked for
}

// MetadataTopic is a topic in a Metadata response.
type MetadataTopic struct {
	Code       Code
	Name       string // null from v12 on if HasName is false
	HasName    bool
	ID         UUID
	Internal   bool
	Partitions int
	Epoch      int32
	Operations int32
}

// MetadataResponse appends a Metadata response, v0-13: Begin, Topic for each, Done.
type MetadataResponse struct {
	version int16
	start   int
	cluster *Cluster
}

// Begin appends the head, for as many topics as will follow.
func (m *MetadataResponse) Begin(dst []byte, h Header, cluster *Cluster, topics int) []byte {
	m.version, m.start, m.cluster = h.Version, len(dst), cluster
	flexible := m.flexible()
	dst = AppendResponseHeader(dst, &apis[Metadata], h.Version, h.CorrelationID)
	if m.version >= 3 {
		dst = appendI32(dst, 0) // throttle time
	}
	dst = appendCount(dst, 1, flexible)
	dst = appendI32(dst, cluster.NodeID)
	dst = appendString(dst, cluster.Host, flexible)
	dst = appendI32(dst, cluster.Port)
	if m.version >= 1 {
		dst = appendNull(dst, flexible) // rack
	}
	dst = appendNoTags(dst, flexible)
	if m.version >= 2 {
		dst = appendOptional(dst, cluster.ID, flexible)
	}
	if m.version >= 1 {
		dst = appendI32(dst, cluster.NodeID) // controller
	}
	return appendCount(dst, topics, flexible)
}

func (m *MetadataResponse) flexible() bool { return m.version >= 9 }

// Topic appends one topic. All its partitions are led by the one broker.
func (m *MetadataResponse) Topic(dst []byte, t *MetadataTopic) []byte {
	flexible := m.flexible()
	dst = appendI16(dst, t.Code)
	if !t.HasName && m.version >= 12 {
		dst = appendNull(dst, flexible)
	} else {
		dst = appendString(dst, t.Name, flexible)
	}
	if m.version >= 10 {
		dst = append(dst, t.ID[:]...)
	}
	if m.version >= 1 {
		dst = appendBool(dst, t.Internal)
	}
	dst = appendCount(dst, t.Partitions, flexible)
	for i := range t.Partitions {
		dst = m.partition(dst, int32(i), t.Epoch)
	}
	if m.version >= 8 {
		dst = appendI32(dst, t.Operations)
	}
	return appendNoTags(dst, flexible)
}

func (m *MetadataResponse) partition(dst []byte, index, epoch int32) []byte {
	flexible := m.flexible()
	dst = appendI16(dst, None)
	dst = appendI32(dst, index)
	dst = appendI32(dst, m.cluster.NodeID)
	if m.version >= 7 {
		dst = appendI32(dst, epoch)
	}
	for range 2 { // replicas, and those in sync
		dst = appendCount(dst, 1, flexible)
		dst = appendI32(dst, m.cluster.NodeID)
	}
	if m.version >= 5 {
		dst = appendCount(dst, 0, flexible) // offline replicas
	}
	return appendNoTags(dst, flexible)
}

// Done ends the response and writes its size.
func (m *MetadataResponse) Done(dst []byte) []byte {
	if m.version >= 8 && m.version <= 10 {
		dst = appendI32(dst, m.cluster.Operations)
	}
	if m.version >= 13 {
		dst = appendI16(dst, None)
	}
	dst = appendNoTags(dst, m.flexible())
	PutSize(dst[m.start:], 0)
	return dst
}
