"""The page of the curves: a plot, a table and a line on each."""
import math
from dataclasses import dataclass

from lab import plots


@dataclass(frozen=True)
class Panel:
    label: str  # of its y axis
    lines: tuple  # names of the values


@dataclass(frozen=True)
class Curve:
    title: str
    x: str
    panels: tuple
    why: str


def memory(*lines):
    return Panel("resident memory, MiB", lines)


SHOWN = {
    "connections": Curve("MQTT connections", "connections", (
        Panel("QoS 1 messages/s", ("1 in flight each", "1,024 in flight together")),
        memory("idle", "under load")), (
        "Connections that wait cost memory and nothing else: 1.4 to 2.8 KiB each, linear as it must be (the session; no goroutine, "
        "the kernel's socket not counted). With 1 message in flight each, the rate rises as more messages share a commit, up to "
        "100 connections, and stays: from there on a message costs a read and a write of its own, however many they are. "
        "With 1,024 in flight together it falls with their number for the same reason, in the other direction: the same "
        "messages come in smaller bunches. Neither is a list that grows: a connection is found by nobody but its own "
        "socket.")),
    "subscriptions": Curve("Subscriptions", "topic filters in the trie", (
        Panel("messages/s", ("publish, 1,000 names", "publish and deliver, 16 names")),
        memory("resident")), (
        "The rates are **flat**: a match looks at no more nodes of the trie than filters match the beginning of the name, each "
        "found by one hash (37 ns with 1 filter, 53 ns with a million), and names that were just seen are not even looked up. "
        "Memory is **linear**: 0.7 KiB resident for a filter of 30 bytes (about 340 B live, the rest is room for the garbage "
        "collector): the trie, the session's own map, and the set of filters by which partitions that nobody listens to are "
        "skipped.")),
    "partitions": Curve("Topics and partitions", "partitions of one topic, or topics", (
        Panel("records/s of 100 B, franz-go", ("produce, partitions", "produce, topics")),
        memory("resident, partitions", "resident, topics"),
        Panel("ms", ("create, partitions", "create, topics", "start, partitions", "start, topics"))), (
        "Topics are **flat** to produce to: a partition is found by its number in a table. More partitions in use make smaller "
        "batches: with 10,000 keys over 10,000 partitions each batch holds a record or two, and its 61 bytes of header, "
        "checksum and index entry are paid for each. That is the Kafka format, and the client pays as much; the disk still "
        "sees one write a commit. Memory and start are **linear with a small constant**: 12 KiB for a partition that was "
        "written to, 3 KiB for a topic, 10 µs of the start. Making a topic is one commit; it cost 12.7 ms with 10,000 topics "
        "before the set of topics was changed in place of being made anew.")),
    "retained": Curve("Retained messages", "topic names with a retained message of 100 B", (
        Panel("messages/s", ("retain", "deliver all")), memory("after publishing", "after a start"),
        Panel("ms", ("start", "subscribe to one"))), (
        "A subscription to one name is **flat**: the tree of names is walked along the filter. PUBLISH and delivery are flat once "
        "there are enough to fill a bunch (the first points have only 1 and 100 to send). Memory is **linear**, 0.5 to 0.65 "
        "KiB for a message of 100 B under a name of 28: messages, names and tree are in memory. The start is linear too, 0.5 "
        "µs a message: the fold reads all of them once.")),
    "groups": Curve("Consumer groups", "groups with a committed offset", (
        Panel("commits/s", ("commits, 100 in flight",)), memory("resident"),
        Panel("ms", ("one commit", "start"))), (
        "Commits are **flat**: each is a record of one internal topic, found by the group's name in a map. Those of one "
        "connection share a sync: with 1,000 on their way `go test ./internal/kafka -run xxx -bench CommitsPipelined` takes "
        "174,000 a second of one group and 114,000 of a hundred. Memory is **linear**, 3 KiB a group. The start reads every commit that was kept, here some 28,000 "
        "at each point: it grows with commits made rather than with groups, until internal topics are compacted.")),
    "payload": Curve("Size of the payload", "bytes", (
        Panel("messages/s", ("MQTT, QoS 1", "Kafka produce")),
        Panel("MB/s", ("MQTT, QoS 1 (bytes)", "Kafka produce (bytes)"))), (
        "Messages/s fall **as 1/size** once the bytes are the cost, which MB/s show: from 10 KiB on they are bound by copying (into "
        "the commit, in the generator) and by the disk, not by the number of messages. Below 1 KiB the "
        "message is the cost and MB/s rise with its size. MQTT carries 1 MiB in flight a publisher here.")),
    "log_size": Curve("Size of the log", "MiB of 1 KiB records in 8 partitions", (
        Panel("ms", ("start", "fetch from the middle", "find a time")), Panel("records/s", ("read from the start",)),
        memory("resident")), (
        "All **flat**, or close: the start reads the newest checkpoint and the footers of the segments, an offset is found by binary "
        "search in spans and extents that are held in memory or read with one pread, and so is a time. What was "
        "written in bulk is not in the page cache the first time it is read; the two largest are read as the disk gives them.")),
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
    known = [any(p.get(n) for p in points for n in panel.lines) for panel in curve.panels]
    if not plots.pyplot or not all(known):
        return
    figure, all_axes = plots.pyplot.subplots(1, len(curve.panels), figsize=(4.3 * len(curve.panels), 3.4), squeeze=False)
    for axes, panel in zip(all_axes[0], curve.panels):
        for i, name in enumerate(panel.lines):
            known = [(p["x"], p[name]) for p in points if p.get(name)]
            axes.plot([k[0] for k in known], [k[1] for k in known], marker="o", markersize=3.5, label=name,
                      color=("#1668b8", "#d9822b", "#3a9e6f", "#9b59b6")[i], linestyle=("-", "--", "-", "--")[i])
        axes.set_xscale("log")
        values = [p[n] for p in points for n in panel.lines if p.get(n)]
        axes.set_yscale("log")
        if max(values) < 12 * min(values):  # at least a decade, so that flat looks flat
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
