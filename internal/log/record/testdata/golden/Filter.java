// Filter prints the batches of kafka-clients-4.1.0-filtered.txt: what the cleaner of Kafka's own Java library makes
// of the batches of kafka-clients-4.1.0.txt, whose path is its argument, when it keeps some of their records.
// Run it with kafka-clients 4.1.0 and its dependencies on the class path.
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.utils.BufferSupplier;
import java.nio.*;
import java.nio.file.*;
import java.util.*;
public class Filter {
  static final long NOW = 1700000100000L, RETENTION = 5000L;
  static MemoryRecords filter(String name, MemoryRecords in, Keep keep) {
    ByteBuffer out = ByteBuffer.allocate(1<<20);
    MemoryRecords.RecordFilter f = new MemoryRecords.RecordFilter(NOW, RETENTION) {
      protected BatchRetentionResult checkBatchRetention(RecordBatch b) { return new BatchRetentionResult(BatchRetention.RETAIN_EMPTY, false); }
      protected boolean shouldRetainRecord(RecordBatch b, org.apache.kafka.common.record.Record r) { return keep.keep(r); }
    };
    in.filterTo(f, out, BufferSupplier.NO_CACHING);
    out.flip();
    MemoryRecords made = MemoryRecords.readableRecords(out);
    byte[] bytes = new byte[out.remaining()];
    out.duplicate().get(bytes);
    System.out.println(name+" "+HexFormat.of().formatHex(bytes));
    return made;
  }
  interface Keep { boolean keep(org.apache.kafka.common.record.Record r); }
  public static void main(String[] a) throws Exception {
    for (String line : Files.readAllLines(Path.of(a[0]))) {
      String[] p = line.trim().split(" ");
      if (p.length != 2) continue;
      String name = p[0];
      if (name.equals("java-commit-marker")) continue;
      MemoryRecords in = MemoryRecords.readableRecords(ByteBuffer.wrap(HexFormat.of().parseHex(p[1])));
      MemoryRecords odd = filter(name+"/odd", in, r -> r.offset()%2==1);        // tombstones among them
      filter(name+"/odd/third", odd, r -> r.offset()%3==0);                      // of a batch with a horizon
      filter(name+"/values", in, r -> r.hasValue());
      filter(name+"/nothing", in, r -> false);
      filter(name+"/odd/nothing", odd, r -> false);
    }
  }
}
