"""RESULTS.md: the goals line by line, every figure, the machine and its noise. Drawn from the raw results alone."""
import os
import statistics
from collections import defaultdict

from . import plots
from .rows import BLOCKS, Row, with_before
from .systems import BENCH, Before

UNITS = {  # metric: name, unit, decimals
    "rate": ("messages", "/s", 0), "cpu": ("server CPU a message", " µs", 2), "disk": ("disk bytes a byte", "", 2),
    "p50": ("p50", " ms", 2), "p99": ("p99", " ms", 2), "each": ("memory", " KiB", 1), "ready": ("ready", " ms", 0),
    "sent": ("messages published", "/s", 0),
    "kept": ("in the log of each that was sent", "", 4),
    "worse": ("p99 beside a quiet one", " ×", 2), "took": ("time until all are there", " s", 1),
    "idle": ("resident memory idle", " MiB", 0), "peak": ("resident memory at most", " MiB", 0),
}
GROWS = ("rate", "sent", "kept")  # the more the better; of the others the less
PACED = ("p50", "p99", "cpu")  # what a load that comes at a rate says something of
FLAT_OUT = ("rate", "sent", "cpu", "disk", "kept", "each", "ready")  # and one that goes as fast as it can
SAME = 0.03  # a smaller difference from the build before is none
VISIT = {"ready": "start", "idle": "start", "peak": "end"}  # figures of a visit, and where they are kept
LABELS = {"ready": "start to ready, empty", "idle": "resident memory, idle",
          "peak": "resident memory at most, all rows of the visit"}


class Figures:
    """The figures of all rounds: get(block, system, row) gives {round: {metric: value}}."""

    def __init__(self, entries):
        self.by, self.errors = defaultdict(dict), {}
        for e in entries:
            key = e["block"], e["system"], e["row"]
            if "figures" in e:
                self.by[key][e["round"]] = e["figures"]
                self.errors.pop(key, None)
            elif key not in self.by:
                self.errors[key] = e["error"]

    def get(self, block, system, row):
        return self.by.get((block, system, row), {})

    def values(self, block, system, row, metric):
        return {n: f[metric] for n, f in self.get(block, system, row).items() if metric in f}


def text(value, metric):
    _, unit, digits = UNITS[metric]
    return f"{value:,.{digits}f}{unit}"


def spread(values, metric):
    """Median, and the range of the rounds."""
    if not values:
        return "–"
    v = sorted(values.values())
    _, unit, digits = UNITS[metric]
    middle = f"{statistics.median(v):,.{digits}f}"
    return middle + (f" ({v[0]:,.{digits}f}–{v[-1]:,.{digits}f})" if len(v) > 1 else "") + unit


def bounds(values):
    v = sorted(values.values())
    return statistics.median(v), v[0], v[-1]


class Verdict:
    """One goal against what was measured."""

    def __init__(self, figures, block, row, goal):
        name, at = (row.title, row.title) if isinstance(row, Row) else (LABELS[goal.metric], row)
        self.goal, self.block = goal, block
        self.ours = figures.values(block.title, block.systems[0].name, at, goal.metric)
        self.theirs = figures.values(block.title, goal.against, at, goal.metric) if goal.against else {}
        self.label = name if isinstance(row, Row) or len(block.rows) < 2 else f"{name} ({block.title})"
        self.measured = bool(self.ours) and (bool(self.theirs) or not goal.against)
        if not self.measured:
            return
        theirs = statistics.median(self.theirs.values()) if goal.against else 1
        self.value = statistics.median(self.ours.values()) / (theirs or 1e-9)
        self.times = goal.times(self.value)
        each = [goal.times(self.ours[n] / ((self.theirs[n] if goal.against else 1) or 1e-9))
                for n in self.ours if not goal.against or n in self.theirs]
        self.rounds, self.met = len(each), sum(t >= 1 for t in each)

    @property
    def wanted(self):
        sign, metric = "≤" if self.goal.most else "≥", self.goal.metric
        bound = f"{self.goal.bound:g} ×" if self.goal.against else f"{self.goal.bound:g}{UNITS[metric][1]}"
        return f"{UNITS[metric][0]} {sign} {bound}"

    def line(self):
        if not self.measured:
            return f"| {self.label} | {self.wanted} | {self.goal.against or '–'} | – | – | – | not measured |"
        verdict = "reached" if self.times >= 1 else "**not reached**"
        ratio = f"{self.value:.2f} ×" if self.goal.against else "–"
        return (f"| {self.label} | {self.wanted} | {self.goal.against or '–'} | {spread(self.ours, self.goal.metric)} | "
                f"{spread(self.theirs, self.goal.metric) if self.goal.against else '–'} | {ratio} | "
                f"{verdict} ({self.met} of {self.rounds} rounds) |")


def verdicts(figures, blocks):
    for block in blocks:
        for row in block.rows:
            yield from (Verdict(figures, block, row, g) for g in row.goals)
        yield from (Verdict(figures, block, VISIT[g.metric], g) for g in block.goals)


def cell(figures, block, kind, row):
    if not row.on(kind):
        return ""
    got = figures.get(block.title, kind.name, row.title)
    if not got:
        error = figures.errors.get((block.title, kind.name, row.title))
        return f"failed: {error}" if error else "–"
    value = lambda metric: spread(figures.values(block.title, kind.name, row.title, metric), metric)
    first = next(iter(got.values()))
    if row.latency:
        return f"p50 {value('p50')}, p99 {value('p99')}"
    return value(next(m for m in ("rate", "each", "ready") if m in first))


def table(figures, block):
    """All rows of a block on all its systems."""
    names = [k.name for k in block.systems]
    column = lambda row, metric: " / ".join(
        spread(figures.values(block.title, k.name, row.title, metric), metric).removesuffix(UNITS[metric][1])
        for k in block.systems if row.on(k))
    head = ["work", *names, *(f"Firth : {n}" for n in names[1:]), "server CPU, µs a message", "disk bytes a byte"]
    lines = [f"## {block.title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in block.rows:
        cells = [row.title] + [cell(figures, block, k, row) for k in block.systems]
        cells += [compare(figures, block, k, row) for k in block.systems[1:]]
        lines.append("| " + " | ".join([*cells, column(row, "cpu"), column(row, "disk")]) + " |")
    for metric, at in VISIT.items():
        cells = [spread(figures.values(block.title, n, at, metric), metric) for n in names]
        lines.append("| " + " | ".join([LABELS[metric], *cells, *[""] * (len(names) + 1)]) + " |")
    return "\n".join(lines) + "\n"


def compare(figures, block, kind, row):
    """Ours over theirs: rates as they are, and for what should be small theirs over ours; more than 1 is better."""
    of = figures.get(block.title, block.systems[0].name, row.title)
    metric = next((m for m in ("p50" if row.latency else "rate", "each", "ready") for f in of.values() if m in f), "rate")
    mine = figures.values(block.title, block.systems[0].name, row.title, metric)
    theirs = figures.values(block.title, kind.name, row.title, metric)
    if not mine or not theirs:
        return ""
    a, b = statistics.median(mine.values()), statistics.median(theirs.values())
    ours, other = (a, b) if metric == "rate" else (b, a)
    return f"{ours / other:.2f} ×" if other else ""


class Change:
    """A figure of Firth beside the same of the build before, each round by itself."""

    def __init__(self, figures, block, at, metric):
        self.metric, self.most = metric, metric not in GROWS
        self.ours, self.before = (figures.values(block.title, k.name, at, metric) for k in (block.systems[0], Before))
        both = [n for n in self.ours if n in self.before]
        self.measured = bool(both)
        if both:
            ratios = [self.times(self.ours[n], self.before[n]) for n in both]
            self.rounds, self.won = len(both), sum(r >= 1 for r in ratios)
            self.value = self.times(*(statistics.median(v[n] for n in both) for v in (self.ours, self.before)))

    def times(self, ours, before):
        """How many times better ours is."""
        a, b = (before, ours) if self.most else (ours, before)
        return 1.0 if a == b else a / (b or 1e-9)

    @property
    def verdict(self):
        """A difference counts if the medians and two thirds of the rounds agree on it."""
        if self.value >= 1 + SAME and self.won * 3 >= self.rounds * 2:
            return "better"
        if self.value <= 1 - SAME and self.won * 3 <= self.rounds:
            return "**worse**"
        return "the same"

    def line(self, title):
        return (f"| {title} | {UNITS[self.metric][0]} | {spread(self.ours, self.metric)} | "
                f"{spread(self.before, self.metric)} | {self.value:.2f} × | {self.won} of {self.rounds} | {self.verdict} |")


def changes(figures, blocks):
    """Every figure beside the build before."""
    lines = [f"## {Before.name}", "",
             f"More than 1 × is better than before. The same: within {SAME:.0%}, or the rounds do not agree.", "",
             "| work | figure | Firth | before | Firth : before | better in | |", "|---|---|---|---|---|---|---|"]
    for block in blocks:
        for row in block.rows:
            found = [Change(figures, block, row.title, m) for m in (PACED if row.latency else FLAT_OUT)]
            lines += [c.line(row.title) for c in found if c.measured]
        for metric, at in VISIT.items():
            c = Change(figures, block, at, metric)
            lines += [c.line(f"{LABELS[metric]} ({block.title})")] if c.measured else []
    return "\n".join(lines) + "\n"


def crosscheck(figures, blocks):
    """What generators that are not ours say, beside what ours says."""
    own = {row.title: (block, row) for block in blocks for row in block.rows}
    lines = ["## The generators beside each other", "",
             "A heavier client leaves less of the CPUs to the server, and is itself what is measured: so rates come "
             "nearer to each other.", "", "| generator | Firth : peer | our generator | Firth : peer |", "|---|---|---|---|"]
    for block in blocks:
        for row in block.rows:
            if row.beside:
                (at, ours), peer = own[row.beside], block.systems[-1]
                lines.append(f"| {row.title} | {compare(figures, block, peer, row) or '–'} | {ours.title} | "
                             f"{compare(figures, at, peer, ours) or '–'} |")
    return "\n".join(lines) + "\n"


def noise(journal):
    """What disturbed, in a paragraph."""
    taken = [e[w] for e in journal.of("noise") for w in ("before", "after")]
    others = [e["figures"]["others"] for e in journal.of("figures") if "others" in e.get("figures", {})]
    if not taken or not others:
        return "No visit was complete: the noise is not known.\n"
    of = lambda key: bounds(dict(enumerate(n[key] for n in taken)))
    load, spin, sync = of("load"), of("spin"), of("fdatasync")
    busy = statistics.median(others), max(others)
    return (f"Noise. A fixed piece of work on every CPU, before and after each visit: {spin[0]:.1f} ms "
            f"({spin[1]:.1f}–{spin[2]:.1f}). Appending 4 KiB and fdatasync: {sync[0]:.2f} ms "
            f"({sync[1]:.2f}–{sync[2]:.2f}). Load average of a minute, our own included: {load[0]:.1f} "
            f"({load[1]:.1f}–{load[2]:.1f}). CPU time of the machine that neither server nor generator used while a row "
            f"ran, the kernel's own work for them included: median {busy[0]:.1f} %, at most {busy[1]:.1f} %.\n")


def draw(figures, found, blocks, folder):
    """The plots; gives the lines that show them."""
    shown = []

    def show(name, alt, drawn):
        if drawn:
            shown.append(f"![{alt}](plots/{name}.svg)")

    reached = [(f"{v.label}: {v.wanted}" + (f" {v.goal.against}" if v.goal.against else ""), v.times)
               for v in found if v.measured]
    show("goals", "measured beside the goals", plots.goals(folder / "goals.svg", "Measured beside the goals", reached))
    for i, block in enumerate(blocks):
        for metric, title in (("rate", "messages/s"), ("cpu", "server CPU, µs a message")):
            rows = [(row.title, {k.name: bounds(v) for k in block.systems
                                 if (v := figures.values(block.title, k.name, row.title, metric))})
                    for row in block.rows if not row.latency or metric == "cpu"]
            rows = [(label, values) for label, values in rows if values]
            name = f"{i + 1}-{metric}"
            show(name, f"{block.title}: {title}", plots.bars(folder / f"{name}.svg", block.title, title, rows))
    rows = [(f"{row.title}: {q}", {k.name: bounds(v) for k in block.systems
                                   if (v := figures.values(block.title, k.name, row.title, q))})
            for block in blocks for row in block.rows if row.latency for q in ("p50", "p99")]
    show("latency", "latencies", plots.bars(folder / "latency.svg", "Latency at a rate", "ms", [r for r in rows if r[1]]))
    return shown


def write(journal, out):
    """Writes the report to a file and its plots beside it."""
    run, figures = journal.of("run")[0], Figures(journal.of("figures"))
    blocks = with_before(BLOCKS) if run.get("against") else BLOCKS
    found = [v for v in verdicts(figures, blocks) if v.measured or run["whole"]]
    measured = [v for v in found if v.measured]
    did = [b for b in blocks if any(e["block"] == b.title for e in journal.of("figures"))]
    rounds = 1 + max((e["round"] for e in journal.of("figures")), default=0)
    lines = ["# Results", "", f"Written by `{run['command']}` ({run['date']}): {rounds} rounds, {run['seconds']:g} s a "
             "row; medians, with the least and the most of the rounds.",
             f"Machine: {run['machine']}; the generators share its CPUs with the server.",
             f"How it is measured, and each row and system: [README.md]({os.path.relpath(BENCH / 'README.md', out.parent)}).", "", noise(journal)]
    lines += [f"- {name}: {version}" for name, version in run["versions"].items()]
    reached = sum(v.times >= 1 for v in measured)
    lines += ["", "## The goals", "", f"Reached: {reached} of {len(measured)} that were measured.", "",
              "| work | goal | against | Firth | the peer | Firth : peer | |", "|---|---|---|---|---|---|---|"]
    lines += [v.line() for v in found]
    lines += ["", *draw(figures, found, blocks, out.parent / "plots"), ""]
    if run.get("against"):
        lines += [changes(figures, did)]
    lines += [table(figures, block) for block in did]
    if any(row.beside for block in did for row in block.rows):
        lines += [crosscheck(figures, blocks)]
    findings = BENCH / "FINDINGS.md"
    if findings.exists() and run["whole"]:
        lines += [findings.read_text()]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines))
