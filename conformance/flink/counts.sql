CREATE TABLE sensors (
  name STRING,
  reading STRING,
  `at` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  WATERMARK FOR `at` AS `at` - INTERVAL '1' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'sensors',
  'properties.bootstrap.servers' = 'localhost:9092',
  'properties.group.id' = 'flink',
  'scan.startup.mode' = 'earliest-offset',
  'key.format' = 'raw',
  'key.fields' = 'name',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
);

CREATE TABLE counts (
  name STRING,
  line STRING,
  headers MAP<STRING, BYTES> METADATA
) WITH (
  'connector' = 'kafka',
  'topic' = 'counts',
  'properties.bootstrap.servers' = 'localhost:9092',
  'properties.transaction.timeout.ms' = '60000',
  'key.format' = 'raw',
  'key.fields' = 'name',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'counts'
);

INSERT INTO counts
SELECT 'counts/' || name,
  DATE_FORMAT(window_start, 'HH:mm:ss') || ' ' || CAST(COUNT(*) AS STRING) || ' ' || CAST(SUM(CAST(reading AS BIGINT)) AS STRING),
  MAP['mqtt.flags', ENCODE('2', 'UTF-8')]
FROM TABLE(TUMBLE(TABLE sensors, DESCRIPTOR(`at`), INTERVAL '1' SECOND))
GROUP BY name, window_start, window_end;
