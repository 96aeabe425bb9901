package wire

// The keys of the APIs that Firth knows.
const (
	Produce                     int16 = 0
	Fetch                       int16 = 1
	ListOffsets                 int16 = 2
	Metadata                    int16 = 3
	OffsetCommit                int16 = 8
	OffsetFetch                 int16 = 9
	FindCoordinator             int16 = 10
	JoinGroup                   int16 = 11
	Heartbeat                   int16 = 12
	LeaveGroup                  int16 = 13
	SyncGroup                   int16 = 14
	DescribeGroups              int16 = 15
	ListGroups                  int16 = 16
	SaslHandshake               int16 = 17
	ApiVersions                 int16 = 18
	CreateTopics                int16 = 19
	DeleteTopics                int16 = 20
	DeleteRecords               int16 = 21
	InitProducerID              int16 = 22
	OffsetForLeaderEpoch        int16 = 23
	AddPartitionsToTxn          int16 = 24
	AddOffsetsToTxn             int16 = 25
	EndTxn                      int16 = 26
	WriteTxnMarkers             int16 = 27
	TxnOffsetCommit             int16 = 28
	DescribeAcls                int16 = 29
	CreateAcls                  int16 = 30
	DeleteAcls                  int16 = 31
	DescribeConfigs             int16 = 32
	AlterConfigs                int16 = 33
	AlterReplicaLogDirs         int16 = 34
	DescribeLogDirs             int16 = 35
	SaslAuthenticate            int16 = 36
	CreatePartitions            int16 = 37
	CreateDelegationToken       int16 = 38
	RenewDelegationToken        int16 = 39
	ExpireDelegationToken       int16 = 40
	DescribeDelegationToken     int16 = 41
	DeleteGroups                int16 = 42
	ElectLeaders                int16 = 43
	IncrementalAlterConfigs     int16 = 44
	AlterPartitionReassignments int16 = 45
	ListPartitionReassignments  int16 = 46
	OffsetDelete                int16 = 47
	DescribeClientQuotas        int16 = 48
	AlterClientQuotas           int16 = 49
	DescribeUserScramCreds      int16 = 50
	AlterUserScramCreds         int16 = 51
	DescribeQuorum              int16 = 55
	UpdateFeatures              int16 = 57
	DescribeCluster             int16 = 60
	DescribeProducers           int16 = 61
	DescribeTransactions        int16 = 65
	ListTransactions            int16 = 66
	ConsumerGroupHeartbeat      int16 = 68
	ConsumerGroupDescribe       int16 = 69
	GetTelemetrySubscriptions   int16 = 71
	PushTelemetry               int16 = 72
	ListConfigResources         int16 = 74
	DescribeTopicPartitions     int16 = 75
	ShareGroupHeartbeat         int16 = 76
	ShareGroupDescribe          int16 = 77
	ShareFetch                  int16 = 78
	ShareAcknowledge            int16 = 79
	StreamsGroupHeartbeat       int16 = 88
	StreamsGroupDescribe        int16 = 89
	DescribeShareGroupOffsets   int16 = 90
	AlterShareGroupOffsets      int16 = 91
	DeleteShareGroupOffsets     int16 = 92

	keys = 93
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// API is one row of the table of versions: the ranges of Kafka 4.x, which began at KIP-896.
type API struct {
	Key      int16
	Name     string
	Min, Max int16 // versions advertised, both included
	Flexible int16 // the first flexible version (KIP-482); -1: none is
	MaxBytes int   // largest request in bytes, size prefix excluded; 0: the largest the door takes
}

// IsFlexible tells whether a version has tagged fields and compact lengths.
func (a *API) IsFlexible(version int16) bool { return a.Flexible >= 0 && version >= a.Flexible }

// Has tells whether a version is advertised.
func (a *API) Has(version int16) bool { return a.Min <= version && version <= a.Max }

// Find is the row of a key, or nil.
func Find(key int16) *API {
	if key < 0 || key >= keys || apis[key].Name == "" {
		return nil
	}
	return &apis[key]
}

// apis is the table. InitProducerId ends before version 6, which is two-phase commit (KIP-939). Produce
// says 0 as its lowest version although 3 is the lowest it serves: older librdkafka turns features off
// otherwise (KAFKA-18659). OffsetCommit begins at 1, below Kafka's 2: Sarama up to 1.38 sends it whatever it is told.
// JoinGroup and SyncGroup may be larger than what the group takes, so that who sends too much is told so.
var apis = [keys]API{
	Produce:                     {Produce, "Produce", 0, 13, 9, 0},
	Fetch:                       {Fetch, "Fetch", 4, 18, 12, 8 * mib},
	ListOffsets:                 {ListOffsets, "ListOffsets", 1, 11, 6, 2 * mib},
	Metadata:                    {Metadata, "Metadata", 0, 13, 9, 2 * mib},
	OffsetCommit:                {OffsetCommit, "OffsetCommit", 1, 10, 8, 4 * mib},
	OffsetFetch:                 {OffsetFetch, "OffsetFetch", 1, 10, 6, 2 * mib},
	FindCoordinator:             {FindCoordinator, "FindCoordinator", 0, 6, 3, 256 * kib},
	JoinGroup:                   {JoinGroup, "JoinGroup", 0, 9, 6, 16 * mib},
	Heartbeat:                   {Heartbeat, "Heartbeat", 0, 4, 4, 256 * kib},
	LeaveGroup:                  {LeaveGroup, "LeaveGroup", 0, 5, 4, 256 * kib},
	SyncGroup:                   {SyncGroup, "SyncGroup", 0, 5, 4, 16 * mib},
	DescribeGroups:              {DescribeGroups, "DescribeGroups", 0, 6, 5, 1 * mib},
	ListGroups:                  {ListGroups, "ListGroups", 0, 5, 3, 256 * kib},
	SaslHandshake:               {SaslHandshake, "SaslHandshake", 0, 1, -1, 4 * kib},
	ApiVersions:                 {ApiVersions, "ApiVersions", 0, 5, 3, 64 * kib},
	CreateTopics:                {CreateTopics, "CreateTopics", 2, 7, 5, 2 * mib},
	DeleteTopics:                {DeleteTopics, "DeleteTopics", 1, 6, 4, 1 * mib},
	DeleteRecords:               {DeleteRecords, "DeleteRecords", 0, 2, 2, 2 * mib},
	InitProducerID:              {InitProducerID, "InitProducerId", 0, 5, 2, 64 * kib},
	OffsetForLeaderEpoch:        {OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4, 4, 2 * mib},
	AddPartitionsToTxn:          {AddPartitionsToTxn, "AddPartitionsToTxn", 0, 5, 3, 2 * mib},
	AddOffsetsToTxn:             {AddOffsetsToTxn, "AddOffsetsToTxn", 0, 4, 3, 64 * kib},
	EndTxn:                      {EndTxn, "EndTxn", 0, 5, 3, 64 * kib},
	WriteTxnMarkers:             {WriteTxnMarkers, "WriteTxnMarkers", 1, 2, 1, 1 * mib},
	TxnOffsetCommit:             {TxnOffsetCommit, "TxnOffsetCommit", 0, 6, 3, 4 * mib},
	DescribeAcls:                {DescribeAcls, "DescribeAcls", 1, 3, 2, 64 * kib},
	CreateAcls:                  {CreateAcls, "CreateAcls", 1, 3, 2, 4 * mib},
	DeleteAcls:                  {DeleteAcls, "DeleteAcls", 1, 3, 2, 1 * mib},
	DescribeConfigs:             {DescribeConfigs, "DescribeConfigs", 1, 4, 4, 1 * mib},
	AlterConfigs:                {AlterConfigs, "AlterConfigs", 0, 2, 2, 1 * mib},
	AlterReplicaLogDirs:         {AlterReplicaLogDirs, "AlterReplicaLogDirs", 1, 2, 2, 1 * mib},
	DescribeLogDirs:             {DescribeLogDirs, "DescribeLogDirs", 1, 5, 2, 2 * mib},
	SaslAuthenticate:            {SaslAuthenticate, "SaslAuthenticate", 0, 2, 2, 512 * kib},
	CreatePartitions:            {CreatePartitions, "CreatePartitions", 0, 3, 2, 1 * mib},
	CreateDelegationToken:       {CreateDelegationToken, "CreateDelegationToken", 1, 3, 2, 256 * kib},
	RenewDelegationToken:        {RenewDelegationToken, "RenewDelegationToken", 1, 2, 2, 4 * kib},
	ExpireDelegationToken:       {ExpireDelegationToken, "ExpireDelegationToken", 1, 2, 2, 4 * kib},
	DescribeDelegationToken:     {DescribeDelegationToken, "DescribeDelegationToken", 1, 3, 2, 256 * kib},
	DeleteGroups:                {DeleteGroups, "DeleteGroups", 0, 3, 2, 256 * kib},
	ElectLeaders:                {ElectLeaders, "ElectLeaders", 0, 2, 2, 1 * mib},
	IncrementalAlterConfigs:     {IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1, 1, 1 * mib},
	AlterPartitionReassignments: {AlterPartitionReassignments, "AlterPartitionReassignments", 0, 1, 0, 2 * mib},
	ListPartitionReassignments:  {ListPartitionReassignments, "ListPartitionReassignments", 0, 0, 0, 1 * mib},
	OffsetDelete:                {OffsetDelete, "OffsetDelete", 0, 0, -1, 1 * mib},
	DescribeClientQuotas:        {DescribeClientQuotas, "DescribeClientQuotas", 0, 1, 1, 256 * kib},
	AlterClientQuotas:           {AlterClientQuotas, "AlterClientQuotas", 0, 1, 1, 1 * mib},
	DescribeUserScramCreds:      {DescribeUserScramCreds, "DescribeUserScramCredentials", 0, 0, 0, 256 * kib},
	AlterUserScramCreds:         {AlterUserScramCreds, "AlterUserScramCredentials", 0, 0, 0, 1 * mib},
	DescribeQuorum:              {DescribeQuorum, "DescribeQuorum", 0, 2, 0, 64 * kib},
	UpdateFeatures:              {UpdateFeatures, "UpdateFeatures", 0, 2, 0, 64 * kib},
	DescribeCluster:             {DescribeCluster, "DescribeCluster", 0, 2, 0, 64 * kib},
	DescribeProducers:           {DescribeProducers, "DescribeProducers", 0, 0, 0, 1 * mib},
	DescribeTransactions:        {DescribeTransactions, "DescribeTransactions", 0, 0, 0, 1 * mib},
	ListTransactions:            {ListTransactions, "ListTransactions", 0, 2, 0, 256 * kib},
	ConsumerGroupHeartbeat:      {ConsumerGroupHeartbeat, "ConsumerGroupHeartbeat", 0, 1, 0, 4 * mib},
	ConsumerGroupDescribe:       {ConsumerGroupDescribe, "ConsumerGroupDescribe", 0, 1, 0, 1 * mib},
	GetTelemetrySubscriptions:   {GetTelemetrySubscriptions, "GetTelemetrySubscriptions", 0, 0, 0, 64 * kib},
	PushTelemetry:               {PushTelemetry, "PushTelemetry", 0, 0, 0, 2 * mib},
	ListConfigResources:         {ListConfigResources, "ListConfigResources", 0, 1, 0, 64 * kib},
	DescribeTopicPartitions:     {DescribeTopicPartitions, "DescribeTopicPartitions", 0, 0, 0, 1 * mib},
	ShareGroupHeartbeat:         {ShareGroupHeartbeat, "ShareGroupHeartbeat", 1, 1, 0, 4 * mib},
	ShareGroupDescribe:          {ShareGroupDescribe, "ShareGroupDescribe", 1, 1, 0, 1 * mib},
	ShareFetch:                  {ShareFetch, "ShareFetch", 1, 2, 0, 8 * mib},
	ShareAcknowledge:            {ShareAcknowledge, "ShareAcknowledge", 1, 2, 0, 8 * mib},
	StreamsGroupHeartbeat:       {StreamsGroupHeartbeat, "StreamsGroupHeartbeat", 0, 0, 0, 4 * mib},
	StreamsGroupDescribe:        {StreamsGroupDescribe, "StreamsGroupDescribe", 0, 0, 0, 1 * mib},
	DescribeShareGroupOffsets:   {DescribeShareGroupOffsets, "DescribeShareGroupOffsets", 0, 1, 0, 1 * mib},
	AlterShareGroupOffsets:      {AlterShareGroupOffsets, "AlterShareGroupOffsets", 0, 0, 0, 1 * mib},
	DeleteShareGroupOffsets:     {DeleteShareGroupOffsets, "DeleteShareGroupOffsets", 0, 0, 0, 1 * mib},
}
