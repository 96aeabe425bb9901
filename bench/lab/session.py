"""A run: rounds of visits, A B B A. All that is measured goes to a file line by line, so that a run can go on
after it was cut off, and the report be drawn again."""
import json
import os
import subprocess
import sys
import time
import traceback

from . import machine
from .load import firth_bench


class Journal:
    """The raw results: a line of JSON each."""

    def __init__(self, path, resume=False):
        self.path, self.entries = path, []
        path.parent.mkdir(parents=True, exist_ok=True)
        if resume:
            self.entries = [json.loads(line) for line in path.read_text().splitlines()]
        else:
            path.write_text("")

    def add(self, **entry):
        self.entries.append(entry)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(entry) + "\n")

    def of(self, what):
        return [e for e in self.entries if e["what"] == what]

    def has(self, block, kind, row, number):
        return any(e["what"] == "figures" and "figures" in e and
                   (e["block"], e["system"], e["row"], e["round"]) == (block.title, kind.name, row.title, number)
                   for e in self.entries)


class Session:
    """blocks with only the rows that were chosen; how: rounds, seconds, warm, fill, big, jvm, memory."""

    def __init__(self, journal, blocks, how):
        self.journal, self.blocks, self.how, self.took = journal, blocks, how, {}

    def run(self):
        plan = [(number, block, kind) for number in range(self.how.rounds) for block in self.blocks
                if number < block.rounds for kind in block.systems[::-1 if number % 2 else 1]]
        for i, (number, block, kind) in enumerate(plan):
            rows = [r for r in block.rows if r.on(kind) and not self.journal.has(block, kind, r, number)]
            if not rows:
                continue
            left = sum(self.expected(b, k) for _, b, k in plan[i:]) / 60
            print(f"round {number + 1} of {self.how.rounds}, {block.title}: {kind.name}  (about {left:.0f} min left)",
                  flush=True)
            began = time.monotonic()
            try:
                self.visit(kind, block, rows, number)
            except Exception:  # the others are still worth measuring
                traceback.print_exc()
            self.took[block.title, kind.name] = time.monotonic() - began

    def expected(self, block, kind):
        """Seconds of a visit: what the last one took, or a guess."""
        rows = sum(r.on(kind) for r in block.rows)
        guess = rows * (self.how.seconds + self.how.warm + 2) + (5 + 3 * self.how.jvm if kind.jvm else 2)
        return self.took.get((block.title, kind.name), guess)

    def visit(self, kind, block, rows, number):
        """One system in one round: from a clean start through the rows."""

        def keep(row, **entry):
            self.journal.add(what="figures", round=number, block=block.title, system=kind.name, row=row, **entry)

        os.sync()
        before = machine.noise()
        with kind() as system:
            time.sleep(1)
            keep("start", figures={"ready": system.ready * 1000, "idle": system.usage()["rss"]})
            if system.jvm and block.warm:
                self.warm(system)
            peak = 0
            for i, row in enumerate(rows):
                self.settle(system, row)
                try:
                    got = row.load.run(system, self.how, f"row{i}")
                except (RuntimeError, OSError, subprocess.SubprocessError) as e:
                    keep(row.title, error=(str(e).splitlines() or ["?"])[-1][:300])
                    print(f"  FAILED {row.title}: {e}", file=sys.stderr, flush=True)
                    if system.process.poll() is not None:
                        raise RuntimeError(f"{kind.name} has ended") from e
                    continue
                keep(row.title, figures=got)
                peak = max(peak, got.get("peak", 0))  # of a process that a row may have ended, too
                print(f"  {row.title:<50}", " ".join(f"{k} {v:,.2f}" for k, v in got.items()), flush=True)
            now = system.usage()
            keep("end", figures={"peak": max(peak, now["peak"]), "rss": now["rss"]})
        self.journal.add(what="noise", round=number, block=block.title, system=kind.name, before=before,
                         after=machine.noise())

    def settle(self, system, row):
        """What the last row left, to be written or to be put in order, is not the next one's burden."""
        os.sync()
        began = time.monotonic()
        if not machine.rests(system.process.pid, 60):
            print(f"  {system.name} is still at work {time.monotonic() - began:.0f} s after the last row", file=sys.stderr)
        os.sync()
        if not row.latency:  # the kernel tells the host of what was freed, for seconds, and holds others up
            machine.have_memory(self.how.memory)

    def warm(self, system):
        """Loads a JVM until two rates in a row differ by less than 5 %, 4 times at least and how.jvm at most."""
        self.steady(system, "kafka", "--partitions", 8, "--mode", "both")
        if system.mqtt_door:
            self.steady(system, "seam", "-q", 1, "--raw")

    def steady(self, system, *load):
        last, rates = 0.0, []
        for _ in range(self.how.jvm):
            os.sync()  # or the disk would slow it down, not the compiler
            result = firth_bench(system, *load, seconds=2, size=1024, topic=f"warm-{load[0]}")
            rate = result["messages"] / (result["elapsed"] / 1e9)
            rates.append(f"{rate:,.0f}")
            if abs(rate - last) < 0.05 * rate and len(rates) >= 4:
                break
            last = rate
        print("  warmed:", ", ".join(rates), "messages/s", flush=True)
