"""The page of the curves: a plot, a table and a line on each."""
import math
from dataclasses import dataclass

from lab import plots


@dataclass(frozen=True)
class Panel:
    label: str  # of its y axis
    lines: tuple  # names of the values
    log: bool = True


@dataclass(frozen=True)
class Curve:
    title: str
    x: str
    panels: tuple
    why: str


SHOWN = {
    "connections": Curve("MQTT connections", "connections", (
        Panel("QoS 1 messages/s", ("1 in flight each", "1,024 in flight together")),
        Panel("resident memory, MiB", ("idle", "under load"))), ""),
    "subscriptions": Curve("Subscriptions", "topic filters in the trie", (
        Panel("messages/s", ("publish, 1,000 names", "publish and deliver, 16 names")),
        Panel("resident memory, MiB", ("resident",))), ""),
    "partitions": Curve("Topics and partitions", "partitions of one topic, or topics", (
        Panel("records/s of 100 B, franz-go", ("produce, partitions", "produce, topics")),
        Panel("resident memory, MiB", ("resident, partitions", "resident, topics")),
        Panel("ms", ("create, partitions", "create, topics", "start, partitions", "start, topics"))), ""),
    "retained": Curve("Retained messages", "topic names with a retained message of 100 B", (
        Panel("messages/s", ("retain", "deliver all")), Panel("resident memory, MiB", ("after publishing", "after a start")),
        Panel("ms", ("start", "subscribe to one"))), ""),
    "groups": Curve("Consumer groups", "groups with a committed offset", (
        Panel("commits/s", ("commits, 100 in flight",)), Panel("resident memory, MiB", ("resident",)),
        Panel("ms", ("one commit", "start"))), ""),
    "payload": Curve("Size of the payload", "bytes", (
        Panel("messages/s", ("MQTT, QoS 1", "Kafka produce")),
        Panel("MB/s", ("MQTT, QoS 1 (bytes)", "Kafka produce (bytes)"))), ""),
    "log_size": Curve("Size of the log", "MiB of 1 KiB records in 8 partitions", (
        Panel("ms", ("start", "fetch from the middle", "find a time")), Panel("records/s", ("read from the start",)),
        Panel("resident memory, MiB", ("resident",))), ""),
}


def growth(points, name):
    """How a value grows from the first point to the last where x is large enough to tell: its exponent."""
    known = [(p["x"], p[name]) for p in points if p.get(name)]
    late = [k for k in known if k[0] * 1000 >= known[-1][0]] if known else []
    if len(late) < 2 or late[0][0] == late[-1][0]:
        return None
    return math.log(late[-1][1] / late[0][1]) / math.log(late[-1][0] / late[0][0])


def number(v):
    if v is None:
        return ""
    return f"{v:,.0f}" if abs(v) >= 100 else f"{v:.3g}"


def table(found):
    names = list(dict.fromkeys(k for p in found["points"] for k in p if k != "x"))
    merged = {}
    for p in found["points"]:
        merged.setdefault(p["x"], {}).update(p)
    rows = ["| | " + " | ".join(f"{x:,.0f}" for x in merged) + " | grows as |", "|---|" + "---|" * (len(merged) + 1)]
    for name in names:
        exponent = growth(list(merged.values()), name)
        grows = "" if exponent is None else f"x^{exponent:.2f}"
        rows.append(f"| {name} | " + " | ".join(number(p.get(name)) for p in merged.values()) + f" | {grows} |")
    return "\n".join(rows), list(merged.values())


def draw(path, curve, points):
    if not plots.pyplot:
        return
    figure, all_axes = plots.pyplot.subplots(1, len(curve.panels), figsize=(4.3 * len(curve.panels), 3.4), squeeze=False)
    for axes, panel in zip(all_axes[0], curve.panels):
        for i, name in enumerate(panel.lines):
            known = [(p["x"], p[name]) for p in points if p.get(name)]
            axes.plot([k[0] for k in known], [k[1] for k in known], marker="o", markersize=3.5, label=name,
                      color=("#1668b8", "#d9822b", "#3a9e6f", "#9b59b6")[i], linestyle=("-", "--", "-", "--")[i])
        axes.set_xscale("log")
        if panel.log:
            axes.set_yscale("log")
            values = [p[n] for p in points for n in panel.lines if p.get(n)]
            if values and max(values) < 12 * min(values):  # at least a decade, so that flat looks flat
                middle = math.sqrt(max(values) * min(values))
                axes.set_ylim(middle / 6, middle * 6)
        axes.set_xlabel(curve.x)
        axes.set_ylabel(panel.label)
        axes.legend(fontsize=8)
    figure.suptitle(curve.title, x=0.01, ha="left")
    plots.save(figure, path)


def write(results, out):
    text = ["# The growth of cost", "", "<!-- written by bench/curves -->", ""]
    if results:
        r = results[0]
        text += [f"{r['date']}, {r['machine']}, {r['version']}. Server and generator share the machine; each point is one "
                 "run, so single points off a line are noise. Axes are logarithmic. *Grows as* is the exponent from the "
                 "first point within a factor of 1,000 of the last: x^0 is flat, x^1 is linear. `make bench-curves` "
                 "makes this page; see [curves/README.md](curves/README.md).", ""]
    for r in results:
        curve = SHOWN[r["curve"]]
        rows, points = table(r)
        draw(out / "plots" / f"curve-{r['curve']}.svg", curve, points)
        text += [f"## {curve.title}", "", f"![{curve.title}](plots/curve-{r['curve']}.svg)", "", rows, ""]
        if curve.why:
            text += [curve.why, ""]
        if r["failed"]:
            text += [f"**Ended early:** {r['failed']}", ""]
    (out / "CURVES.md").write_text("\n".join(text), encoding="utf-8")
