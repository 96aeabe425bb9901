import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs a file of Flink SQL in a mini cluster of its own, as sql-client.sh -f does with execution.target local. (The SQL
 * client needs the SQL gateway, which is not among the jars on Maven.)
 *
 * Sql FILE [KEY=VALUE ...]: settings, as -D of sql-client.sh has them.
 *
 * [Kafka-EndTxn] [Kafka-Fetch] [Kafka-InitProducerId] [Kafka-ListOffsets] [Kafka-Metadata] [Kafka-Produce]
 */
public final class Sql {
    private static final Pattern SET = Pattern.compile("SET\\s+'([^']+)'\\s*=\\s*'([^']*)'", Pattern.CASE_INSENSITIVE);

    private Sql() {}

    public static void main(String[] args) throws Exception {
        Configuration settings = new Configuration();
        for (int i = 1; i < args.length; i++) {
            String[] one = args[i].split("=", 2);
            settings.setString(one[0], one[1]);
        }
        TableEnvironment flink = TableEnvironment.create(
            EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
        for (String statement : Files.readString(Path.of(args[0])).split(";\\s*(\n|$)")) {
            Matcher set = SET.matcher(statement.trim());
            if (set.matches()) {
                flink.getConfig().set(set.group(1), set.group(2));
            } else if (!statement.isBlank()) {
                TableResult result = flink.executeSql(statement);
                if (result.getJobClient().isPresent()) {
                    System.out.println("running " + result.getJobClient().get().getJobID());
                }
                result.await();
            }
        }
    }
}
