import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.LogDirNotFoundException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The official Java clients against firth, at their defaults: idempotent producer, groups, admin.
 *
 * [Kafka-AlterPartitionReassignments] [Kafka-ApiVersions] [Kafka-CreatePartitions] [Kafka-CreateTopics]
 * [Kafka-DeleteGroups] [Kafka-DeleteTopics] [Kafka-DescribeCluster] [Kafka-DescribeConfigs] [Kafka-DescribeLogDirs] [Kafka-DescribeQuorum]
 * [Kafka-DescribeTopicPartitions] [Kafka-ElectLeaders] [Kafka-Fetch] [Kafka-FindCoordinator] [Kafka-Heartbeat]
 * [Kafka-IncrementalAlterConfigs] [Kafka-InitProducerId] [Kafka-JoinGroup] [Kafka-LeaveGroup] [Kafka-ListGroups]
 * [Kafka-ListOffsets] [Kafka-ListPartitionReassignments] [Kafka-Metadata] [Kafka-OffsetCommit] [Kafka-OffsetFetch]
 * [Kafka-Produce] [Kafka-SyncGroup]
 */
public final class Gate {
    private static final String SERVERS = System.getenv("kafka");
    private static final Duration LIMIT = Duration.ofSeconds(120);
    private static final int TOTAL = 5000;

    private Gate() {}

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            topics(admin);
            configs(admin);
            oneNode(admin);
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                produceAndRead(admin, codec);
            }
            tooLarge();
            group(admin);
            seekAndTime(admin);
            delete(admin);
        }
    }

    private static void ok(String what) {
        System.out.println("  ok: " + what);
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void equal(Object got, Object want, String what) {
        check(want.equals(got), what + ": got " + got + ", want " + want);
    }

    private interface Call {
        void run() throws Exception;
    }

    private static void refused(Class<? extends Exception> want, Call call) throws Exception {
        try {
            call.run();
        } catch (ExecutionException e) {
            check(want.isInstance(e.getCause()), "got " + e.getCause() + ", want " + want.getSimpleName());
            return;
        }
        throw new AssertionError("not refused with " + want.getSimpleName());
    }

    private static void topics(Admin admin) throws Exception {
        NewTopic topic = new NewTopic("java", Optional.of(3), Optional.empty());
        admin.createTopics(List.of(topic.configs(Map.of("retention.ms", "3600000")))).all().get();
        refused(TopicExistsException.class, () -> admin.createTopics(List.of(topic)).all().get());
        refused(UnknownTopicOrPartitionException.class,
            () -> admin.describeTopics(List.of("nowhere")).allTopicNames().get());
        admin.createPartitions(Map.of("java", NewPartitions.increaseTo(4))).all().get();
        TopicDescription found = admin.describeTopics(List.of("java")).allTopicNames().get().get("java");
        equal(found.partitions().size(), 4, "partitions");
        equal(admin.describeCluster().nodes().get().size(), 1, "nodes");
        check(!admin.describeCluster().clusterId().get().isEmpty(), "cluster id");
        check(admin.listTopics().names().get().contains("java"), "listTopics");
        ok("admin: create, describe, list, more partitions, cluster; the right errors");
    }

    private static void configs(Admin admin) throws Exception {
        ConfigResource name = new ConfigResource(ConfigResource.Type.TOPIC, "java");
        Collection<AlterConfigOp> change = List.of(
            new AlterConfigOp(new ConfigEntry("max.message.bytes", "100000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE));
        admin.incrementalAlterConfigs(Map.of(name, change)).all().get();
        var config = admin.describeConfigs(List.of(name)).all().get().get(name);
        equal(config.get("max.message.bytes").value(), "100000", "max.message.bytes");
        equal(config.get("retention.ms").value(), "604800000", "retention.ms");
        check(config.get("retention.ms").isDefault(), "retention.ms is a default again");
        ok("admin: settings altered and described");
    }

    /** What a cluster can be asked that has one node: nothing is to be elected or moved, and nothing fails over it. */
    private static void oneNode(Admin admin) throws Exception {
        TopicPartition first = new TopicPartition("java", 0);
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        check(admin.electLeaders(ElectionType.PREFERRED, null).partitions().get().isEmpty(), "electLeaders of all");
        var one = admin.electLeaders(ElectionType.PREFERRED, Set.of(first)).partitions().get().get(first);
        check(one.orElseThrow() instanceof ElectionNotNeededException, "electLeaders: " + one);
        check(admin.listPartitionReassignments().reassignments().get().isEmpty(), "reassignments");
        admin.alterPartitionReassignments(Map.of(first, Optional.of(new NewPartitionReassignment(List.of(node)))))
            .all().get();
        refused(InvalidReplicaAssignmentException.class, () -> admin.alterPartitionReassignments(
            Map.of(first, Optional.of(new NewPartitionReassignment(List.of(node + 1))))).all().get());
        refused(NoReassignmentInProgressException.class,
            () -> admin.alterPartitionReassignments(Map.of(first, Optional.empty())).all().get());
        var quorum = admin.describeMetadataQuorum().quorumInfo().get();
        equal(quorum.leaderId(), node, "leader of the quorum");
        equal(quorum.voters().size(), 1, "voters");
        equal(quorum.nodes().size(), 1, "nodes of the quorum");
        String folder = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node).keySet().iterator().next();
        TopicPartitionReplica replica = new TopicPartitionReplica("java", 0, node);
        admin.alterReplicaLogDirs(Map.of(replica, folder)).all().get();
        refused(LogDirNotFoundException.class,
            () -> admin.alterReplicaLogDirs(Map.of(replica, folder + "/other")).all().get());
        ok("admin: elections, reassignments, folders and the quorum of one node");
    }

    private static KafkaProducer<String, String> producer(String codec) {
        return new KafkaProducer<>(
            Map.of("bootstrap.servers", SERVERS, "compression.type", codec, "linger.ms", 5),
            new StringSerializer(), new StringSerializer());
    }

    private static KafkaConsumer<String, String> consumer(String group) {
        return new KafkaConsumer<>(
            Map.of("bootstrap.servers", SERVERS, "group.id", group, "auto.offset.reset", "earliest",
                "enable.auto.commit", false, "heartbeat.interval.ms", 500),
            new StringDeserializer(), new StringDeserializer());
    }

    private static void produceAndRead(Admin admin, String codec) throws Exception {
        String topic = "java-" + codec;
        admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<String, String> p = producer(codec)) {
            for (int i = 0; i < TOTAL; i++) {
                ProducerRecord<String, String> r = new ProducerRecord<>(topic, "k" + i % 10, "value " + i);
                r.headers().add("n", Integer.toString(i).getBytes(StandardCharsets.UTF_8));
                sent.add(p.send(r));
            }
        }
        Map<String, String> want = new HashMap<>(); // partition and offset -> value
        for (int i = 0; i < TOTAL; i++) {
            RecordMetadata m = sent.get(i).get();
            want.put(m.partition() + "/" + m.offset(), "value " + i);
        }
        equal(want.size(), TOTAL, "distinct offsets");
        try (KafkaConsumer<String, String> c = consumer("readers-" + codec)) {
            c.subscribe(List.of(topic));
            for (ConsumerRecord<String, String> r : read(c, TOTAL)) {
                equal(r.value(), want.remove(r.partition() + "/" + r.offset()), "value at " + r.offset());
                String n = new String(r.headers().lastHeader("n").value(), StandardCharsets.UTF_8);
                equal(r.value(), "value " + n, "header");
            }
            c.commitSync();
        }
        check(want.isEmpty(), want.size() + " records are missing");
        ok("idempotent producer and consumer, " + TOTAL + " records, " + codec);
    }

    private static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> c, int count) {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        long until = System.nanoTime() + LIMIT.toNanos();
        while (got.size() < count) {
            check(System.nanoTime() < until, "only " + got.size() + " of " + count + " records came");
            c.poll(Duration.ofMillis(200)).forEach(got::add);
        }
        return got;
    }

    private static void tooLarge() throws Exception {
        try (KafkaProducer<String, String> p = producer("none")) {
            refused(RecordTooLargeException.class,
                () -> p.send(new ProducerRecord<>("java", "k", "x".repeat(200_000))).get());
            p.send(new ProducerRecord<>("java", "k", "small")).get();
        }
        ok("a record above max.message.bytes is refused, the next one is taken");
    }

    /** Two members share the partitions; when one leaves, the other takes over where it committed. */
    private static void group(Admin admin) throws Exception {
        String topic = "java-group";
        admin.createTopics(List.of(new NewTopic(topic, 4, (short) 1))).all().get();
        try (KafkaProducer<String, String> p = producer("lz4")) {
            for (int i = 0; i < 400; i++) {
                p.send(new ProducerRecord<>(topic, i % 4, null, "v" + i));
            }
        }
        Set<String> seen = new HashSet<>();
        try (KafkaConsumer<String, String> b = consumer("pair")) {
            b.subscribe(List.of(topic));
            try (KafkaConsumer<String, String> a = consumer("pair")) {
                a.subscribe(List.of(topic));
                long until = System.nanoTime() + LIMIT.toNanos();
                while (a.assignment().size() != 2 || b.assignment().size() != 2 || committed(admin) < 400) {
                    check(System.nanoTime() < until, "assigned " + a.assignment() + " and " + b.assignment()
                        + ", " + seen.size() + " records");
                    pollAndCommit(a, seen);
                    pollAndCommit(b, seen);
                }
                var described = admin.describeConsumerGroups(List.of("pair")).all().get().get("pair");
                equal(described.members().size(), 2, "members");
            }
            long until = System.nanoTime() + LIMIT.toNanos();
            while (b.assignment().size() != 4) {
                check(System.nanoTime() < until, "after one left: " + b.assignment());
                b.poll(Duration.ofMillis(100));
            }
        }
        equal(seen.size(), 400, "records that were read");
        equal(committed(admin), 400L, "committed offsets");
        ok("group: two members, one leaves, committed offsets");
    }

    private static long committed(Admin admin) throws Exception {
        return admin.listConsumerGroupOffsets("pair").partitionsToOffsetAndMetadata().get()
            .values().stream().filter(Objects::nonNull).mapToLong(OffsetAndMetadata::offset).sum();
    }

    private static void pollAndCommit(KafkaConsumer<String, String> c, Set<String> seen) {
        c.poll(Duration.ofMillis(100)).forEach(r -> seen.add(r.value()));
        try {
            c.commitSync();
        } catch (CommitFailedException | RebalanceInProgressException e) {
            // A rebalance came between: what was read is given out again and committed then.
        }
    }

    private static void seekAndTime(Admin admin) throws Exception {
        TopicPartition tp = new TopicPartition("java-time", 0);
        NewTopic old = new NewTopic("java-time", 1, (short) 1).configs(Map.of("retention.ms", "-1")); // of 1970
        admin.createTopics(List.of(old)).all().get();
        try (KafkaProducer<String, String> p = producer("none")) {
            for (int i = 0; i < 10; i++) {
                p.send(new ProducerRecord<>("java-time", 0, 1000L * (i + 1), null, "t" + i));
            }
        }
        try (KafkaConsumer<String, String> c = consumer("time")) {
            c.assign(List.of(tp));
            equal(c.beginningOffsets(List.of(tp)).get(tp), 0L, "beginning");
            equal(c.endOffsets(List.of(tp)).get(tp), 10L, "end");
            equal(c.offsetsForTimes(Map.of(tp, 3500L)).get(tp).offset(), 3L, "offset for a time");
            c.seek(tp, 7);
            equal(read(c, 3).get(0).value(), "t7", "after seek");
        }
        equal(admin.listOffsets(Map.of(tp, OffsetSpec.latest())).all().get().get(tp).offset(), 10L, "latest");
        equal(admin.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).all().get().get(tp).offset(), 9L,
            "offset of the largest time");
        ok("consumer: assign, seek, offsets by time; admin: offsets");
    }

    private static void delete(Admin admin) throws Exception {
        admin.deleteConsumerGroups(List.of("pair")).all().get();
        check(admin.listGroups().all().get().stream().noneMatch(g -> g.groupId().equals("pair")), "group is gone");
        admin.deleteTopics(List.of("java-group")).all().get();
        check(!admin.listTopics().names().get().contains("java-group"), "topic is gone");
        ok("admin: groups and topics deleted");
    }
}
