import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.tests.SmokeTestDriver;

/**
 * What Kafka's own tests of transactions and of Streams need around them: Drive seed COUNT | copied COUNT |
 * smoke SECONDS | open ID.
 *
 * [Kafka-EndTxn] [Kafka-Fetch] [Kafka-InitProducerId] [Kafka-OffsetFetch] [Kafka-Produce] [Kafka-TxnOffsetCommit]
 */
public final class Drive {
    private static final String SERVERS = System.getenv("kafka");
    private static final int PARTITIONS = 4;
    private static final Duration QUIET = Duration.ofSeconds(300); // with nothing copied

    private Drive() {}

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "seed" -> seed(Integer.parseInt(args[1]));
            case "copied" -> copied(Integer.parseInt(args[1]));
            case "smoke" -> smoke(Integer.parseInt(args[1]));
            case "open" -> open(args[1]);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void create(int partitions, String... topics) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            List<NewTopic> all = Arrays.stream(topics).map(t -> new NewTopic(t, partitions, (short) 1)).toList();
            admin.createTopics(all).all().get();
        }
    }

    /** Makes the topics, and the input of the copiers: the numbers below count. */
    private static void seed(int count) throws Exception {
        create(PARTITIONS, "input", "output");
        try (KafkaProducer<String, String> p = new KafkaProducer<>(Map.of("bootstrap.servers", SERVERS),
            new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < count; i++) {
                int n = i % PARTITIONS;
                p.send(new ProducerRecord<>("input", n, "output/" + n, Integer.toString(i))); // the copy's MQTT topic
            }
        }
    }

    /** Wants each number once in the output, in order in each partition, and all of the input committed. */
    private static void copied(int count) throws Exception {
        List<TopicPartition> parts =
            IntStream.range(0, PARTITIONS).mapToObj(i -> new TopicPartition("output", i)).toList();
        BitSet seen = new BitSet();
        Map<Integer, Integer> last = new HashMap<>();
        List<String> wrong = new ArrayList<>();
        try (KafkaConsumer<String, String> c = new KafkaConsumer<>(Map.of("bootstrap.servers", SERVERS,
            "isolation.level", "read_committed", "auto.offset.reset", "earliest", "enable.auto.commit", false),
            new StringDeserializer(), new StringDeserializer())) {
            c.assign(parts);
            long quiet = System.nanoTime() + QUIET.toNanos();
            while (seen.cardinality() < count || !atEnd(c, parts)) {
                if (System.nanoTime() > quiet) {
                    throw new AssertionError(seen.cardinality() + " of " + count + " were copied; " + wrong);
                }
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(200))) {
                    quiet = System.nanoTime() + QUIET.toNanos();
                    int n = Integer.parseInt(r.value());
                    if (seen.get(n)) {
                        wrong.add(n + " once more at " + r.partition() + "/" + r.offset());
                    }
                    seen.set(n);
                    Integer before = last.put(r.partition(), n);
                    if (r.partition() != n % PARTITIONS || before != null && before >= n) {
                        wrong.add(n + " behind " + before + " at " + r.partition() + "/" + r.offset());
                    }
                }
            }
        }
        if (!wrong.isEmpty()) {
            throw new AssertionError(wrong.size() + " are wrong: " + wrong.subList(0, Math.min(wrong.size(), 10)));
        }
        long committed;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            committed = admin.listConsumerGroupOffsets("copiers").partitionsToOffsetAndMetadata().get().values().stream()
                .mapToLong(OffsetAndMetadata::offset).sum();
        }
        if (committed != count) {
            throw new AssertionError("committed " + committed + " of " + count);
        }
        System.out.println("  ok: " + count + " records were copied, each once, in order");
    }

    private static boolean atEnd(KafkaConsumer<?, ?> c, List<TopicPartition> parts) {
        return c.endOffsets(parts).entrySet().stream().allMatch(e -> c.position(e.getKey()) >= e.getValue());
    }

    /** The driver of Kafka's smoke test of Streams, with less time for its records than its main gives it. */
    private static void smoke(int seconds) throws Exception {
        create(3, SmokeTestDriver.topics());
        System.err.println("topics made");
        Map<String, Set<Integer>> sent = SmokeTestDriver.generate(SERVERS, 20, 1000, Duration.ofSeconds(seconds));
        System.err.println("all sent");
        // It asks for the ends of the topics and then for those of what is committed: a transaction that is ended in between,
        // as that of an instance that was killed, fails it. What is wrong with the records is wrong again.
        for (int tries = 1; !SmokeTestDriver.verify(SERVERS, sent, 1000, true).passed(); tries++) {
            if (tries == 3) {
                System.exit(1);
            }
        }
    }

    /** Opens a transaction and leaves it open until it is killed. */
    private static void open(String id) throws Exception {
        create(1, id);
        KafkaProducer<String, String> p = new KafkaProducer<>(
            Map.of("bootstrap.servers", SERVERS, "transactional.id", id), new StringSerializer(), new StringSerializer());
        p.initTransactions();
        p.beginTransaction();
        p.send(new ProducerRecord<>(id, "open")).get();
        System.out.println("open");
        Thread.sleep(Long.MAX_VALUE);
    }
}
