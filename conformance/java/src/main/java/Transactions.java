import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Transactions of the official Java client, with KIP-890 (its default here), and their administration.
 *
 * [Kafka-DescribeProducers] [Kafka-DescribeTransactions] [Kafka-EndTxn] [Kafka-Fetch]
 * [Kafka-InitProducerId] [Kafka-ListOffsets] [Kafka-ListTransactions] [Kafka-OffsetFetch] [Kafka-Produce]
 * [Kafka-TxnOffsetCommit] [Kafka-WriteTxnMarkers]
 */
public final class Transactions {
    private static final String SERVERS = System.getenv("kafka");
    private static final Duration LIMIT = Duration.ofSeconds(180);
    private static final int PARTITIONS = 3;

    private Transactions() {}

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            commitAndAbort(admin);
            empty(admin);
            for (String protocol : List.of("classic", "consumer")) {
                offsets(admin, protocol);
            }
            lateMember(admin);
            fenced(admin);
            timeout(admin);
            errors(admin);
            deleted(admin);
            administration(admin);
        }
    }

    private static void ok(String what) {
        System.out.println("  ok: " + what);
    }

    private static void equal(Object got, Object want, String what) {
        if (!want.equals(got)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    private interface Call {
        void run() throws Exception;
    }

    /** Whether it was told so itself, or as the cause. */
    private static void refused(Class<? extends Exception> want, Call call) throws Exception {
        try {
            call.run();
        } catch (Exception e) {
            for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                if (want.isInstance(cause)) {
                    return;
                }
            }
            throw new AssertionError("not refused with " + want.getSimpleName(), e);
        }
        throw new AssertionError("not refused with " + want.getSimpleName());
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void until(String what, Condition c) throws Exception {
        long end = System.nanoTime() + LIMIT.toNanos();
        while (!c.holds()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("not in time: " + what);
            }
            Thread.sleep(50); // it is asked again
        }
    }

    private static KafkaProducer<String, String> producer(String id, int timeoutMillis) {
        return new KafkaProducer<>(
            Map.of("bootstrap.servers", SERVERS, "transactional.id", id, "transaction.timeout.ms", timeoutMillis),
            new StringSerializer(), new StringSerializer());
    }

    /** A producer that has its transactional id. */
    private static KafkaProducer<String, String> begun(String id) {
        KafkaProducer<String, String> p = producer(id, 60_000);
        p.initTransactions();
        p.beginTransaction();
        return p;
    }

    private static KafkaConsumer<String, String> consumer(String isolation, String group, String protocol) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", SERVERS, "isolation.level", isolation,
            "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", false));
        config.put("group.protocol", protocol);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    private static TopicPartition[] topic(Admin admin, String name) throws Exception {
        NewTopic made = new NewTopic(name, PARTITIONS, (short) 1).configs(Map.of("max.message.bytes", "100000"));
        admin.createTopics(List.of(made)).all().get();
        return IntStream.range(0, PARTITIONS).mapToObj(i -> new TopicPartition(name, i)).toArray(TopicPartition[]::new);
    }

    /** Sends one record to each partition, and waits until they are there. */
    private static void send(KafkaProducer<String, String> p, String topic, String value) {
        for (int i = 0; i < PARTITIONS; i++) {
            p.send(new ProducerRecord<>(topic, i, "k", value + "." + i));
        }
        p.flush();
    }

    private static List<String> wanted(String... values) {
        return List.of(values).stream().flatMap(v -> IntStream.range(0, PARTITIONS).mapToObj(i -> v + "." + i))
            .sorted().toList();
    }

    /** All that a new reader finds up to the end that it is told, in order of the values. */
    private static List<String> read(String isolation, TopicPartition... partitions) {
        List<String> values = new ArrayList<>();
        try (KafkaConsumer<String, String> c = consumer(isolation, "reader", "classic")) {
            c.assign(List.of(partitions));
            c.seekToBeginning(List.of(partitions));
            Map<TopicPartition, Long> ends = c.endOffsets(List.of(partitions));
            long limit = System.nanoTime() + LIMIT.toNanos();
            while (ends.entrySet().stream().anyMatch(e -> c.position(e.getKey()) < e.getValue())) {
                if (System.nanoTime() > limit) {
                    throw new AssertionError(isolation + ": " + values + " and no more, ends " + ends);
                }
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(100))) {
                    values.add(r.value());
                }
            }
        }
        return values.stream().sorted().toList();
    }

    private static void commitAndAbort(Admin admin) throws Exception {
        TopicPartition[] all = topic(admin, "tx");
        try (KafkaProducer<String, String> p = begun("tx"); KafkaProducer<String, String> other = begun("tx-other")) {
            send(p, "tx", "a");
            equal(read("read_committed", all), List.of(), "committed, while one is open");
            equal(read("read_uncommitted", all), wanted("a"), "all, while one is open");
            p.commitTransaction();
            equal(read("read_committed", all), wanted("a"), "committed");
            p.beginTransaction();
            send(p, "tx", "b");
            send(other, "tx", "c");
            other.commitTransaction();
            equal(read("read_committed", all), wanted("a"), "what is behind an open one");
            p.abortTransaction();
            equal(read("read_committed", all), wanted("a", "c"), "committed, when one was aborted");
            equal(read("read_uncommitted", all), wanted("a", "b", "c"), "all, when one was aborted");
            for (int i = 0; i < 20; i++) {
                p.beginTransaction();
                send(p, "tx", "d" + i);
                if (i % 2 == 0) {
                    p.commitTransaction();
                } else {
                    p.abortTransaction();
                }
            }
            String[] values = IntStream.range(0, 10).mapToObj(i -> "d" + 2 * i).toArray(String[]::new);
            List<String> want = new ArrayList<>(wanted("a", "c"));
            want.addAll(wanted(values));
            equal(read("read_committed", all), want.stream().sorted().toList(), "committed, one after another");
        }
        ok("transactions: commit and abort, read_committed and read_uncommitted");
    }

    private static void empty(Admin admin) throws Exception {
        TopicPartition[] all = topic(admin, "tx-empty");
        try (KafkaProducer<String, String> p = begun("tx-empty")) {
            p.commitTransaction();
            p.beginTransaction();
            p.abortTransaction();
            p.beginTransaction();
            send(p, "tx-empty", "a");
            p.commitTransaction();
            p.beginTransaction();
            p.commitTransaction();
        }
        equal(read("read_committed", all), wanted("a"), "between empty ones");
        ok("transactions: empty ones");
    }

    private static Map<TopicPartition, OffsetAndMetadata> at(TopicPartition p, long offset) {
        return Map.of(p, new OffsetAndMetadata(offset));
    }

    /** The offsets of a group count with the transaction, and whoever reads them waits for it. */
    private static void offsets(Admin admin, String protocol) throws Exception {
        String name = "tx-offsets-" + protocol;
        TopicPartition first = topic(admin, name)[0];
        try (KafkaConsumer<String, String> c = consumer("read_committed", name, protocol);
             KafkaProducer<String, String> p = begun(name)) {
            c.subscribe(List.of(name));
            send(p, name, "a");
            p.commitTransaction();
            until("assignment", () -> {
                c.poll(Duration.ofMillis(100));
                return c.assignment().size() == PARTITIONS;
            });
            p.beginTransaction();
            p.sendOffsetsToTransaction(at(first, 7), c.groupMetadata());
            refused(TimeoutException.class, () -> c.committed(Set.of(first), Duration.ofSeconds(1)));
            p.abortTransaction();
            equal(Optional.ofNullable(c.committed(Set.of(first)).get(first)), Optional.empty(),
                "an offset of an aborted transaction");
            p.beginTransaction();
            send(p, name, "b");
            p.sendOffsetsToTransaction(at(first, 1), c.groupMetadata());
            p.commitTransaction();
            equal(c.committed(Set.of(first)).get(first).offset(), 1L, "offset");
        }
        ok("transactions: offsets of a group, protocol " + protocol);
    }

    /** Who is no member any more commits nothing, and goes on when he has aborted. */
    private static void lateMember(Admin admin) throws Exception {
        TopicPartition first = topic(admin, "tx-late")[0];
        try (KafkaProducer<String, String> p = begun("tx-late")) {
            ConsumerGroupMetadata late;
            try (KafkaConsumer<String, String> c = consumer("read_committed", "tx-late", "classic")) {
                c.subscribe(List.of("tx-late"));
                until("assignment", () -> {
                    c.poll(Duration.ofMillis(100));
                    return !c.assignment().isEmpty();
                });
                late = c.groupMetadata();
            }
            send(p, "tx-late", "a");
            refused(CommitFailedException.class, () -> {
                p.sendOffsetsToTransaction(at(first, 1), late);
                p.commitTransaction();
            });
            p.abortTransaction();
            p.beginTransaction();
            p.sendOffsetsToTransaction(at(first, 2), new ConsumerGroupMetadata("tx-late"));
            p.commitTransaction();
        }
        var found = admin.listConsumerGroupOffsets("tx-late").partitionsToOffsetAndMetadata().get();
        equal(found.get(first).offset(), 2L, "offset");
        ok("transactions: a member that has left is refused, and the producer goes on");
    }

    private static void fenced(Admin admin) throws Exception {
        TopicPartition[] all = topic(admin, "tx-fenced");
        try (KafkaProducer<String, String> old = begun("tx-fenced")) {
            send(old, "tx-fenced", "a");
            try (KafkaProducer<String, String> young = begun("tx-fenced")) {
                equal(read("read_committed", all), List.of(), "the open one was aborted");
                refused(ProducerFencedException.class, old::commitTransaction);
                refused(KafkaException.class, old::abortTransaction);
                send(young, "tx-fenced", "b");
                young.commitTransaction();
            }
        }
        try (KafkaProducer<String, String> old = begun("tx-fenced");
             KafkaProducer<String, String> young = begun("tx-fenced")) {
            refused(KafkaException.class, () -> {
                old.send(new ProducerRecord<>("tx-fenced", 0, "k", "late")).get();
                old.commitTransaction();
            });
            send(young, "tx-fenced", "c");
            young.commitTransaction();
        }
        equal(read("read_committed", all), wanted("b", "c"), "committed");
        ok("transactions: a second instance fences the first");
    }

    private static void timeout(Admin admin) throws Exception {
        TopicPartition[] all = topic(admin, "tx-timeout");
        try (KafkaProducer<String, String> p = producer("tx-timeout", 5_000)) {
            p.initTransactions();
            p.beginTransaction();
            send(p, "tx-timeout", "a");
            until("the abort", () -> describe(admin, "tx-timeout").state() == TransactionState.COMPLETE_ABORT);
            refused(ProducerFencedException.class, p::commitTransaction);
        }
        equal(read("read_committed", all), List.of(), "committed");
        equal(read("read_uncommitted", all), wanted("a"), "all");
        try (KafkaProducer<String, String> p = producer("tx-timeout", Integer.MAX_VALUE)) {
            refused(KafkaException.class, p::initTransactions);
        }
        ok("transactions: aborted after their time, and its limit");
    }

    private static void errors(Admin admin) throws Exception {
        TopicPartition[] all = topic(admin, "tx-errors");
        try (KafkaProducer<String, String> p = begun("tx-errors")) {
            send(p, "tx-errors", "a");
            refused(RecordTooLargeException.class,
                () -> p.send(new ProducerRecord<>("tx-errors", 0, "k", "x".repeat(200_000))).get());
            refused(KafkaException.class, p::commitTransaction);
            p.abortTransaction();
            p.beginTransaction();
            send(p, "tx-errors", "b");
            p.commitTransaction();
        }
        equal(read("read_committed", all), wanted("b"), "committed");
        ok("transactions: abort after an error, and go on");
    }

    /** A topic that is deleted takes along what a transaction has in it, and its offsets; the rest is committed. */
    private static void deleted(Admin admin) throws Exception {
        TopicPartition gone = topic(admin, "tx-gone")[0];
        TopicPartition[] all = topic(admin, "tx-stays");
        try (KafkaProducer<String, String> p = begun("tx-gone")) {
            send(p, "tx-gone", "a");
            send(p, "tx-stays", "b");
            p.sendOffsetsToTransaction(Map.of(gone, new OffsetAndMetadata(1), all[0], new OffsetAndMetadata(2)),
                new ConsumerGroupMetadata("tx-gone"));
            admin.deleteTopics(List.of("tx-gone")).all().get();
            p.commitTransaction();
            equal(read("read_committed", all), wanted("b"), "committed");
            var found = admin.listConsumerGroupOffsets("tx-gone").partitionsToOffsetAndMetadata().get();
            equal(found.get(all[0]).offset(), 2L, "offset");
            topic(admin, "tx-gone");
            p.beginTransaction();
            send(p, "tx-stays", "c");
            p.sendOffsetsToTransaction(at(all[0], 3), new ConsumerGroupMetadata("tx-gone"));
            admin.deleteConsumerGroups(List.of("tx-gone")).all().get();
            p.commitTransaction();
            found = admin.listConsumerGroupOffsets("tx-gone").partitionsToOffsetAndMetadata().get();
            equal(Optional.ofNullable(found.get(all[0])), Optional.empty(), "offset of the group that was deleted before");
            equal(Optional.ofNullable(found.get(gone)), Optional.empty(), "offset in a topic of the same name");
        }
        equal(read("read_committed", all), wanted("b", "c"), "committed");
        ok("transactions: a topic and a group are deleted under one");
    }

    private static TransactionDescription describe(Admin admin, String id) throws Exception {
        return admin.describeTransactions(List.of(id)).description(id).get();
    }

    private static List<String> listed(Admin admin, ListTransactionsOptions options) throws Exception {
        return admin.listTransactions(options).all().get().stream().map(TransactionListing::transactionalId).sorted()
            .toList();
    }

    /** The one producer that a partition knows. */
    private static ProducerState producerOf(Admin admin, TopicPartition p) throws Exception {
        List<ProducerState> active = admin.describeProducers(List.of(p)).partitionResult(p).get().activeProducers();
        equal(active.size(), 1, "producers");
        return active.get(0);
    }

    private static void administration(Admin admin) throws Exception {
        TopicPartition[] all = topic(admin, "tx-admin");
        try (KafkaProducer<String, String> p = begun("tx-admin");
             KafkaProducer<String, String> idle = begun("tx-admin-idle")) {
            send(p, "tx-admin", "a");
            var ongoing = new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING));
            equal(listed(admin, ongoing), List.of("tx-admin"), "transactions under way");
            equal(listed(admin, new ListTransactionsOptions().filterOnTransactionalIdPattern("tx-admin.*")),
                List.of("tx-admin", "tx-admin-idle"), "ids by pattern");
            equal(listed(admin, ongoing.filterOnDuration(3_600_000)), List.of(), "under way for an hour");
            TransactionDescription d = describe(admin, "tx-admin");
            equal(d.topicPartitions(), Set.of(all), "partitions");
            equal(d.transactionTimeoutMs(), 60_000L, "timeout");
            equal(d.transactionStartTimeMs().orElse(0) > System.currentTimeMillis() - 3_600_000, true, "start");
            refused(TransactionalIdNotFoundException.class, () -> describe(admin, "tx-nobody"));
            equal(listed(admin, new ListTransactionsOptions().filterProducerIds(Set.of(d.producerId()))),
                List.of("tx-admin"), "ids by producer");

            ProducerState active = producerOf(admin, all[0]);
            equal(active.producerId(), d.producerId(), "producer");
            equal(active.currentTransactionStartOffset().orElse(-1), 0L, "start of the transaction");
            admin.abortTransaction(new AbortTransactionSpec(all[0], d.producerId(), (short) active.producerEpoch(),
                active.coordinatorEpoch().orElse(0))).all().get();
            equal(producerOf(admin, all[0]).currentTransactionStartOffset().isPresent(), false,
                "open where it was aborted by hand");

            admin.fenceProducers(List.of("tx-admin")).all().get();
            refused(ProducerFencedException.class, p::commitTransaction);
            equal(read("read_committed", all), List.of(), "committed");
            equal(listed(admin, new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))), List.of(),
                "under way at the end");
            idle.abortTransaction();
        }
        ok("transactions: list, describe, describe producers, abort by hand, fence");
    }
}
