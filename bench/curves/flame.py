#!/usr/bin/env python3
"""Flame graphs as SVG from profiles of Go: flame.py PROFILE OUT.svg TITLE [SAMPLE INDEX]

The stacks come from `go tool pprof -raw`. A box is a function, as wide as its share of the samples; what it
calls stands on it. Only the standard library is needed.
"""
import html
import os
import re
import subprocess
import sys

WIDTH, ROW, LEAST = 1600, 17, 0.6  # pixels; boxes narrower than LEAST are left out


def stacks(profile, index):
    """[(value, [function names from the root])], the name of the sample and its unit."""
    text = subprocess.run([os.environ.get("GO", "go"), "tool", "pprof", "-raw", str(profile)], check=True,
                          capture_output=True, text=True).stdout
    head, samples, locations = re.split(r"^Samples:\n|^Locations\n", text, flags=re.M)[:3]
    locations = locations.split("Mappings\n")[0]
    kinds = samples.split("\n", 1)[0].split()
    at = len(kinds) - 1
    for i, kind in enumerate(kinds):
        if kind.split("/")[0] == index:
            at = i
    names = {}
    number = 0
    for line in locations.splitlines():
        known = re.match(r"\s*(\d+): 0x[0-9a-f]+ (?:M=\d+ )?(.*)$", line)
        if known:
            number, line = int(known.group(1)), known.group(2)
            names[number] = []
        function = re.match(r"\s*(\S.*?) (\S+):\d+:\d+ s=\d+", line) or re.match(r"\s*(\S.*?) (\S+):\d+ s=\d+", line)
        if function:
            names[number].append(function.group(1))
    found = []
    for line in samples.splitlines()[1:]:
        values, colon, ids = line.partition(":")
        if not colon or not re.fullmatch(r"[\s\d-]+", values):
            continue  # labels
        value = int(values.split()[at])
        stack = [n for i in reversed(ids.split()) for n in reversed(names.get(int(i)) or ["?"])]
        if value > 0 and stack:
            found.append((value, stack))
    unit = kinds[at].split("/")[1].rstrip("]").split("[")[0] if "/" in kinds[at] else ""
    return found, unit


class Box:
    def __init__(self, name):
        self.name, self.value, self.own, self.on = name, 0, 0, {}

    def depth(self, scale):
        return 1 + max((b.depth(scale) for b in self.on.values() if b.value * scale >= LEAST), default=0)


def tree(found):
    root = Box("all")
    for value, stack in found:
        box = root
        box.value += value
        for name in stack:
            box = box.on.setdefault(name, Box(name))
            box.value += value
        box.own += value
    return root


def short(name):
    return name.replace("github.com/firthmq/firth/internal/", "").replace("github.com/", "")


COLOURS = (("mqtt", "#4c8fd0"), ("kafka", "#9b6fc0"), ("log/", "#4fae7d"), ("kit/", "#7fb8a0"), ("syscall", "#e0704f"),
           ("internal/runtime/syscall", "#e0704f"), ("internal/poll", "#e59a5b"), ("net", "#e59a5b"), ("runtime", "#c9b458"))


def colour(name):
    return next((c for start, c in COLOURS if short(name).startswith(start)), "#b9b2a8")


def amount(value, unit):
    if unit == "nanoseconds":
        return f"{value / 1e9:.3f} s" if value >= 1e7 else f"{value / 1e6:.3f} ms"
    if unit == "bytes":
        return f"{value / (1 << 20):.2f} MiB"
    return f"{value:,} {unit}"


def draw(root, title, unit):
    scale = WIDTH / max(root.value, 1)
    height = (root.depth(scale) + 2) * ROW + 14
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
           f'font-size="11">', f'<rect width="{WIDTH}" height="{height}" fill="#fdfcf9"/>',
           f'<text x="8" y="17" font-size="14" font-family="sans-serif">{html.escape(title)}: '
           f'{amount(root.value, unit)}</text>']

    def put(box, x, level):
        width = box.value * scale
        if width < LEAST:
            return
        y = height - (level + 1) * ROW - 4
        label = short(box.name)
        tip = f"{label}: {amount(box.value, unit)}, {box.value * 100 / root.value:.1f} %; itself {amount(box.own, unit)}"
        out.append(f'<g><title>{html.escape(tip)}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.4, 0.3):.1f}" '
                   f'height="{ROW - 1}" rx="1.5" fill="{colour(box.name)}"/>')
        fits = int((width - 6) / 6.7)
        if fits >= 4:
            text = label if len(label) <= fits else label.rsplit("/", 1)[-1][:fits]
            out.append(f'<text x="{x + 3:.1f}" y="{y + 12}">{html.escape(text)}</text>')
        out.append("</g>")
        for on in sorted(box.on.values(), key=lambda b: b.name):
            put(on, x, level + 1)
            x += on.value * scale

    put(root, 0, 0)
    out.append("</svg>")
    return "\n".join(out) + "\n"


def flame(profile, out, title, index=""):
    """Draws a profile; gives the share of each function's own samples, largest first."""
    found, unit = stacks(profile, index)
    root = tree(found)
    with open(out, "w", encoding="utf-8") as f:
        f.write(draw(root, title, unit))
    own = {}
    for value, stack in found:
        own[stack[-1]] = own.get(stack[-1], 0) + value
    return sorted(((v / max(root.value, 1), short(n)) for n, v in own.items()), reverse=True)


if __name__ == "__main__":
    for share, name in flame(*sys.argv[1:5])[:15]:
        print(f"{share * 100:5.1f} %  {name}")
