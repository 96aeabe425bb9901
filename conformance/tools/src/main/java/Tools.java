import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.common.utils.internals.Exit;

/**
 * Plays files of commands of Kafka's tools: runs the main class of each in this JVM, with a standard input and output, a status
 * and shutdown hooks of its own, and compares what it prints with what the play has. A line of a play is
 *
 * <pre>
 *   # text          what is tried; it is printed when all of it has passed
 *   &lt; text          a line of the standard input of the next command
 *   $ command       runs it, three minutes at most
 *   ? command       runs it, and again until it shows what follows, two minutes at most
 *   &amp; name command  starts it; it is to show what follows within two minutes
 *   = name          waits for its end; = name stop: once its shutdown hooks have run
 *   ! status        what the command ends with, 0 if nothing is said
 *   ~ expression    is found nowhere in what it prints
 *   expression      is found in what it prints
 * </pre>
 *
 * In a command @ stands for --bootstrap-server and the address; words in single quotes are one.
 *
 * With - in place of files it runs the commands that come to its standard input, and answers each with a line that has its
 * status. A line of them has fields with tabs between: the file with the standard input, that for what it prints, the words.
 *
 * [Kafka-AlterClientQuotas] [Kafka-AlterUserScramCredentials] [Kafka-ApiVersions] [Kafka-ConsumerGroupDescribe]
 * [Kafka-CreateAcls] [Kafka-CreatePartitions] [Kafka-CreateTopics] [Kafka-DeleteAcls] [Kafka-DescribeAcls]
 * [Kafka-DeleteGroups] [Kafka-DeleteRecords] [Kafka-DeleteTopics] [Kafka-DescribeClientQuotas] [Kafka-DescribeCluster]
 * [Kafka-DescribeConfigs] [Kafka-DescribeGroups] [Kafka-DescribeLogDirs] [Kafka-DescribeProducers] [Kafka-DescribeQuorum]
 * [Kafka-DescribeTopicPartitions] [Kafka-DescribeTransactions] [Kafka-ElectLeaders] [Kafka-IncrementalAlterConfigs]
 * [Kafka-ListConfigResources] [Kafka-ListGroups] [Kafka-ListOffsets] [Kafka-ListPartitionReassignments]
 * [Kafka-ListTransactions] [Kafka-OffsetCommit] [Kafka-OffsetDelete] [Kafka-OffsetFetch] [Kafka-UpdateFeatures]
 */
public final class Tools {
    private static final String SERVERS = System.getenv("kafka");
    private static final boolean SHOW = System.getenv("SHOW") != null; // to write a play by: all of it, right or wrong
    private static final Duration LIMIT = Duration.ofSeconds(180);
    private static final Duration SHOWS = Duration.ofSeconds(120);
    /** The shutdown hooks of the JVM, and the lock over them; java.lang has to be open for it. */
    private static final Class<?> HOOKS_LOCK = named("java.lang.ApplicationShutdownHooks");
    private static final Map<Thread, Thread> HOOKS = hooks();
    private static final Map<String, String> CLASSES = Map.ofEntries(
        Map.entry("kafka-acls.sh", "AclCommand"),
        Map.entry("kafka-broker-api-versions.sh", "BrokerApiVersionsCommand"),
        Map.entry("kafka-client-metrics.sh", "ClientMetricsCommand"),
        Map.entry("kafka-cluster.sh", "ClusterTool"),
        Map.entry("kafka-configs.sh", "ConfigCommand"),
        Map.entry("kafka-console-consumer.sh", "consumer.ConsoleConsumer"),
        Map.entry("kafka-console-producer.sh", "ConsoleProducer"),
        Map.entry("kafka-console-share-consumer.sh", "consumer.ConsoleShareConsumer"),
        Map.entry("kafka-consumer-groups.sh", "consumer.group.ConsumerGroupCommand"),
        Map.entry("kafka-consumer-perf-test.sh", "ConsumerPerformance"),
        Map.entry("kafka-delegation-tokens.sh", "DelegationTokenCommand"),
        Map.entry("kafka-delete-records.sh", "DeleteRecordsCommand"),
        Map.entry("kafka-e2e-latency.sh", "EndToEndLatency"),
        Map.entry("kafka-features.sh", "FeatureCommand"),
        Map.entry("kafka-get-offsets.sh", "GetOffsetShell"),
        Map.entry("kafka-groups.sh", "GroupsCommand"),
        Map.entry("log-compaction-tester", "LogCompactionTester"),
        Map.entry("client-compatibility-test", "ClientCompatibilityTest"),
        Map.entry("kafka-leader-election.sh", "LeaderElectionCommand"),
        Map.entry("kafka-log-dirs.sh", "LogDirsCommand"),
        Map.entry("kafka-metadata-quorum.sh", "MetadataQuorumCommand"),
        Map.entry("kafka-producer-perf-test.sh", "ProducerPerformance"),
        Map.entry("kafka-reassign-partitions.sh", "reassign.ReassignPartitionsCommand"),
        Map.entry("kafka-replica-verification.sh", "ReplicaVerificationTool"),
        Map.entry("kafka-share-groups.sh", "consumer.group.ShareGroupCommand"),
        Map.entry("kafka-streams-application-reset.sh", "StreamsResetter"),
        Map.entry("kafka-streams-groups.sh", "streams.StreamsGroupCommand"),
        Map.entry("kafka-topics.sh", "TopicCommand"),
        Map.entry("kafka-transactions.sh", "TransactionsCommand"),
        Map.entry("kafka-verifiable-consumer.sh", "VerifiableConsumer"),
        Map.entry("kafka-verifiable-producer.sh", "VerifiableProducer"));

    /** Thrown where a tool would end the JVM. */
    private static final class Ended extends Error {
        Ended() {
            super(null, null, false, false);
        }
    }

    /** A tool that runs or has run: the group of its threads, which those that they start belong to. */
    private static final class Run extends ThreadGroup {
        private final ByteArrayOutputStream printed = new ByteArrayOutputStream();
        private final Thread thread;
        private boolean mute; // it has ended, and catches by what
        private Integer status;

        Run(String[] words) {
            super(words[0]);
            String name = "org.apache.kafka.tools." + CLASSES.get(words[0]);
            thread = new Thread(this, () -> call(name, Arrays.copyOfRange(words, 1, words.length)), words[0]);
            thread.setDaemon(true);
            thread.start();
        }

        private void call(String name, String[] args) {
            try {
                named(name).getMethod("main", String[].class).invoke(null, (Object) args);
                end(0, null);
            } catch (InvocationTargetException e) {
                if (!(e.getCause() instanceof Ended)) {
                    e.getCause().printStackTrace(System.err);
                    end(1, null);
                }
            } catch (ReflectiveOperationException e) {
                throw new AssertionError(name, e);
            }
            try {
                shutDown();
            } catch (InterruptedException e) {
                throw new AssertionError(name, e);
            }
        }

        /** Runs the hooks of the tool as the JVM does when it ends: some print there, some flush. */
        void shutDown() throws InterruptedException {
            List<Thread> mine = new ArrayList<>();
            synchronized (HOOKS_LOCK) {
                HOOKS.keySet().stream().filter(hook -> hook.getThreadGroup() == this).forEach(mine::add);
                mine.forEach(HOOKS::remove);
            }
            synchronized (this) {
                mute = false;
            }
            for (Thread hook : mine) {
                hook.start();
                hook.join(LIMIT.toMillis());
            }
        }

        /** Ends the tool with its first word on it; whatever it says until its hooks run is not heard. */
        private synchronized void end(int with, String message) {
            if (status == null) {
                if (message != null) {
                    System.err.println(message);
                }
                status = with;
                mute = true;
            }
        }

        private synchronized void print(byte[] b, int from, int n) {
            if (!mute) {
                printed.write(b, from, n);
            }
        }

        synchronized Integer status() {
            return status;
        }

        synchronized String text() {
            return printed.toString(StandardCharsets.UTF_8);
        }

        void await() throws InterruptedException {
            thread.join(LIMIT.toMillis());
            check(!thread.isAlive(), "it does not end");
        }

        /** Whom the thread works for; null: for the play. */
        static Run current() {
            ThreadGroup group = Thread.currentThread().getThreadGroup();
            while (group != null && !(group instanceof Run)) {
                group = group.getParent();
            }
            return (Run) group;
        }
    }

    /** Standard output, or error, of whatever tool prints. */
    private static final class Output extends OutputStream {
        private final PrintStream own;

        Output(PrintStream own) {
            this.own = own;
        }

        @Override
        public void write(int b) {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public void write(byte[] b, int from, int n) {
            Run run = Run.current();
            if (run == null) {
                own.write(b, from, n);
            } else {
                run.print(b, from, n);
            }
        }
    }

    private static Class<?> named(String name) {
        try {
            return Class.forName(name);
        } catch (ClassNotFoundException e) {
            throw new AssertionError(e);
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<Thread, Thread> hooks() {
        try {
            Field field = HOOKS_LOCK.getDeclaredField("hooks");
            field.setAccessible(true);
            return (Map<Thread, Thread>) field.get(null);
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(e);
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** One command of a play, and what is wanted of it. */
    private static final class Step {
        private final int line;
        private final char how;
        private final String command;
        private final String input;
        private final List<String> wanted = new ArrayList<>();
        private final List<String> unwanted = new ArrayList<>();
        private int status;

        Step(int line, char how, String command, String input) {
            this.line = line;
            this.how = how;
            this.command = command;
            this.input = input;
        }

        void want(String text) {
            switch (text.substring(0, 2)) {
                case "! " -> status = Integer.parseInt(text.substring(2));
                case "~ " -> unwanted.add(text.substring(2));
                default -> wanted.add(text);
            }
        }

        /** What is missing in the text, or is there and should not be; null if nothing. */
        String wrong(String text) {
            for (String one : wanted) {
                if (!found(one, text)) {
                    return "it does not show " + one;
                }
            }
            for (String one : unwanted) {
                if (found(one, text)) {
                    return "it shows " + one;
                }
            }
            return null;
        }

        private static boolean found(String expression, String text) {
            return Pattern.compile(expression, Pattern.MULTILINE).matcher(text).find();
        }
    }

    private final Map<String, Run> started = new HashMap<>();

    public static void main(String[] args) throws Exception {
        PrintStream out = System.out;
        System.setOut(new PrintStream(new Output(out), true));
        System.setErr(new PrintStream(new Output(System.err), true));
        Exit.Procedure end = (status, message) -> {
            Run.current().end(status, message);
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        if (args[0].equals("-")) {
            serve(new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)), out);
            Runtime.getRuntime().halt(0);
        }
        int commands = 0;
        Tools tools = new Tools();
        for (String file : args) {
            commands += tools.play(Path.of(file));
        }
        System.out.println("  " + commands + " commands of Kafka's tools");
        Runtime.getRuntime().halt(0);
    }

    private static void serve(BufferedReader lines, PrintStream answers) throws Exception {
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] fields = line.split("\t");
            System.setIn(new ByteArrayInputStream(Files.readAllBytes(Path.of(fields[0]))));
            Run run = new Run(Arrays.copyOfRange(fields, 2, fields.length));
            run.await();
            Files.writeString(Path.of(fields[1]), run.text());
            answers.println(run.status());
        }
    }

    private int play(Path file) throws Exception {
        String title = null;
        Step step = null;
        StringBuilder input = new StringBuilder();
        int number = 0;
        int commands = 0;
        for (String line : Files.readAllLines(file)) {
            number++;
            if (line.isBlank()) {
                continue;
            }
            if (line.startsWith("< ")) {
                input.append(line.substring(2)).append('\n');
            } else if (line.matches("[#$?&=] .*")) {
                run(file, step);
                step = null;
                if (line.charAt(0) == '#') {
                    passed(title);
                    title = line.substring(2);
                    continue;
                }
                step = new Step(number, line.charAt(0), line.substring(2), input.toString());
                input.setLength(0);
                commands++;
            } else {
                step.want(line);
            }
        }
        run(file, step);
        passed(title);
        return commands;
    }

    private static void passed(String title) {
        if (title != null) {
            System.out.println("  ok: " + title);
        }
    }

    private void run(Path file, Step step) throws Exception {
        if (step == null) {
            return;
        }
        Run run = null;
        String wrong = null;
        long from = System.nanoTime();
        try {
            if (step.how == '=') {
                String[] words = step.command.split(" ");
                run = started.remove(words[0]);
                if (words.length > 1) {
                    run.shutDown();
                }
            } else {
                System.setIn(new ByteArrayInputStream(step.input.getBytes(StandardCharsets.UTF_8)));
                String[] words = words(step.command);
                if (step.how == '&') {
                    started.put(words[0], run = new Run(Arrays.copyOfRange(words, 1, words.length)));
                } else {
                    run = new Run(words);
                }
            }
            wrong = outcome(step, run);
            long until = System.nanoTime() + SHOWS.toNanos();
            while (wrong != null && "?&".indexOf(step.how) >= 0 && System.nanoTime() < until) {
                Thread.sleep(50);
                if (step.how == '?') {
                    run = new Run(words(step.command));
                }
                wrong = outcome(step, run);
            }
        } catch (AssertionError e) {
            wrong = e.getMessage();
        }
        if (SHOW) {
            System.out.println("$ " + step.command + "\n" + run.text() + "status " + run.status() + ", "
                + (System.nanoTime() - from) / 1_000_000 + " ms");
        } else if (wrong != null) {
            System.out.println(run == null ? "" : run.text());
            System.out.println("FAIL: " + file.getFileName() + ":" + step.line + ": " + step.command + ": " + wrong);
            Runtime.getRuntime().halt(1);
        }
    }

    private static String outcome(Step step, Run run) throws InterruptedException {
        if (step.how != '&') {
            run.await();
            if (run.status() != step.status) {
                return "it ended with " + run.status();
            }
        }
        return step.wrong(run.text());
    }

    private static String[] words(String command) {
        List<String> all = new ArrayList<>();
        Matcher m = Pattern.compile("'([^']*)'|(\\S+)").matcher(command);
        while (m.find()) {
            if ("@".equals(m.group(2))) {
                all.addAll(List.of("--bootstrap-server", SERVERS));
            } else {
                all.add(m.group(1) != null ? m.group(1) : m.group(2));
            }
        }
        return all.toArray(String[]::new);
    }
}
