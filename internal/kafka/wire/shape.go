package wire

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A decoder made from Kafka's message definitions allocates what a count announces, and believes how
// many tagged fields there are (CVE-2026-111108, CVE-2026-111115). So the bytes of every request that
// goes to kmsg are walked along the shape of the message first: every count and length is held against
// the bytes left, and the number of elements against maxElements. Nothing is allocated for that.

// maxElements is how many elements the arrays of one request may have in all. An element costs at most
// some 100 bytes once decoded.
const maxElements = 200_000

// shapes is the shape of each request that kmsg decodes. The letters are the primitives: 1, 2, 4, 8
// bytes, u a UUID, s a string, S a nullable one, y bytes, Y nullable ones; *4 is an array of a
// primitive, [ ] an array of structures, { } a structure that may be null. "@a-b" after an item bounds the versions
// that have it.
var shapes = [keys]string{
	ListOffsets:                 "4 1@2- [ s [ 4 4@4- 8 ] ] 4@10-",
	OffsetCommit:                "s 4 s S@7- 8@2-4 [ s@-9 u@10- [ 4 8 8@1-1 4@6- S ] ]",
	OffsetFetch:                 "s@-7 [ s *4 ]@-7 [ s S@9- 4@9- [ s@-9 u@10- *4 ] ]@8- 1@7-",
	FindCoordinator:             "s@-3 1@1- *s@4-",
	JoinGroup:                   "s 4 4@1- s S@5- s [ s y ] S@8-",
	Heartbeat:                   "s 4 s S@3-",
	LeaveGroup:                  "s s@-2 [ s S S@5- ]@3-",
	SyncGroup:                   "s 4 s S@3- S@5- S@5- [ s y ]",
	DescribeGroups:              "*s 1@3-",
	ListGroups:                  "*s@4- *s@5-",
	SaslHandshake:               "s",
	CreateTopics:                "[ s 4 2 [ 4 *4 ] [ s S ] ] 4 1",
	DeleteTopics:                "*s@-5 [ S u ]@6- 4",
	DeleteRecords:               "[ s [ 4 8 ] ] 4",
	InitProducerID:              "S 4 8@3- 2@3-",
	OffsetForLeaderEpoch:        "4@3- [ s [ 4 4 4 ] ]",
	AddPartitionsToTxn:          "s@-3 8@-3 2@-3 [ s *4 ]@-3 [ s 8 2 1 [ s *4 ] ]@4-",
	AddOffsetsToTxn:             "s 8 2 s",
	EndTxn:                      "s 8 2 1",
	WriteTxnMarkers:             "[ 8 2 1 [ s *4 ] 4 1@2- ]",
	TxnOffsetCommit:             "s s 8 2 4@3- s@3- S@3- [ s@-5 u@6- [ 4 8 4@2- S ] ]",
	DescribeAcls:                "1 S 1 S S 1 1",
	CreateAcls:                  "[ 1 s 1 s s 1 1 ]",
	DeleteAcls:                  "[ 1 S 1 S S 1 1 ]",
	DescribeConfigs:             "[ 1 s *s ] 1 1@3-",
	AlterConfigs:                "[ 1 s [ s S ] ] 1",
	AlterReplicaLogDirs:         "[ s [ s *4 ] ]",
	DescribeLogDirs:             "[ s *4 ]",
	SaslAuthenticate:            "y",
	CreatePartitions:            "[ s 4 [ *4 ] ] 4 1",
	CreateDelegationToken:       "S@3- S@3- [ s s ] 8",
	RenewDelegationToken:        "y 8",
	ExpireDelegationToken:       "y 8",
	DescribeDelegationToken:     "[ s s ]",
	DeleteGroups:                "*s",
	ElectLeaders:                "1@1- [ s *4 ] 4",
	IncrementalAlterConfigs:     "[ 1 s [ s 1 S ] ] 1",
	AlterPartitionReassignments: "4 1@1- [ s [ 4 *4 ] ]",
	ListPartitionReassignments:  "4 [ s *4 ]",
	OffsetDelete:                "s [ s [ 4 ] ]",
	DescribeClientQuotas:        "[ s 1 S ] 1",
	AlterClientQuotas:           "[ [ s S ] [ s 8 1 ] ] 1",
	DescribeUserScramCreds:      "[ s ]",
	AlterUserScramCreds:         "[ s 1 ] [ s 1 4 y y ]",
	DescribeQuorum:              "[ s [ 4 ] ]",
	UpdateFeatures:              "4 [ s 2 1 ] 1@1-",
	DescribeCluster:             "1 1@1- 1@2-",
	DescribeProducers:           "[ s *4 ]",
	DescribeTransactions:        "*s",
	ListTransactions:            "*s *8 8@1- S@2-",
	ConsumerGroupHeartbeat:      "s s 4 S S 4 *s S@1- S [ u *4 ]",
	ConsumerGroupDescribe:       "*s 1",
	GetTelemetrySubscriptions:   "u",
	PushTelemetry:               "u 4 1 1 y",
	ListConfigResources:         "*1@1-",
	DescribeTopicPartitions:     "[ s ] 4 { s 4 }",
	StreamsGroupHeartbeat: "s s 4 4 S S 4 { 4 [ s *s *s [ s 4 2 [ s s ] ] *s [ s 4 2 [ s s ] ] [ *2 *2 *2 ] ] }" +
		" [ s *4 ] [ s *4 ] [ s *4 ] S { s 2 } [ s s ] [ s 4 8 ] [ s 4 8 ] 1",
	StreamsGroupDescribe:      "*s 1",
	ShareGroupHeartbeat:       "s s 4 S *s",
	ShareGroupDescribe:        "*s 1",
	ShareFetch:                "S S 4 4 4 4 4@1- 4@1- 1@2- 1@2- [ u [ 4 4@-0 [ 8 8 *1 ] ] ] [ u *4 ]",
	ShareAcknowledge:          "S S 4 1@2- [ u [ 4 [ 8 8 *1 ] ] ]",
	DescribeShareGroupOffsets: "[ s [ s *4 ] ]",
	AlterShareGroupOffsets:    "s [ s [ 4 8 ] ]",
	DeleteShareGroupOffsets:   "s [ s ]",
}

// Shape is the shape of a message or record that kmsg is to decode.
type Shape []node

// node is one item of a shape.
type node struct {
	kind        byte // as in shapes; '[' and '{' with inner, '*' with inner of one
	first, last int16
	inner       Shape
}

var shapeNodes = func() (all [keys]Shape) {
	for key, text := range shapes {
		all[key] = ParseShape(text)
	}
	return all
}()

// ParseShape reads a shape in the notation above.
func ParseShape(text string) Shape {
	shape, _ := parseShape(strings.Fields(text))
	return shape
}

// Fits says whether b begins with a whole message of the shape, with no more than 200,000 elements.
// What fits, kmsg decodes in time and memory in proportion to b. flexible is whether the version has
// compact lengths and tagged fields.
func (s Shape) Fits(b []byte, version int16, flexible bool) bool {
	w := walker{reader: reader{b: b}, version: version, flexible: flexible, elements: maxElements}
	w.walk(s)
	w.skipTags(flexible)
	return !w.bad
}

// parseShape reads items up to the end or a closing bracket and returns the words left.
func parseShape(words []string) (nodes Shape, rest []string) {
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		if w[0] == ']' || w[0] == '}' {
			return nodes, append([]string{w}, words...)
		}
		n := node{kind: w[0]}
		switch w[0] {
		case '[', '{':
			n.inner, words = parseShape(words)
			n.first, n.last = versions(words[0])
			words = words[1:]
		case '*':
			n.inner = Shape{{kind: w[1], last: 1<<15 - 1}}
			n.first, n.last = versions(w)
		default:
			n.first, n.last = versions(w)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// versions reads "@a-b" behind an item.
func versions(word string) (first, last int16) {
	_, text, found := strings.Cut(word, "@")
	last = 1<<15 - 1
	if !found {
		return 0, last
	}
	from, to, _ := strings.Cut(text, "-")
	return digits(from, 0), digits(to, last)
}

func digits(s string, without int16) int16 {
	if s == "" {
		return without
	}
	n := int16(0)
	for _, c := range s {
		n = n*10 + int16(c-'0')
	}
	return n
}

// walker walks the bytes of one request along a shape.
type walker struct {
	reader
	version  int16
	flexible bool
	elements int // left
}

func (w *walker) walk(nodes Shape) {
	for i := range nodes {
		if n := &nodes[i]; n.first <= w.version && w.version <= n.last && !w.bad {
			w.item(n)
		}
	}
}

func (w *walker) item(n *node) {
	switch n.kind {
	case '1', '2', '4', '8':
		w.span(int(n.kind - '0'))
	case 'u':
		w.span(16)
	case 's':
		w.str(w.flexible)
	case 'S':
		w.nullableString(w.flexible)
	case 'y', 'Y':
		w.nullableBytes(w.flexible)
	case '*', '[':
		w.array(n)
	case '{': // behind a byte that is -1 if it is null
		if w.i8() != -1 {
			w.walk(n.inner)
			w.skipTags(w.flexible)
		}
	}
}

func (w *walker) array(n *node) {
	count := w.count(w.flexible, 1)
	if w.elements -= max(count, 0); w.elements < 0 {
		w.fail()
	}
	for ; count > 0 && !w.bad; count-- {
		w.walk(n.inner)
		if n.kind == '[' {
			w.skipTags(w.flexible)
		}
	}
}

// Decode decodes the body of a request that has no codec here, after it was walked along its shape.
// The byte slices of the result point into body.
func Decode(api *API, version int16, body []byte) (kmsg.Request, error) {
	if !shapeNodes[api.Key].Fits(body, version, api.IsFlexible(version)) {
		return nil, invalid("wire.Decode", "%s v%d is cut short or counts more than it has", api.Name, version)
	}
	req := kmsg.RequestForKey(api.Key)
	req.SetVersion(version)
	if err := req.ReadFrom(body); err != nil {
		return nil, invalid("wire.Decode", "%s v%d: %w", api.Name, version, err)
	}
	return req, nil
}

// AppendResponse appends a framed response that has no codec here.
func AppendResponse(dst []byte, api *API, correlationID int32, resp kmsg.Response) []byte {
	start := len(dst)
	dst = AppendResponseHeader(dst, api, resp.GetVersion(), correlationID)
	dst = resp.AppendTo(dst)
	PutSize(dst[start:], 0)
	return dst
}
