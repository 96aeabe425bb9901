package wire

// feature is one that is finalized: clients use it where they know it. The levels are Kafka's.
type feature struct {
	name  string
	max   int16 // the highest level that is known; 0 is the lowest
	level int16 // in force
}

// features are those in force, by name.
var features = []feature{
	{"group.version", 1, 1},       // consumer groups (KIP-848)
	{"share.version", 2, 2},       // share groups (KIP-932) with dead letters (KIP-1191)
	{"streams.version", 1, 1},     // streams groups (KIP-1071)
	{"transaction.version", 2, 2}, // transactions whose epoch moves on with each (KIP-890)
}

// featuresEpoch counts the changes of the features that are in force: there are none while the node runs.
const featuresEpoch = 1

// FeatureLevel is the level of a feature that is in force; ok is whether there is such a feature.
func FeatureLevel(name string) (level int16, ok bool) {
	for _, f := range features {
		if f.name == name {
			return f.level, true
		}
	}
	return 0, false
}

// AppendApiVersions appends a framed ApiVersions response, v0-5. A client that asks with a version
// beyond the table gets version 0 of it with UNSUPPORTED_VERSION and the ranges, so that it can come
// back with one that is served (KIP-511).
func AppendApiVersions(dst []byte, h Header, code Code, served []API) []byte {
	start := len(dst)
	version := h.Version
	if !apis[ApiVersions].Has(version) {
		version = 0
	}
	flexible := apis[ApiVersions].IsFlexible(version)
	dst = AppendResponseHeader(dst, &apis[ApiVersions], version, h.CorrelationID)
	dst = appendI16(dst, code)
	dst = appendCount(dst, len(served), flexible)
	for i := range served {
		dst = appendI16(dst, served[i].Key)
		dst = appendI16(dst, served[i].Min)
		dst = appendI16(dst, served[i].Max)
		dst = appendNoTags(dst, flexible)
	}
	if version >= 1 {
		dst = appendI32(dst, 0) // throttle time
	}
	if flexible {
		dst = appendFeatures(dst, version)
	}
	PutSize(dst[start:], 0)
	return dst
}

// appendFeatures appends the tagged fields of a response: what is known, the epoch, and what is in force. What is known
// from level 0 on is only for clients of version 4: older ones break at it (KAFKA-17011).
func appendFeatures(dst []byte, version int16) []byte {
	field := func(tag uint32, value []byte) {
		dst = appendUvarint(dst, tag)
		dst = append(appendUvarint(dst, uint32(len(value))), value...)
	}
	var known, inForce []byte
	known = appendCount(known, len(features), true)
	inForce = appendCount(inForce, len(features), true)
	for _, f := range features {
		known = append(appendI16(appendI16(appendString(known, f.name, true), 0), f.max), 0)
		inForce = append(appendI16(appendI16(appendString(inForce, f.name, true), f.level), f.level), 0)
	}
	if version >= 4 {
		dst = appendUvarint(dst, 3)
		field(0, known)
	} else {
		dst = appendUvarint(dst, 2)
	}
	field(1, appendI64(nil, featuresEpoch))
	field(2, inForce)
	return dst
}

// ApiVersionsRequest is what an ApiVersions request says, in place.
type ApiVersionsRequest struct {
	Software, Release []byte // v3+, what the client says it is
	Cluster           []byte // v5+, the id of the cluster that it means; nil: it does not say
	Node              int32  // v5+, the broker that it means; -1: it does not say
}

// Valid tells whether a client says a name and a version as KIP-511 wants them, and both or none of whom it means
// (KIP-1242).
func (r *ApiVersionsRequest) Valid(version int16) bool {
	return version < 3 || isSoftware(r.Software) && isSoftware(r.Release) && (r.Cluster == nil) == (r.Node == -1)
}

// ParseApiVersions reads the body of an ApiVersions request.
func ParseApiVersions(version int16, body []byte) (ApiVersionsRequest, error) {
	req := ApiVersionsRequest{Node: -1}
	if version < 3 {
		return req, nil
	}
	r := reader{b: body}
	req.Software = r.str(true)
	req.Release = r.str(true)
	if version >= 5 {
		req.Cluster = r.nullableString(true)
		req.Node = r.i32()
	}
	r.skipTags(true)
	if r.bad {
		return req, invalid("wire.ApiVersions", "ApiVersions v%d is cut short", version)
	}
	return req, nil
}

// isSoftware holds s to KIP-511: letters and digits, and dots and dashes between them.
func isSoftware(s []byte) bool {
	for i, c := range s {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		between := (c == '-' || c == '.') && i > 0 && i < len(s)-1
		if !letter && !between {
			return false
		}
	}
	return len(s) > 0
}
