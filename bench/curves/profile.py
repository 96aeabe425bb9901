#!/usr/bin/env python3
"""Profiles of a load, with flame graphs: build/profile. See README.md.

The standard load: 16 MQTT publishers of 100 bytes with 64 in flight, QoS 1, and a subscriber of everything; beside
them a Kafka client that produces 1 KiB records into 8 partitions and one that consumes them. Or that of a row of the
laboratory.
"""
import argparse
import concurrent.futures
import shutil
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from curves.flame import flame  # noqa: E402
from lab.load import fill, firth_bench  # noqa: E402
from lab.systems import BENCH, BUILD, FIRTH, Firth, free_port  # noqa: E402

STANDARD = {
    "mqtt": ("mqtt", "-q", 1, "--publishers", 16, "--in-flight", 64, "--subscribers", 1),
    "kafka": ("kafka", "--mode", "both", "--partitions", 8),
}
ROWS = {  # of the laboratory
    "lonely": ("mqtt", "-q", 1, "--publishers", 1000, "--in-flight", 1),
    "few": ("mqtt", "-q", 1, "--publishers", 16, "--in-flight", 1),
    "produce": ("kafka", "--partitions", 8),
    "catch-up": ("kafka", "--mode", "consume", "--batches-encoded"),
}
FILL = 2_000_000  # records of 1 KiB to catch up with
# name, path, which sample, what it is
HEAP = ("heap", "heap?gc=1", "inuse_space", "memory in use after a collection")
PROFILES = (
    ("cpu", "profile?seconds={seconds}", "cpu", "CPU time"),
    ("allocs", "allocs?seconds={seconds}", "alloc_space", "memory allocated"),
    ("mutex", "mutex?seconds={seconds}", "delay", "waiting for locks"),
    ("block", "block?seconds={seconds}", "delay", "blocked goroutines"),
)


def get(port, what, out, seconds):
    url = f"http://127.0.0.1:{port}/debug/pprof/{what.format(seconds=seconds)}"
    with urllib.request.urlopen(url, timeout=seconds + 30) as answer, open(out, "wb") as f:
        shutil.copyfileobj(answer, f)


def duration(text):
    """Seconds. A node ends every answer after 30, and the load has to go on beyond that."""
    if not 1 <= int(text) <= 25:
        raise argparse.ArgumentTypeError("1 to 25 seconds are profiled")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=duration, default=10, help="how long is profiled, 1 to 25 (10)")
    parser.add_argument("--load", choices=["all", *STANDARD, *ROWS], default="all",
                        help="only the MQTT or the Kafka half, or a row of the laboratory")
    parser.add_argument("--plot", action="store_true", help="the flame graph of CPU time goes to bench/plots as well")
    args = parser.parse_args()
    out = BUILD / "profile"
    out.mkdir(parents=True, exist_ok=True)
    loads = STANDARD if args.load == "all" else {args.load: (STANDARD | ROWS)[args.load]}
    port = free_port()
    system = Firth("profiles=true", f"listen.http=127.0.0.1:{port}")
    with system, concurrent.futures.ThreadPoolExecutor() as pool:
        if "catch-up" in loads:
            fill(system, "profile-catch-up", FILL)
        running = [pool.submit(firth_bench, system, *load, seconds=args.seconds + 1, warm=2, topic=f"profile-{name}",
                               size=1024 if load[0] == "kafka" else 100) for name, load in loads.items()]
        time.sleep(2.5)
        taken = [pool.submit(get, port, what, out / f"{name}.pprof", args.seconds) for name, what, _, _ in PROFILES]
        for t in taken:
            t.result()
        get(port, HEAP[1], out / "heap.pprof", args.seconds)  # last: the others would see its collection
        for name, r in zip(loads, running):
            result = r.result()
            rate = result["messages"] / (result["elapsed"] / 1e9)
            print(f"{name:<8} {rate:>12,.0f}/s, delivered {result['delivered'] / (result['elapsed'] / 1e9):,.0f}/s")
    for name, _, index, meaning in (*PROFILES, HEAP):
        top = flame(out / f"{name}.pprof", out / f"{name}.svg", f"Firth, {args.load} load, {meaning}", index)
        print(f"\n{meaning}: {out / name}.svg")
        for share, function in top[:12]:
            print(f"  {share * 100:5.1f} %  {function}")
        if args.plot and name == "cpu":
            shutil.copyfile(out / "cpu.svg", BENCH / "plots" / f"profile-{args.load}.svg")
    print(f"\nmore: go tool pprof -http=: {FIRTH} {out}/cpu.pprof")


if __name__ == "__main__":
    main()
