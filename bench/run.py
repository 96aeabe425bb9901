#!/usr/bin/env python3
"""The laboratory: measures Firth beside its peers on this machine and writes RESULTS.md. README.md says how."""
import argparse
import re
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from lab import machine, report, systems
from lab.rows import BLOCKS, with_before
from lab.session import Journal, Session

RAW = systems.BUILD / "bench" / "raw.jsonl"
BEGUN = ("rounds", "seconds", "warm", "jvm", "fill", "big", "quick", "rows", "systems", "against")  # what is resumed


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of 1 s without the rows that take long")
    parser.add_argument("--rounds", type=int, help="5")
    parser.add_argument("--seconds", type=float, help="that each row is measured: 5")
    parser.add_argument("--rows", default="", metavar="REGEX", help="of the titles of rows or blocks")
    parser.add_argument("--systems", default="", metavar="REGEX", help="of the names of systems")
    parser.add_argument("--against", default="", metavar="BUILD",
                        help="another Firth to measure beside ours in every row: a binary, or a commit to build")
    parser.add_argument("--big", type=float, default=10, metavar="GB", help="size of the log for starts")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was cut off, as it was begun")
    parser.add_argument("--report", action="store_true", help="measure nothing, draw the report again")
    parser.add_argument("--raw", type=Path, default=RAW, help="where the raw results are")
    parser.add_argument("--out", type=Path, help="bench/RESULTS.md for the whole in full, otherwise build/bench")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 5)
    args.seconds = args.seconds or (1 if args.quick else 5)
    args.warm = min(1.0, args.seconds / 3)
    args.jvm = 3 if args.quick else 8
    args.fill = int(min(2_000_000, args.seconds * 400_000))  # records of 1 KiB to catch up with
    args.big = int(args.big * 1e9 / 1100)
    return args


def chosen(args):
    """The blocks with the rows that were asked for."""
    wanted = lambda block, row: re.search(args.rows, f"{block.title}: {row.title}")
    blocks = [b for b in (with_before(BLOCKS) if args.against else BLOCKS) if b.quick or not args.quick]
    blocks = [replace(b, rows=tuple(r for r in b.rows if wanted(b, r))) for b in blocks]
    blocks = [replace(b, systems=tuple(k for k in b.systems if re.search(args.systems, k.name) and
                                       any(r.on(k) for r in b.rows))) for b in blocks if b.rows]
    return [b for b in blocks if b.systems]


def main():
    args = arguments()
    whole = not (args.quick or args.rows or args.systems or args.against)
    journal = Journal(args.raw, args.resume or args.report)
    if args.resume or args.report:
        begun = journal.of("run")[0]
        whole = begun["whole"]
        for key in BEGUN:
            setattr(args, key, begun.get(key, ""))
    args.memory = (2 if args.quick else 4) << 30  # bytes to touch before a row
    out = args.out or (systems.BENCH if whole else systems.BUILD / "bench") / "RESULTS.md"
    if args.report:
        report.write(journal, out)
        print(f"written: {out}")
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # servers and generators inherit it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the server that runs
    blocks = chosen(args)
    if not blocks:
        sys.exit(f"no row matches {args.rows!r}" + (f" on {args.systems!r}" if args.systems else ""))
    if args.against:
        systems.Before.of(args.against)
    kinds = list(dict.fromkeys(k for b in blocks for k in b.systems))
    systems.build(kinds)
    if not args.resume:
        journal.add(what="run", command=" ".join(["bench/run.py", *sys.argv[1:]]), date=time.strftime("%Y-%m-%d"),
                    machine=machine.describe(), whole=whole,
                    versions={k.name: f"{k.version()}; {k.promise}" for k in kinds},
                    **{k: getattr(args, k) for k in BEGUN})
    began = time.monotonic()
    try:
        Session(journal, blocks, args).run()
    finally:
        if journal.of("figures"):
            report.write(journal, out)
            print(f"written after {(time.monotonic() - began) / 60:.1f} min: {out}")


if __name__ == "__main__":
    main()
