"""Spark structured streaming against firth: a topic that devices feed becomes a folder of Parquet files.

table.py JARS FOLDER run      goes on from the checkpoint until it is killed
table.py JARS FOLDER COUNT    goes on from the checkpoint up to the end of the topic, and wants exactly so many records in the
                              table: the values 1 to COUNT, each once, in order

[Kafka-Fetch] [Kafka-ListOffsets] [Kafka-Metadata]
"""

import os
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col

jars, folder, what = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.driver.extraClassPath", jars)
    .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .config("spark.sql.shuffle.partitions", "1")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("WARN")


def stream(**trigger):
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", os.environ["kafka"])
        .option("subscribe", "meters")
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", "200")
        .load()
    )
    columns = records.select(
        col("key").cast("string").alias("name"),
        col("value").cast("string").cast("int").alias("value"),
        "partition",
        "offset",
    )
    query = (
        columns.writeStream.format("parquet")
        .option("path", f"{folder}/table")
        .option("checkpointLocation", f"{folder}/checkpoint")
        .trigger(**trigger)
        .start()
    )
    query.awaitTermination()


if what == "run":
    stream(processingTime="100 milliseconds")
else:
    stream(availableNow=True)
    rows = spark.read.parquet(f"{folder}/table").orderBy("partition", "offset").collect()
    assert [r.value for r in rows] == list(range(1, int(what) + 1)), f"{len(rows)} rows of {what}, or not in order"
    assert [r.offset for r in rows] == list(range(int(what))), "offsets"
    assert {r.name for r in rows} == {"meters/hall"}, "names"
    print(f"  ok: {len(rows)} rows, each record once")
spark.stop()
