"""Runs every case and holds the failures against allow.txt: judge.py ALLOW [PATTERN].

Ends with 1 when a case fails that is not listed, when a listed one passes (the list is out of date), or
when a listed one does not exist."""

import concurrent.futures
import fnmatch
import sys
import traceback

import bad  # noqa: F401 (it adds its cases)
from cases import CASES
from wire import Closed, Raw


def read(path):
    """allow.txt: case | later, choice or chance | reason."""
    allowed = {}
    for line in open(path, encoding="utf-8"):
        if line.strip() and not line.startswith("#"):
            name, kind, reason = (x.strip() for x in line.split("|", 2))
            assert kind in ("later", "choice", "chance") and reason, line
            assert name in CASES, f"{name} in {path} is no case"
            allowed[name] = kind
    return allowed


def run(name):
    f, v, _ = CASES[name]
    try:
        f(v, "c" + name.replace(".", ""))
        return None
    except Closed:
        return "the connection was ended\n" + traceback.format_exc(limit=-3)
    except Exception as e:
        return f"{type(e).__name__}: {e}\n" + traceback.format_exc(limit=-3)


def main():
    allowed = read(sys.argv[1])
    pattern = sys.argv[2] if len(sys.argv) > 2 else "*"
    chosen = [n for n in CASES if fnmatch.fnmatch(n, pattern)]
    wrong, passed, expected = [], 0, {"later": 0, "choice": 0, "chance": 0}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for name, failure in zip(chosen, pool.map(run, chosen)):
            if failure and name in allowed:
                expected[allowed[name]] += 1
            elif failure:
                wrong.append(name)
                print(f"  FAIL {name}: {CASES[name][2]}\n    " + failure.strip().replace("\n", "\n    "), flush=True)
            elif allowed.get(name, "chance") != "chance":
                wrong.append(name)
                print(f"  PASSES but is listed as failing: {name}", flush=True)
            else:
                passed += 1
    Raw(5).connect().ping()  # after all this it serves
    print(f"{len(chosen)} cases: {passed} passed, {expected['later']} left to a later issue, "
          f"{expected['choice']} decided otherwise, {expected['chance']} by chance, {len(wrong)} wrong")
    sys.exit(1 if wrong or not chosen else 0)


main()
