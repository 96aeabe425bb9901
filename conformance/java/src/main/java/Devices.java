import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.MqttClientState;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.lifecycle.MqttClientAutoReconnect;
import com.hivemq.client.mqtt.mqtt3.Mqtt3BlockingClient;
import com.hivemq.client.mqtt.mqtt3.message.publish.Mqtt3Publish;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5BlockingClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5ClientBuilder;
import com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5Connect;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** HiveMQ's client against firth, MQTT 3.1.1 and 5.0. It asks for a restart of firth by a line "restart". */
public final class Devices {
    private static final String HOST = System.getenv("mqtt_host");
    private static final int PORT = Integer.parseInt(System.getenv("mqtt_port"));
    private static final long LIMIT = 180; // seconds for anything to happen

    private Devices() {}

    public static void main(String[] args) throws Exception {
        version3();
        version5();
        properties();
        will();
        window();
        session();
        restart();
        System.exit(0);
    }

    private static void ok(String what) {
        System.out.println("  ok: " + what);
    }

    private static void equal(Object got, Object want, String what) {
        if (!want.equals(got)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    private static String text(Mqtt5Publish m) {
        return new String(m.getPayloadAsBytes(), StandardCharsets.UTF_8);
    }

    private static void version3() throws Exception {
        try (Closing<Mqtt3BlockingClient> c = new Closing<>(
            MqttClient.builder().useMqttVersion3().serverHost(HOST).serverPort(PORT).buildBlocking(),
            Mqtt3BlockingClient::disconnect)) {
            c.it.connect();
            try (Mqtt3BlockingClient.Mqtt3Publishes in = c.it.publishes(MqttGlobalPublishFilter.SUBSCRIBED)) {
                c.it.subscribeWith().topicFilter("hive3/+").qos(MqttQos.EXACTLY_ONCE).send();
                for (int i = 0; i < 300; i++) {
                    c.it.publishWith().topic("hive3/a").qos(MqttQos.fromCode(i % 3)).payload(bytes("m" + i)).send();
                }
                for (int qos = 0; qos < 3; qos++) {
                    c.it.publishWith().topic("hive3/end").qos(MqttQos.fromCode(qos)).payload(bytes("end")).send();
                }
                List<Mqtt3Publish> got = new ArrayList<>();
                for (int i = 0; i < 303; i++) {
                    got.add(in.receive(LIMIT, TimeUnit.SECONDS).orElseThrow());
                }
                for (int qos = 0; qos < 3; qos++) {
                    List<String> want = new ArrayList<>();
                    for (int i = qos; i < 300; i += 3) {
                        want.add("m" + i);
                    }
                    want.add("end");
                    int is = qos;
                    equal(got.stream().filter(m -> m.getQos().getCode() == is)
                        .map(m -> new String(m.getPayloadAsBytes(), StandardCharsets.UTF_8)).toList(), want, "QoS " + qos);
                }
            }
        }
        ok("HiveMQ client, 3.1.1: QoS 0, 1 and 2, each once, in order");
    }

    private static void version5() throws Exception {
        try (Closing<Mqtt5BlockingClient> c = connected("hive5", b -> b)) {
            try (Mqtt5BlockingClient.Mqtt5Publishes in = c.it.publishes(MqttGlobalPublishFilter.SUBSCRIBED)) {
                c.it.subscribeWith().topicFilter("hive5/+").qos(MqttQos.EXACTLY_ONCE).send();
                for (int qos = 0; qos < 3; qos++) {
                    for (int i = 0; i < 100; i++) {
                        c.it.publishWith().topic("hive5/a").qos(MqttQos.fromCode(qos)).payload(bytes("m" + i)).send();
                    }
                    for (int i = 0; i < 100; i++) {
                        Mqtt5Publish m = in.receive(LIMIT, TimeUnit.SECONDS).orElseThrow();
                        equal(text(m) + " " + m.getQos().getCode(), "m" + i + " " + qos, "message");
                    }
                }
            }
        }
        ok("HiveMQ client, 5.0: QoS 0, 1 and 2, each once, in order");
    }

    private static void properties() throws Exception {
        try (Closing<Mqtt5BlockingClient> c = connected("hive-props", b -> b)) {
            try (Mqtt5BlockingClient.Mqtt5Publishes in = c.it.publishes(MqttGlobalPublishFilter.SUBSCRIBED)) {
                Mqtt5Publish sent = Mqtt5Publish.builder().topic("props/1").qos(MqttQos.AT_LEAST_ONCE).retain(true)
                    .payload(bytes("{}")).messageExpiryInterval(600).contentType("application/json")
                    .responseTopic("answers/1").correlationData(bytes("4711"))
                    .userProperties().add("a", "1").add("b", "2").add("a", "3").applyUserProperties().build();
                c.it.publish(sent);
                c.it.subscribeWith().topicFilter("props/+").qos(MqttQos.AT_LEAST_ONCE).send();
                Mqtt5Publish got = in.receive(LIMIT, TimeUnit.SECONDS).orElseThrow();
                equal(got.isRetain(), true, "RETAIN of what is retained");
                equal(got.getContentType(), sent.getContentType(), "content type");
                equal(got.getResponseTopic(), sent.getResponseTopic(), "response topic");
                equal(got.getCorrelationData().map(ByteBuffer::remaining), java.util.Optional.of(4), "correlation data");
                equal(got.getUserProperties(), sent.getUserProperties(), "user properties");
                long left = got.getMessageExpiryInterval().orElseThrow();
                equal(left > 0 && left <= 600, true, "message expiry " + left);
                c.it.publish(sent);
                equal(in.receive(LIMIT, TimeUnit.SECONDS).orElseThrow().isRetain(), false, "RETAIN of a live message");
                c.it.publishWith().topic("props/1").retain(true).qos(MqttQos.AT_LEAST_ONCE).send(); // clears
            }
        }
        ok("HiveMQ client: properties, retained and live");
    }

    private static void will() throws Exception {
        try (Closing<Mqtt5BlockingClient> c = connected("hive-heir", b -> b)) {
            try (Mqtt5BlockingClient.Mqtt5Publishes in = c.it.publishes(MqttGlobalPublishFilter.SUBSCRIBED)) {
                c.it.subscribeWith().topicFilter("wills/+").qos(MqttQos.AT_LEAST_ONCE).send();
                try (Closing<Mqtt5BlockingClient> dying = connected("hive-dying", b -> b.willPublish().topic("wills/1")
                    .qos(MqttQos.AT_LEAST_ONCE).payload(bytes("gone")).applyWillPublish())) {
                    dying.it.disconnectWith().reasonCode(com.hivemq.client.mqtt.mqtt5.message.disconnect
                        .Mqtt5DisconnectReasonCode.DISCONNECT_WITH_WILL_MESSAGE).send();
                }
                equal(text(in.receive(LIMIT, TimeUnit.SECONDS).orElseThrow()), "gone", "will");
            }
        }
        ok("HiveMQ client: DISCONNECT with the will");
    }

    /** A client with receive maximum 5 that acknowledges late: each message once, in order, with the right order of acks. */
    private static void window() throws Exception {
        try (Closing<Mqtt5BlockingClient> c = connected("hive-window", b -> b.restrictions().receiveMaximum(5)
            .applyRestrictions())) {
            BlockingQueue<Mqtt5Publish> in = new LinkedBlockingQueue<>();
            c.it.toAsync().subscribeWith().topicFilter("window").qos(MqttQos.EXACTLY_ONCE).callback(in::add)
                .manualAcknowledgement(true).send().get(LIMIT, TimeUnit.SECONDS);
            for (int i = 0; i < 50; i++) {
                c.it.publishWith().topic("window").qos(MqttQos.EXACTLY_ONCE).payload(bytes("w" + i)).send();
            }
            List<Mqtt5Publish> held = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                Mqtt5Publish m = in.poll(LIMIT, TimeUnit.SECONDS);
                equal(m == null ? null : text(m), "w" + i, "message");
                held.add(m);
                if (held.size() == 5 || i == 49) { // and no more would come before these are acknowledged
                    equal(in.size(), 0, "messages beyond the receive maximum");
                    held.forEach(Mqtt5Publish::acknowledge);
                    held.clear();
                }
            }
        }
        ok("HiveMQ client: receive maximum 5, acknowledged by hand");
    }

    private static void session() throws Exception {
        Mqtt5Connect stays = Mqtt5Connect.builder().cleanStart(false).sessionExpiryInterval(600).build();
        Mqtt5BlockingClient sleeper = builder("hive-sleeper").buildBlocking();
        equal(sleeper.connect(stays).isSessionPresent(), false, "session present at first");
        sleeper.subscribeWith().topicFilter("sleep/#").qos(MqttQos.EXACTLY_ONCE).send();
        sleeper.disconnect();
        try (Closing<Mqtt5BlockingClient> c = connected("hive-waker", b -> b)) {
            for (int i = 0; i < 100; i++) {
                c.it.publishWith().topic("sleep/1").qos(MqttQos.EXACTLY_ONCE).payload(bytes("s" + i)).send();
            }
            try (Mqtt5BlockingClient.Mqtt5Publishes in = sleeper.publishes(MqttGlobalPublishFilter.ALL)) {
                equal(sleeper.connect(stays).isSessionPresent(), true, "session present");
                c.it.publishWith().topic("sleep/1").qos(MqttQos.EXACTLY_ONCE).payload(bytes("s100")).send();
                for (int i = 0; i <= 100; i++) {
                    equal(text(in.receive(LIMIT, TimeUnit.SECONDS).orElseThrow()), "s" + i, "message");
                }
            }
            sleeper.disconnectWith().sessionExpiryInterval(0).send();
        }
        equal(sleeper.connect(stays).isSessionPresent(), false, "session present after it was ended");
        sleeper.disconnectWith().sessionExpiryInterval(0).send();
        ok("HiveMQ client: session present, 101 messages of QoS 2 once, in order; ended by DISCONNECT");
    }

    /** Publisher and subscriber that reconnect by themselves, with QoS 2, across a restart of the server. */
    private static void restart() throws Exception {
        int total = 2000;
        Mqtt5Connect stays = Mqtt5Connect.builder().cleanStart(false).sessionExpiryInterval(600).build();
        Mqtt5AsyncClient sub = builder("hive-sub").automaticReconnect(SOON).buildAsync();
        Mqtt5AsyncClient pub = builder("hive-pub").automaticReconnect(SOON).buildAsync();
        BlockingQueue<String> in = new LinkedBlockingQueue<>();
        sub.publishes(MqttGlobalPublishFilter.ALL, m -> in.add(text(m)));
        sub.connect(stays).get(LIMIT, TimeUnit.SECONDS);
        sub.subscribeWith().topicFilter("restart").qos(MqttQos.EXACTLY_ONCE).send().get(LIMIT, TimeUnit.SECONDS);
        pub.connect(stays).get(LIMIT, TimeUnit.SECONDS);
        List<CompletableFuture<Mqtt5PublishResult>> sent = new ArrayList<>();
        for (int i = 0; i < total; i++) {
            sent.add(pub.publishWith().topic("restart").qos(MqttQos.EXACTLY_ONCE).payload(bytes("r" + i)).send());
            if (i == total / 4) {
                sent.get(i / 2).get(LIMIT, TimeUnit.SECONDS);
                System.out.println("restart");
                System.out.flush();
            }
            if (i > total / 4) {
                Thread.sleep(1); // so that some are published while nobody listens
            }
        }
        for (CompletableFuture<Mqtt5PublishResult> one : sent) {
            equal(one.get(LIMIT, TimeUnit.SECONDS).getError().isPresent(), false, "error of a PUBLISH");
        }
        for (int i = 0; i < total; i++) {
            equal(in.poll(LIMIT, TimeUnit.SECONDS), "r" + i, "message");
        }
        pub.publishWith().topic("restart").qos(MqttQos.EXACTLY_ONCE).payload(bytes("end")).send().get(LIMIT, TimeUnit.SECONDS);
        equal(in.poll(LIMIT, TimeUnit.SECONDS), "end", "behind the last message");
        equal(sub.getState(), MqttClientState.CONNECTED, "the subscriber");
        sub.disconnect().get(LIMIT, TimeUnit.SECONDS);
        pub.disconnect().get(LIMIT, TimeUnit.SECONDS);
        ok("HiveMQ client: " + total + " messages of QoS 2 across a restart, each once, in order");
    }

    private static final MqttClientAutoReconnect SOON = MqttClientAutoReconnect.builder()
        .initialDelay(100, TimeUnit.MILLISECONDS).maxDelay(1, TimeUnit.SECONDS).build();

    private static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    private static Mqtt5ClientBuilder builder(String id) {
        return MqttClient.builder().useMqttVersion5().identifier(id).serverHost(HOST).serverPort(PORT);
    }

    private interface Change {
        com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5ConnectBuilder of(
            com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5ConnectBuilder b);
    }

    private static Closing<Mqtt5BlockingClient> connected(String id, Change change) {
        Mqtt5BlockingClient c = builder(id).buildBlocking();
        c.connect(change.of(Mqtt5Connect.builder()).build());
        return new Closing<>(c, Mqtt5BlockingClient::disconnect);
    }

    /** A client that is disconnected in the end, if it still is connected. */
    private record Closing<C extends MqttClient>(C it, java.util.function.Consumer<C> how) implements AutoCloseable {
        @Override
        public void close() {
            if (it.getState().isConnected()) {
                how.accept(it);
            }
        }
    }
}
