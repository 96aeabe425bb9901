#!/usr/bin/env python3
"""The growth of cost: curves over connections, subscriptions, partitions, retained messages, groups, payload and
the size of the log. Figures go to build/bench/curves, plots to bench/plots, and bench/CURVES.md shows both.

Started as `python3 bench/curves` (all, about 25 minutes), with --quick (6 minutes, shorter curves, and the page goes
to build/bench/curves beside the figures), or with --only NAME for some. --page only writes the page again.
"""
import argparse
import json
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from curves import page  # noqa: E402
from curves.points import CURVES, How  # noqa: E402
from lab import machine  # noqa: E402
from lab.systems import BENCH, BUILD, Firth  # noqa: E402

RESULTS = BUILD / "bench" / "curves"


def measure(curve, how, folder):
    """One curve: its points as they come, and its file at the end."""
    began, before, points = time.monotonic(), machine.noise(), []
    failed = None
    try:
        for x, values in curve(how):
            points.append({"x": x, **{k: v for k, v in values.items() if v is not None}})
            print(f"  {x:>12,}", "  ".join(f"{k} {v:,.2f}" for k, v in points[-1].items() if k != "x"), flush=True)
    except Exception as e:  # the other curves are still worth measuring, and so is what came before
        traceback.print_exc()
        failed = (str(e).splitlines() or [type(e).__name__])[-1][:300]
    found = {"curve": curve.__name__, "quick": how.quick, "points": points, "failed": failed,
             "date": time.strftime("%Y-%m-%d"), "machine": machine.describe(), "version": Firth.version(),
             "seconds": time.monotonic() - began, "noise": {"before": before, "after": machine.noise()}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{curve.__name__}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return failed is None


def main():
    names = [c.__name__ for c in CURVES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=names, default=[])
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    folder = RESULTS / "quick" if args.quick else RESULTS
    well = True
    for curve in CURVES if not args.page else ():
        if args.only and curve.__name__ not in args.only:
            continue
        print(curve.__name__, flush=True)
        well = measure(curve, How(args.quick), folder) and well
    out = folder if args.quick else BENCH
    page.write([json.loads((folder / f"{n}.json").read_text()) for n in names if (folder / f"{n}.json").exists()], out)
    print(f"{out / 'CURVES.md'}")
    sys.exit(not well)


if __name__ == "__main__":
    main()
