import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Groups of the official Java consumer with group.protocol=consumer (KIP-848), against firth with a heartbeat interval of
 * half a second.
 *
 * [Kafka-ConsumerGroupDescribe] [Kafka-ConsumerGroupHeartbeat] [Kafka-JoinGroup] [Kafka-ListGroups] [Kafka-OffsetCommit]
 * [Kafka-OffsetDelete] [Kafka-OffsetFetch] [Kafka-SyncGroup]
 */
public final class Groups {
    private static final String SERVERS = System.getenv("kafka");
    private static final Duration LIMIT = Duration.ofSeconds(120);

    private Groups() {}

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            pair(admin);
            pattern(admin);
            instance(admin);
            migrate(admin);
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

    private interface Condition {
        boolean holds() throws Exception;
    }

    /** Polls the members until something is so. */
    private static void until(String what, Condition condition, Member... members) throws Exception {
        long end = System.nanoTime() + LIMIT.toNanos();
        while (!condition.holds()) {
            check(System.nanoTime() < end, "not in time: " + what + "; " + List.of(members));
            for (Member m : members) {
                m.poll();
            }
        }
    }

    /** A consumer, and what it has read. */
    private static final class Member implements AutoCloseable {
        final KafkaConsumer<String, String> consumer;
        final Set<String> seen;

        Member(String group, Set<String> seen, String... settings) {
            Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", SERVERS, "group.id", group,
                "auto.offset.reset", "earliest", "enable.auto.commit", false, "metadata.max.age.ms", 1000));
            for (int i = 0; i < settings.length; i += 2) {
                config.put(settings[i], settings[i + 1]);
            }
            if ("classic".equals(config.get("group.protocol"))) {
                config.put("heartbeat.interval.ms", 500);
            }
            consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
            this.seen = seen;
        }

        Member reads(String... topics) {
            consumer.subscribe(List.of(topics));
            return this;
        }

        void poll() {
            consumer.poll(Duration.ofMillis(100)).forEach(r -> seen.add(r.topic() + r.partition() + "/" + r.offset()));
            try {
                consumer.commitSync();
            } catch (CommitFailedException | RebalanceInProgressException | RetriableException e) {
                // The group changed between: what was read is given out again, and committed then.
            }
        }

        int share() {
            return consumer.assignment().size();
        }

        @Override
        public void close() {
            consumer.close();
        }

        @Override
        public String toString() {
            return consumer.assignment() + " and " + seen.size() + " records";
        }
    }

    private static void fill(Admin admin, String topic, int partitions, int each) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        put(topic, partitions, each);
    }

    private static void put(String topic, int partitions, int each) {
        try (KafkaProducer<String, String> p = new KafkaProducer<>(Map.of("bootstrap.servers", SERVERS),
            new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < partitions * each; i++) {
                p.send(new ProducerRecord<>(topic, i % partitions, null, "v" + i));
            }
        }
    }

    private static ConsumerGroupDescription describe(Admin admin, String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get().get(group);
    }

    private static boolean stable(Admin admin, String group, GroupType type, int members) throws Exception {
        ConsumerGroupDescription d = describe(admin, group);
        return d.type() == type && d.groupState() == GroupState.STABLE && d.members().size() == members;
    }

    /** Two members share a topic, partitions are added, one leaves; the administrator sees it. */
    private static void pair(Admin admin) throws Exception {
        fill(admin, "new-pair", 4, 50);
        Set<String> seen = new HashSet<>();
        try (Member b = new Member("new-pair", seen, "group.protocol", "consumer").reads("new-pair")) {
            try (Member a = new Member("new-pair", seen, "group.protocol", "consumer", "group.remote.assignor", "range")
                .reads("new-pair")) {
                until("each has two partitions", () -> a.share() == 2 && b.share() == 2 && seen.size() == 200, a, b);
                admin.createPartitions(Map.of("new-pair", NewPartitions.increaseTo(6))).all().get();
                until("each has three partitions", () -> a.share() == 3 && b.share() == 3, a, b);
                until("stable", () -> stable(admin, "new-pair", GroupType.CONSUMER, 2), a, b);
                ConsumerGroupDescription d = describe(admin, "new-pair");
                check(d.partitionAssignor().equals("range"), "assignor " + d.partitionAssignor());
                for (MemberDescription m : d.members()) {
                    check(m.assignment().topicPartitions().size() == 3 && m.targetAssignment().isPresent()
                        && m.memberEpoch().equals(d.groupEpoch()) && m.upgraded().equals(Optional.of(true)), "member " + m);
                }
                var listed = admin.listGroups(new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))).all().get();
                check(listed.stream().anyMatch(g -> g.groupId().equals("new-pair")), "listed " + listed);
                refused(GroupNotEmptyException.class,
                    () -> admin.deleteConsumerGroups(List.of("new-pair")).all().get());
            }
            until("the other one has all", () -> b.share() == 6, b);
            put("new-pair", 6, 10);
            until("all is read", () -> seen.size() == 260, b);
        }
        long committed = admin.listConsumerGroupOffsets("new-pair").partitionsToOffsetAndMetadata().get().values()
            .stream().mapToLong(o -> o.offset()).sum();
        check(committed == 260, "committed " + committed);
        admin.deleteConsumerGroupOffsets("new-pair", Set.of(new TopicPartition("new-pair", 0))).all().get();
        admin.deleteConsumerGroups(List.of("new-pair")).all().get();
        ok("consumer protocol: two members, new partitions, one leaves, administration");
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
        } catch (Exception e) {
            check(want.isInstance(e), "got " + e + ", want " + want.getSimpleName());
            return;
        }
        throw new AssertionError("not refused with " + want.getSimpleName());
    }

    /** The broker matches a regular expression, also topics that come later. */
    private static void pattern(Admin admin) throws Exception {
        fill(admin, "pattern-1", 2, 10);
        Set<String> seen = new HashSet<>();
        try (Member m = new Member("patterns", seen, "group.protocol", "consumer")) {
            m.consumer.subscribe(new SubscriptionPattern("pattern-[0-9]+"));
            until("the first topic is read", () -> seen.size() == 20, m);
            fill(admin, "pattern-22", 1, 10);
            fill(admin, "pattern-x", 1, 10);
            until("the one made later is read, too", () -> seen.size() == 30 && m.share() == 3, m);
        }
        try (Member m = new Member("patterns-bad", seen, "group.protocol", "consumer")) {
            m.consumer.subscribe(new SubscriptionPattern("(?=x)"));
            refused(InvalidRegularExpression.class, () -> {
                long end = System.nanoTime() + LIMIT.toNanos();
                while (System.nanoTime() < end) {
                    m.consumer.poll(Duration.ofMillis(100));
                }
            });
        }
        ok("consumer protocol: regular expressions");
    }

    /** A static member goes and comes back to what it had; nobody takes its name meanwhile. */
    private static void instance(Admin admin) throws Exception {
        fill(admin, "instances", 4, 10);
        Set<String> seen = new HashSet<>();
        String[] one = {"group.protocol", "consumer", "group.instance.id", "one"};
        try (Member b = new Member("instances", seen, "group.protocol", "consumer", "group.instance.id", "two")
            .reads("instances")) {
            Member a = new Member("instances", seen, one).reads("instances");
            until("each has two partitions", () -> a.share() == 2 && b.share() == 2, a, b);
            Set<TopicPartition> had = a.consumer.assignment();
            try (Member other = new Member("instances", seen, one).reads("instances")) {
                refused(UnreleasedInstanceIdException.class, () -> until("it is refused", () -> false, other, a, b));
            }
            a.close();
            try (Member again = new Member("instances", seen, one).reads("instances")) {
                until("it has what it had", () -> again.consumer.assignment().equals(had) && b.share() == 2, again, b);
            }
        }
        ok("consumer protocol: static members");
    }

    /** A group goes from the classic protocol to the consumer protocol and back, member by member, at work. */
    private static void migrate(Admin admin) throws Exception {
        fill(admin, "migrates", 6, 20);
        Set<String> seen = new HashSet<>();
        String[] old = {"group.protocol", "classic", "partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"};
        String[] modern = {"group.protocol", "consumer"};
        Member a = new Member("migrates", seen, old).reads("migrates");
        Member b = new Member("migrates", seen, old).reads("migrates");
        until("classic", () -> a.share() == 3 && b.share() == 3, a, b);
        Member c = new Member("migrates", seen, modern).reads("migrates");
        until("one of three is new", () -> a.share() == 2 && b.share() == 2 && c.share() == 2, a, b, c);
        until("stable", () -> stable(admin, "migrates", GroupType.CONSUMER, 3), a, b, c);
        a.close();
        until("two are left", () -> b.share() == 3 && c.share() == 3, b, c);
        b.close();
        until("one is left", () -> c.share() == 6, c);
        Member d = new Member("migrates", seen, old).reads("migrates");
        until("an old one comes back", () -> d.share() == 3 && c.share() == 3, c, d);
        c.close();
        until("classic again", () -> d.share() == 6 && stable(admin, "migrates", GroupType.CLASSIC, 1), d);
        put("migrates", 6, 20);
        until("all is read", () -> seen.size() == 240, d);
        d.close();
        ok("a group goes from one protocol to the other and back");
    }
}
