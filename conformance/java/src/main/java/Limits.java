import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.MetricName;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The official Java clients against the quotas of firth, its features, and where they push their metrics.
 *
 * [Kafka-AlterClientQuotas] [Kafka-DescribeClientQuotas] [Kafka-GetTelemetrySubscriptions] [Kafka-PushTelemetry]
 * [Kafka-UpdateFeatures]
 */
public final class Limits {
    private static final String SERVERS = System.getenv("kafka");
    private static final Duration LIMIT = Duration.ofSeconds(120);
    private static final int RATE = 200_000; // bytes a second
    private static final int RECORD = 10_000;
    private static final int COUNT = 60;

    private Limits() {}

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            quotas(admin);
            features(admin);
            settings(admin);
        }
        metrics();
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static ClientQuotaEntity client(String id) {
        Map<String, String> entries = new HashMap<>();
        entries.put(ClientQuotaEntity.CLIENT_ID, id);
        return new ClientQuotaEntity(entries);
    }

    private static void alter(Admin admin, ClientQuotaEntity entity, Double rate) throws Exception {
        Collection<ClientQuotaAlteration.Op> ops = List.of(
            new ClientQuotaAlteration.Op("producer_byte_rate", rate),
            new ClientQuotaAlteration.Op("consumer_byte_rate", rate));
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, ops))).all().get();
    }

    /** A producer and a consumer with a quota get what it allows, and know that they are throttled; others are not. */
    private static void quotas(Admin admin) throws Exception {
        admin.createTopics(List.of(new NewTopic("java-quota", 1, (short) 1))).all().get();
        alter(admin, client("slow"), (double) RATE);
        alter(admin, client(null), 50_000_000.0);
        var all = admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get();
        check(all.size() == 2 && all.get(client("slow")).get("producer_byte_rate") == RATE, "described: " + all);
        long least = (COUNT * RECORD - RATE) * 1000L / RATE * 8 / 10; // what is beyond a second's worth, and some leeway
        for (String id : List.of("slow", "quick")) {
            long start = System.nanoTime();
            double throttled = produce(id);
            long sent = (System.nanoTime() - start) / 1_000_000;
            start = System.nanoTime();
            throttled += consume(id);
            long read = (System.nanoTime() - start) / 1_000_000;
            if (id.equals("slow")) {
                for (int i = 0; throttled == 0 && i < 20; i++) { // a machine that is too slow for the quota has it later
                    throttled = produce(id);
                }
                check(sent >= least && read >= least, "sent in " + sent + " ms, read in " + read + ", quota says " + least);
                check(throttled > 0, "not told of being throttled");
            } else {
                check(throttled == 0, "throttled without reason");
            }
            System.out.println("  ok: quota of " + RATE + " B/s, client " + id + ": " + COUNT * RECORD + " bytes sent in "
                + sent + " ms, read in " + read + " ms");
        }
        alter(admin, client("slow"), null);
        alter(admin, client(null), null);
        all = admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get();
        check(all.isEmpty(), "still described: " + all);
    }

    /** Each compression.type is read by a Java consumer; what is no setting is refused. */
    private static void settings(Admin admin) throws Exception {
        for (String type : List.of("uncompressed", "gzip", "snappy", "lz4", "zstd")) {
            String topic = "java-stored-" + type;
            NewTopic made = new NewTopic(topic, 1, (short) 1).configs(Map.of("compression.type", type));
            admin.createTopics(List.of(made)).all().get();
            try (KafkaProducer<byte[], byte[]> p = new KafkaProducer<>(
                Map.of("bootstrap.servers", SERVERS, "compression.type", type.equals("gzip") ? "lz4" : "gzip"),
                new ByteArraySerializer(), new ByteArraySerializer())) {
                for (int i = 0; i < COUNT; i++) {
                    p.send(new ProducerRecord<>(topic, new byte[RECORD]));
                }
            }
            read("reads", topic);
        }
        try {
            NewTopic odd = new NewTopic("java-odd", 1, (short) 1).configs(Map.of("message.format.version", "2.8"));
            admin.createTopics(List.of(odd)).all().get();
            throw new AssertionError("a setting that is none was taken");
        } catch (ExecutionException e) {
            check(e.getCause() instanceof InvalidConfigurationException
                && e.getCause().getMessage().contains("message.format.version"), "got " + e.getCause());
        }
        System.out.println("  ok: admin and consumer: every compression.type; an unknown setting is refused by name");
    }

    private static void features(Admin admin) throws Exception {
        var known = admin.describeFeatures().featureMetadata().get().finalizedFeatures();
        short level = known.get("transaction.version").maxVersionLevel();
        var update = new FeatureUpdate(level, FeatureUpdate.UpgradeType.UPGRADE);
        admin.updateFeatures(Map.of("transaction.version", update), new UpdateFeaturesOptions()).all().get();
        var higher = new FeatureUpdate((short) (level + 1), FeatureUpdate.UpgradeType.UPGRADE);
        try {
            admin.updateFeatures(Map.of("transaction.version", higher), new UpdateFeaturesOptions()).all().get();
            throw new AssertionError("a level that is none was taken");
        } catch (ExecutionException e) {
            check(e.getCause() instanceof InvalidUpdateVersionException, "got " + e.getCause());
        }
        System.out.println("  ok: admin: features described and updated");
    }

    /** A producer asks what to push, pushes when it ends, and /metrics shows it. */
    private static void metrics() throws Exception {
        try (KafkaProducer<byte[], byte[]> p = new KafkaProducer<>(
            Map.of("bootstrap.servers", SERVERS, "client.id", "pushes"), new ByteArraySerializer(),
            new ByteArraySerializer())) {
            p.send(new ProducerRecord<>("java-quota", new byte[RECORD])).get();
            System.out.println("  ok: client instance id " + p.clientInstanceId(Duration.ofSeconds(60)));
        }
        URI page = URI.create("http://" + System.getenv("http") + "/metrics");
        String shown = "firth_kafka_client_metric_total{name=\"org.apache.kafka.producer.connection.creation.total\"}";
        long until = System.nanoTime() + LIMIT.toNanos();
        while (!HttpClient.newHttpClient().send(HttpRequest.newBuilder(page).build(), BodyHandlers.ofString()).body()
            .contains(shown)) {
            check(System.nanoTime() < until, "/metrics does not show " + shown);
            Thread.sleep(200);
        }
        System.out.println("  ok: metrics of a producer are shown in /metrics");
    }

    private static double produce(String id) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> p = new KafkaProducer<>(Map.of("bootstrap.servers", SERVERS, "client.id", id),
            new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < COUNT; i++) {
                sent.add(p.send(new ProducerRecord<>("java-quota", new byte[RECORD])));
            }
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
            return metric(p.metrics(), "produce-throttle-time-max");
        }
    }

    private static double consume(String id) {
        return read(id, "java-quota");
    }

    private static double read(String id, String topic) {
        try (KafkaConsumer<byte[], byte[]> c = new KafkaConsumer<>(
            Map.of("bootstrap.servers", SERVERS, "client.id", id), new ByteArrayDeserializer(),
            new ByteArrayDeserializer())) {
            TopicPartition tp = new TopicPartition(topic, 0);
            c.assign(Set.of(tp));
            c.seek(tp, 0);
            long until = System.nanoTime() + LIMIT.toNanos();
            for (int got = 0; got < COUNT; got += c.poll(Duration.ofMillis(100)).count()) {
                check(System.nanoTime() < until, "only " + got + " records came");
            }
            return metric(c.metrics(), "fetch-throttle-time-max");
        }
    }

    private static double metric(Map<MetricName, ? extends Metric> metrics, String name) {
        return metrics.entrySet().stream().filter(e -> e.getKey().name().equals(name))
            .mapToDouble(e -> (double) e.getValue().metricValue()).filter(d -> !Double.isNaN(d)).max().orElse(0);
    }
}
