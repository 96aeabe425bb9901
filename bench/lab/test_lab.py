"""Tests of what judges: python3 -m unittest discover -s bench."""
import json
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from lab import report
from lab.load import Bench, figures
from lab.rows import Block, Row, least, most, with_before
from lab.session import Journal, Session
from lab.systems import Before, Firth, Kafka, KafkaFlush, Mosquitto

BLOCK = Block("block", (Firth, Mosquitto), (Row("row", Bench("mqtt", ()), (least("rate", 5, "Mosquitto"),)),))


def measured(system, rates, metric="rate"):
    return [{"what": "figures", "round": i, "block": "block", "system": system, "row": "row", "figures": {metric: v}}
            for i, v in enumerate(rates)]


def judge(goal, ours, theirs=()):
    found = report.Figures(measured("Firth", ours, goal.metric) + measured("Mosquitto", theirs, goal.metric))
    return report.Verdict(found, BLOCK, BLOCK.rows[0], goal)


class Verdicts(unittest.TestCase):
    def test_a_ratio_of_medians(self):
        v = judge(least("rate", 5, "Mosquitto"), [900, 1000, 100], [150, 180, 190])
        self.assertEqual((v.value, v.times, v.met, v.rounds), (5.0, 1.0, 2, 3))
        self.assertIn("| reached (2 of 3 rounds) |", v.line())

    def test_not_reached(self):
        self.assertIn("**not reached** (0 of 1", judge(least("rate", 5, "Mosquitto"), [499], [100]).line())
        self.assertIn("**not reached** (0 of 1", judge(most("cpu", 0.25, "Mosquitto"), [3], [10]).line())
        self.assertIn("**not reached** (0 of 1", judge(most("each", 4), [4.1]).line())

    def test_the_most_against_nobody(self):
        self.assertIn("| 3.0 KiB | – | – | reached (1 of 1 rounds) |", judge(most("each", 4), [3]).line())

    def test_without_the_peer(self):
        v = judge(least("rate", 5, "Mosquitto"), [499])
        self.assertFalse(v.measured)
        self.assertIn("not measured", v.line())


class Changes(unittest.TestCase):
    def change(self, metric, ours, before):
        found = report.Figures(measured("Firth", ours, metric) + measured(Before.name, before, metric))
        return report.Change(found, BLOCK, "row", metric)

    def test_more_is_better_of_a_rate_and_less_of_the_rest(self):
        c = self.change("rate", [150, 100, 140], [100, 110, 100])
        self.assertEqual((c.value, c.won, c.rounds, c.verdict), (1.4, 2, 3, "better"))
        c = self.change("cpu", [150, 100, 140], [100, 110, 100])
        self.assertEqual((c.won, c.verdict), (1, "**worse**"))

    def test_no_verdict_without_the_rounds(self):
        self.assertEqual(self.change("rate", [120, 120, 90], [100, 140, 100]).verdict, "the same")
        self.assertEqual(self.change("p99", [1.02, 1.02], [1, 1]).verdict, "the same")

    def test_rounds_that_only_one_has_do_not_count(self):
        c = self.change("rate", [100, 900], [100])
        self.assertEqual((c.value, c.rounds), (1.0, 1))
        self.assertFalse(self.change("rate", [100], []).measured)

    def test_it_is_in_every_row_that_ours_is_in(self):
        row = replace(BLOCK.rows[0], systems=(Firth, Kafka))
        block, = with_before([Block("b", (Firth, Kafka, KafkaFlush), (row, BLOCK.rows[0]))])
        self.assertEqual(block.systems, (Firth, Before, Kafka, KafkaFlush))
        self.assertEqual([[k for k in block.systems if r.on(k)] for r in block.rows],
                         [[Firth, Before, Kafka], [Firth, Before, Kafka, KafkaFlush]])


class Figures(unittest.TestCase):
    def setUp(self):
        self.meter = SimpleNamespace(figures=lambda messages, taken: {"per": (messages, taken)})
        self.result = {"messages": 100, "total": 150, "delivered": 80, "elapsed": 2e9, "whole": 3e9,
                       "latency": {"Count": 1, "P50": 5e5, "P90": 1, "P99": 2e6, "P999": 1, "Worst": 1}}

    def test_what_counts(self):
        for show, rate, messages in (("messages", 50, 150), ("delivered", 40, 120), ("least", 40, 150),
                                     ("whole", 50, 150)):
            got = figures(self.result, self.meter, show, 10)
            self.assertEqual((got["rate"], got["per"]), (rate, (messages, 1500)), show)
            self.assertEqual((got["p50"], got["p99"]), (0.5, 2))

    def test_nothing_is_no_rate(self):
        with self.assertRaisesRegex(RuntimeError, "nothing counted"):
            figures(self.result | {"messages": 0}, self.meter, "messages", 10)


class Resumes(unittest.TestCase):
    def test_only_what_is_missing_is_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "raw"
            path.write_text("".join(json.dumps(e) + "\n" for e in measured("Firth", [1]) + measured("Mosquitto", [1, 2])))
            did = []
            session = Session(Journal(path, True), (replace(BLOCK, rounds=2),), SimpleNamespace(rounds=3, seconds=1, warm=1))
            session.visit = lambda kind, block, rows, number: did.append((kind.name, number))
            session.run()
            self.assertEqual(did, [("Firth", 1)])

    def test_every_other_round_begins_with_the_last(self):
        with tempfile.TemporaryDirectory() as folder:
            did = []
            session = Session(Journal(Path(folder) / "raw"), (BLOCK,), SimpleNamespace(rounds=3, seconds=1, warm=1))
            session.visit = lambda kind, *_: did.append(kind.name)
            session.run()
            self.assertEqual(did, ["Firth", "Mosquitto", "Mosquitto", "Firth", "Firth", "Mosquitto"])


if __name__ == "__main__":
    unittest.main()
