"""Plots as SVG: bars with the range of the rounds, and curves. Without matplotlib there are none."""
import sys

try:
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    matplotlib.rcParams.update({
        "svg.hashsalt": "firth", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
        "axes.axisbelow": True, "figure.autolayout": True, "legend.frameon": False,
    })
except ImportError:
    pyplot = None
    print("no plots: matplotlib is missing (conformance/install.sh bench)", file=sys.stderr)

COLOURS = {"Firth": "#1668b8", "Mosquitto": "#d9822b", "Mosquitto, saving": "#eebc8a", "NATS": "#3a9e6f",
           "NATS, sync": "#1d6b48", "Kafka": "#9b59b6", "Kafka, flush": "#5e2f73",
           "Mosquitto + bridge + Kafka": "#b0453f"}
OTHERS = ["#7f7f7f", "#17a2b8", "#8c564b", "#e377c2"]


def colour(name, i=0):
    return COLOURS.get(name, OTHERS[i % len(OTHERS)])


def save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def bars(path, title, unit, rows, log=True):
    """rows: [(label, {system: (median, least, most)})]; a group of bars each row."""
    if not pyplot or not rows:
        return False
    names = list(dict.fromkeys(n for _, values in rows for n in values))
    height = sum(len(values) for _, values in rows) * 0.17 + len(rows) * 0.16 + 1.1
    figure, axes = pyplot.subplots(figsize=(8.5, height))
    y, ticks, seen = 0.0, [], set()
    for label, values in rows:
        top = y
        for name in (n for n in names if n in values):
            middle, least, most = values[name]
            axes.barh(y, middle, 0.9, color=colour(name, names.index(name)), label=None if name in seen else name,
                      xerr=[[middle - least], [most - middle]], ecolor="#333333", error_kw={"elinewidth": 0.8})
            seen.add(name)
            y -= 1
        ticks.append(((top + y + 1) / 2, label))
        y -= 0.8
    axes.set_yticks([t for t, _ in ticks], [label for _, label in ticks])
    axes.grid(False, axis="y")
    if log:
        axes.set_xscale("log")
    axes.margins(y=0.02)
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, path)
    return True


def goals(path, title, rows):
    """rows: [(label, how many times the goal was met, or 1/n of it)]; right of the line is reached."""
    if not pyplot or not rows:
        return False
    figure, axes = pyplot.subplots(figsize=(11, len(rows) * 0.2 + 0.8))
    for i, (_, times) in enumerate(rows):
        axes.barh(-i, times - 1, 0.8, left=1, color="#3a9e6f" if times >= 1 else "#b0453f")
    axes.set_xscale("log")
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_yticks([-i for i in range(len(rows))], [label for label, _ in rows])
    axes.grid(False, axis="y")
    axes.margins(y=0.01)
    axes.set_xlabel("measured : goal (1: just reached)")
    axes.set_title(title, loc="left")
    save(figure, path)
    return True


def curves(path, title, x, y, lines, logx=True, logy=True):
    """lines: {name: [(x, median, least, most)]}; a line each, its range shaded."""
    if not pyplot or not lines:
        return False
    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    for i, (name, points) in enumerate(lines.items()):
        points = sorted(points)
        xs = [p[0] for p in points]
        axes.plot(xs, [p[1] for p in points], marker="o", markersize=3, color=colour(name, i), label=name)
        axes.fill_between(xs, [p[2] for p in points], [p[3] for p in points], color=colour(name, i), alpha=0.18)
    if logx:
        axes.set_xscale("log")
    if logy:
        axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left")
    axes.legend()
    save(figure, path)
    return True
