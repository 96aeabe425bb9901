package kafka

// Operation is what a client wants to do, with Kafka's numbers (AclOperation).
type Operation int8

// The operations.
const (
	OpRead            Operation = 3
	OpWrite           Operation = 4
	OpCreate          Operation = 5
	OpDelete          Operation = 6
	OpAlter           Operation = 7
	OpDescribe        Operation = 8
	OpClusterAction   Operation = 9
	OpDescribeConfigs Operation = 10
	OpAlterConfigs    Operation = 11
	OpIdempotentWrite Operation = 12
)

// Resource is a kind of thing that an operation is done to, with Kafka's numbers (ResourceType).
type Resource int8

// The kinds. The name of the one cluster is ClusterResource.
const (
	OnTopic         Resource = 2
	OnGroup         Resource = 3
	OnCluster       Resource = 4
	OnTransactional Resource = 5
)

// ClusterResource is the name of the resource OnCluster.
const ClusterResource = "kafka-cluster"

// Anonymous is the principal of a connection that has not authenticated.
const Anonymous = "User:ANONYMOUS"

// Guard answers one question. It must not block and may be asked from any goroutine.
type Guard interface {
	May(principal string, op Operation, on Resource, name string) bool
}

// may asks the guard for a connection; without a guard everything is allowed.
func (d *Door) may(c *conn, op Operation, on Resource, name string) bool {
	return d.opt.Guard == nil || d.opt.Guard.May(c.principal, op, on, name)
}
