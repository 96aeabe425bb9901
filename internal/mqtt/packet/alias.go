package packet

// WithAlias appends a PUBLISH of MQTT 5 that has no topic alias, with one, and tells where its packet id lies in what
// was appended; 0 with QoS 0.
func WithAlias(dst, frame []byte, alias uint16) (longer []byte, id int) {
	topicAt, topicEnd, propsAt := publishLayout(frame)
	n, width, _ := varint(frame[propsAt:])
	rest := frame[propsAt+width:]
	from := len(dst)
	dst = appendHeader(dst, frame[0], propsAt-topicAt+varintSize(n+aliasSize)+aliasSize+len(rest))
	if propsAt > topicEnd {
		id = len(dst) - from + topicEnd - topicAt
	}
	dst = append(dst, frame[topicAt:propsAt]...)
	return append(appendAlias(dst, n, alias), rest...), id
}

// ReplaceTopic replaces the topic name of a PUBLISH of MQTT 5 by an alias, in place, and returns its new length. It
// needs a name of five bytes at least, so that it gets shorter.
func ReplaceTopic(frame []byte, alias uint16) int {
	_, topicEnd, propsAt := publishLayout(frame)
	n, width, _ := varint(frame[propsAt:])
	rest := frame[propsAt+width:]
	var memory [1 + 4 + 2 + 2 + 4 + aliasSize]byte
	ids := propsAt - topicEnd
	head := appendHeader(memory[:0], frame[0], 2+ids+varintSize(n+aliasSize)+aliasSize+len(rest))
	head = append(append(head, 0, 0), frame[topicEnd:propsAt]...)
	head = appendAlias(head, n, alias)
	copy(frame[len(head):], rest)
	copy(frame, head)
	return len(head) + len(rest)
}

// aliasSize is the size of a topic alias among the properties.
const aliasSize = 3

// publishLayout is where the topic name of a whole PUBLISH lies, with its length, where it ends, and where the
// properties begin.
func publishLayout(frame []byte) (topicAt, topicEnd, propsAt int) {
	_, width, _ := varint(frame[1:])
	topicAt = 1 + width
	topicEnd = topicAt + 2 + (int(frame[topicAt])<<8 | int(frame[topicAt+1]))
	if propsAt = topicEnd; frame[0]&(3<<1) != 0 {
		propsAt += 2
	}
	return topicAt, topicEnd, propsAt
}

// appendAlias appends the length of properties, of n bytes and an alias, and the alias.
func appendAlias(dst []byte, n int, alias uint16) []byte {
	return appendUint16(append(appendVarint(dst, n+aliasSize), byte(PropTopicAlias)), alias)
}
