package mqtt

// Action is what a client wants to do with a topic name or filter.
type Action uint8

// The actions that a Guard judges.
const (
	// Publish is sending a message to a topic name, also as a will.
	Publish Action = iota
	// Subscribe is asking for what matches a topic filter.
	Subscribe
	// Receive is getting one message of a topic name: live, retained or from the log.
	Receive
)

// Principal is who a connection belongs to.
type Principal struct {
	ClientID string
	UserName string // empty: none given
}

// Guard answers one question, on every path. It must not block and is called from many goroutines. The
// topic is valid only during the call.
type Guard interface {
	May(who *Principal, action Action, topic []byte) bool
}

func (d *Door) may(who *Principal, action Action, topic []byte) bool {
	return d.opt.Guard == nil || d.opt.Guard.May(who, action, topic)
}
