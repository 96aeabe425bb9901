// Golden prints the batches of kafka-clients-4.1.0.txt: what Kafka's own Java library makes of the same
// records under each codec. Run it with kafka-clients 4.1.0 and its dependencies on the class path.
import org.apache.kafka.common.compress.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;
import java.nio.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
public class Golden {
  static void put(String name, Compression c, long pid, short epoch, int seq, boolean txn, TimestampType tt, int n) {
    ByteBuffer buf = ByteBuffer.allocate(1<<20);
    MemoryRecordsBuilder b = new MemoryRecordsBuilder(buf, (byte)2, c, tt, 42L, 1700000001234L, pid, epoch, seq, txn, false, 5, 1<<20);
    long t = 1700000000000L;
    for (int i=0;i<n;i++) {
      byte[] key = i%3==0 ? null : ("key-"+i).getBytes(StandardCharsets.UTF_8);
      if (i%3==1) key = new byte[0];
      byte[] val = i%4==3 ? null : ("value "+i+" "+"x".repeat(i*5)).getBytes(StandardCharsets.UTF_8);
      Header[] h = i%2==0 ? new Header[0] : new Header[]{ new RecordHeader("h", new byte[]{1,2}), new RecordHeader("null", (byte[])null), new RecordHeader("h", new byte[0]) };
      b.append(t + (i%5)*10 - 7, key, val, h);
    }
    MemoryRecords r = b.build();
    byte[] out = new byte[r.buffer().remaining()];
    r.buffer().get(out);
    System.out.println(name+" "+HexFormat.of().formatHex(out));
  }
  public static void main(String[] a) {
    put("java-none", Compression.NONE, -1L,(short)-1,-1,false,TimestampType.CREATE_TIME,12);
    put("java-gzip", Compression.gzip().build(), -1L,(short)-1,-1,false,TimestampType.CREATE_TIME,12);
    put("java-snappy", Compression.snappy().build(), -1L,(short)-1,-1,false,TimestampType.CREATE_TIME,12);
    put("java-lz4", Compression.lz4().build(), -1L,(short)-1,-1,false,TimestampType.CREATE_TIME,12);
    put("java-zstd", Compression.zstd().build(), -1L,(short)-1,-1,false,TimestampType.CREATE_TIME,12);
    put("java-idempotent", Compression.NONE, 77L,(short)3,2147483640,false,TimestampType.CREATE_TIME,12);
    put("java-transactional", Compression.NONE, 78L,(short)0,0,true,TimestampType.CREATE_TIME,12);
    put("java-logappend", Compression.NONE, -1L,(short)-1,-1,false,TimestampType.LOG_APPEND_TIME,12);
    MemoryRecords m = MemoryRecords.withEndTransactionMarker(50L, 1700000000000L, 5, 78L, (short)0, new EndTransactionMarker(ControlRecordType.COMMIT, 9));
    byte[] out = new byte[m.buffer().remaining()]; m.buffer().get(out);
    System.out.println("java-commit-marker "+HexFormat.of().formatHex(out));
  }
}
