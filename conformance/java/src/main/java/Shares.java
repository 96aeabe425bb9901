import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ShareGroupDescription;
import org.apache.kafka.clients.admin.SharePartitionOffsetInfo;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Share groups (KIP-932) of the official Java client: acknowledgements, redelivery, rejection with dead letters
 * (KIP-1191), locks that end and are renewed (KIP-1222), and their administration.
 *
 * [Kafka-ShareGroupHeartbeat] [Kafka-ShareGroupDescribe] [Kafka-ShareFetch] [Kafka-ShareAcknowledge]
 * [Kafka-DescribeShareGroupOffsets] [Kafka-AlterShareGroupOffsets] [Kafka-DeleteShareGroupOffsets]
 * [Kafka-IncrementalAlterConfigs] [Kafka-ListConfigResources] [Kafka-DeleteGroups]
 */
public final class Shares {
    private static final String SERVERS = System.getenv("kafka");

    private Shares() {}

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            implicit(admin);
            explicit(admin);
            letters(admin);
            locks(admin);
            administration(admin);
        }
        System.out.println("share groups: passed");
    }

    /** Two members share the records of three partitions; each comes once. */
    private static void implicit(Admin admin) throws Exception {
        topic(admin, "share-implicit", 3);
        settings(admin, "implicit", "share.auto.offset.reset", "earliest");
        produce("share-implicit", 3000);
        Map<String, Integer> seen = new HashMap<>();
        try (KafkaShareConsumer<String, String> a = member("implicit", false, "share-implicit");
                KafkaShareConsumer<String, String> b = member("implicit", false, "share-implicit")) {
            until("every record", () -> {
                for (KafkaShareConsumer<String, String> one : List.of(a, b)) {
                    for (ConsumerRecord<String, String> r : one.poll(Duration.ofMillis(200))) {
                        seen.merge(r.value(), 1, Integer::sum);
                    }
                }
                return seen.size() == 3000;
            });
        }
        check(seen.values().stream().allMatch(n -> n == 1), "a record came twice");
    }

    /** What is released comes again, counted; what is accepted or rejected does not, whoever reads. */
    private static void explicit(Admin admin) throws Exception {
        topic(admin, "share-explicit", 1);
        settings(admin, "explicit", "share.auto.offset.reset", "earliest");
        produce("share-explicit", 30);
        try (KafkaShareConsumer<String, String> a = member("explicit", true, "share-explicit")) {
            Map<String, Short> first = new TreeMap<>();
            until("every record", () -> {
                for (ConsumerRecord<String, String> r : a.poll(Duration.ofMillis(500))) {
                    first.put(r.value(), r.deliveryCount().get());
                    int n = Integer.parseInt(r.value());
                    a.acknowledge(r, n % 3 == 0 ? AcknowledgeType.ACCEPT
                        : n % 3 == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.REJECT);
                }
                a.commitSync().values().forEach(e -> check(e.isEmpty(), "an acknowledgement failed: " + e));
                return first.size() == 30;
            });
            Map<String, Short> again = new TreeMap<>();
            until("what was released", () -> {
                for (ConsumerRecord<String, String> r : a.poll(Duration.ofMillis(500))) {
                    again.put(r.value(), r.deliveryCount().get());
                    a.acknowledge(r, AcknowledgeType.ACCEPT);
                }
                a.commitSync().values().forEach(e -> check(e.isEmpty(), "an acknowledgement failed: " + e));
                return again.size() >= 10;
            });
            again.forEach((value, count) ->
                check(Integer.parseInt(value) % 3 == 1 && count >= 2, value + " came again"));
        }
        try (KafkaShareConsumer<String, String> b = member("explicit", true, "share-explicit")) {
            check(b.poll(Duration.ofSeconds(2)).isEmpty(), "something is left");
        }
    }

    /** A rejected record is in the dead-letter topic when the answer is there. */
    private static void letters(Admin admin) throws Exception {
        topic(admin, "share-letters", 1);
        settings(admin, "letters", "share.auto.offset.reset", "earliest", "errors.deadletterqueue.topic.name",
            "dlq.share-letters", "errors.deadletterqueue.copy.record.enable", "true");
        produce("share-letters", 3);
        try (KafkaShareConsumer<String, String> a = member("letters", true, "share-letters")) {
            List<String> seen = new ArrayList<>();
            until("every record", () -> {
                for (ConsumerRecord<String, String> r : a.poll(Duration.ofMillis(500))) {
                    seen.add(r.value());
                    a.acknowledge(r, r.value().equals("1") ? AcknowledgeType.REJECT : AcknowledgeType.ACCEPT);
                }
                a.commitSync();
                return seen.size() == 3;
            });
        }
        Map<String, Object> config = Map.of("bootstrap.servers", SERVERS, "auto.offset.reset", "earliest");
        try (KafkaConsumer<String, String> c =
                new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            c.assign(List.of(new TopicPartition("dlq.share-letters", 0)));
            List<ConsumerRecord<String, String>> got = new ArrayList<>();
            until("the letter", () -> {
                c.poll(Duration.ofMillis(200)).forEach(got::add);
                return !got.isEmpty();
            });
            ConsumerRecord<String, String> letter = got.get(0);
            check(letter.value().equals("1"), "the letter has " + letter.value());
            for (String[] want : new String[][] {
                {"topic", "share-letters"}, {"partition", "0"}, {"offset", "1"}, {"group", "letters"},
                {"delivery.count", "1"}, {"message", "Offset rejected by client."}}) {
                String value = new String(letter.headers().lastHeader("__dlq.errors." + want[0]).value());
                check(value.equals(want[1]), want[0] + " is " + value);
            }
        }
    }

    /** A lock ends, and is renewed. */
    private static void locks(Admin admin) throws Exception {
        topic(admin, "share-locks", 1);
        settings(admin, "locks", "share.auto.offset.reset", "earliest", "share.record.lock.duration.ms", "10000");
        produce("share-locks", 1);
        try (KafkaShareConsumer<String, String> a = member("locks", true, "share-locks");
                KafkaShareConsumer<String, String> b = member("locks", true, "share-locks")) {
            List<ConsumerRecord<String, String>> got = new ArrayList<>();
            until("the record", () -> {
                a.poll(Duration.ofMillis(200)).forEach(got::add);
                return !got.isEmpty();
            });
            check(a.acquisitionLockTimeoutMs().orElse(0) == 10_000, "the lock lasts " + a.acquisitionLockTimeoutMs());
            for (int i = 0; i < 4; i++) { // beyond the lock
                Thread.sleep(3000);
                a.acknowledge(got.get(0), AcknowledgeType.RENEW);
                a.commitSync().values().forEach(e -> check(e.isEmpty(), "a renewal failed: " + e));
                check(b.poll(Duration.ofMillis(100)).isEmpty(), "a record came that somebody has");
                a.poll(Duration.ofMillis(100)); // which has the renewed one again
            }
            List<ConsumerRecord<String, String>> other = new ArrayList<>();
            until("the record, when its lock ends", () -> {
                b.poll(Duration.ofMillis(200)).forEach(other::add);
                return !other.isEmpty();
            });
            check(other.get(0).deliveryCount().get() == 2, "it is delivery " + other.get(0).deliveryCount());
            b.acknowledge(other.get(0), AcknowledgeType.ACCEPT);
            b.commitSync().values().forEach(e -> check(e.isEmpty(), "an acknowledgement failed: " + e));
        }
    }

    /** What tools show and change of a share group. */
    private static void administration(Admin admin) throws Exception {
        topic(admin, "share-admin", 1);
        settings(admin, "tended", "share.auto.offset.reset", "earliest");
        produce("share-admin", 100);
        TopicPartition first = new TopicPartition("share-admin", 0);
        try (KafkaShareConsumer<String, String> a = member("tended", false, "share-admin")) {
            until("records", () -> !a.poll(Duration.ofMillis(500)).isEmpty());
            ShareGroupDescription d = admin.describeShareGroups(List.of("tended")).all().get().get("tended");
            check(d.groupState() == GroupState.STABLE && d.members().size() == 1, "described as " + d);
            check(d.members().iterator().next().assignment().topicPartitions().size() == 1, "assigned: " + d);
            check(admin.listGroups(ListGroupsOptions.forShareGroups()).all().get().stream()
                .anyMatch(g -> g.groupId().equals("tended") && g.type().orElseThrow() == GroupType.SHARE), "no group");
            fails("it has members", () -> admin.deleteShareGroups(List.of("tended")).all().get());
        }
        admin.alterShareGroupOffsets("tended", Map.of(first, 1L)).all().get();
        Map<TopicPartition, SharePartitionOffsetInfo> offsets = admin.listShareGroupOffsets(
            Map.of("tended", new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo("tended").get();
        SharePartitionOffsetInfo at = offsets.get(first);
        check(at.startOffset() == 1 && at.lag().orElseThrow() == 99, "offsets: " + offsets);
        admin.deleteShareGroupOffsets("tended", Set.of("share-admin")).all().get();
        check(admin.listConfigResources(Set.of(ConfigResource.Type.GROUP), new ListConfigResourcesOptions()).all().get()
            .stream().anyMatch(r -> r.name().equals("tended")), "no settings");
        admin.deleteShareGroups(List.of("tended")).all().get();
        check(admin.listGroups(ListGroupsOptions.forShareGroups()).all().get().stream()
            .noneMatch(g -> g.groupId().equals("tended")), "listed after it was deleted");
    }

    private static KafkaShareConsumer<String, String> member(String group, boolean explicit, String topic) {
        KafkaShareConsumer<String, String> c = new KafkaShareConsumer<>(
            Map.of("bootstrap.servers", SERVERS, "group.id", group,
                "share.acknowledgement.mode", explicit ? "explicit" : "implicit"),
            new StringDeserializer(), new StringDeserializer());
        c.subscribe(List.of(topic));
        return c;
    }

    private static void topic(Admin admin, String name, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
    }

    private static void settings(Admin admin, String group, String... pairs) throws Exception {
        List<AlterConfigOp> ops = new ArrayList<>();
        for (int i = 0; i < pairs.length; i += 2) {
            ops.add(new AlterConfigOp(new ConfigEntry(pairs[i], pairs[i + 1]), AlterConfigOp.OpType.SET));
        }
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), ops)).all().get();
    }

    private static void produce(String topic, int records) throws Exception {
        try (KafkaProducer<String, String> p = new KafkaProducer<>(
                Map.of("bootstrap.servers", SERVERS), new StringSerializer(), new StringSerializer())) {
            IntStream.range(0, records).forEach(i -> p.send(new ProducerRecord<>(topic, Integer.toString(i))));
        }
    }

    private interface Call {
        void run() throws Exception;
    }

    private static void fails(String what, Call call) {
        try {
            call.run();
        } catch (Exception e) {
            return;
        }
        throw new AssertionError("did not fail: " + what);
    }

    private static void check(boolean so, String otherwise) {
        if (!so) {
            throw new AssertionError(otherwise);
        }
    }

    private static void until(String what, BooleanSupplier is) {
        for (long end = System.nanoTime() + Duration.ofSeconds(60).toNanos(); !is.getAsBoolean(); ) {
            if (System.nanoTime() > end) {
                throw new AssertionError("not in a minute: " + what);
            }
        }
    }
}
