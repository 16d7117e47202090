"""`python -m benchmarks [NAMES...] [--quick] [--json]`: measure, compare with the targets, print."""

import argparse
import sys
import time

import msgspec

from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.figures import Figure, Target, document, table
from benchmarks.machine import describe
from benchmarks.process import BenchmarkError
from benchmarks.rows import ROWS


def main() -> int:
    """Run the rows asked for; 1 when an answer was wrong, 0 otherwise, targets met or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to run, all unless told: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, for while you work")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--artefact", default="", metavar="DIR", help="the model that the engine's row serves")
    flags = parser.parse_args()
    if unknown := set(flags.names) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    machine = describe()
    effort = msgspec.structs.replace(QUICK if flags.quick else FULL, artefact=flags.artefact)
    figures = [
        (f"python -m benchmarks {name}", figure) for name in flags.names or ROWS for figure in _measure(name, effort)
    ]
    if flags.json:
        sys.stdout.buffer.write(document(machine, figures) + b"\n")
    else:
        print("\n".join(f"{name:>12}: {value}" for name, value in machine.items()), end="\n\n")
        print(table(figures))
    return int(any(figure.verdict == "FAILED" for _, figure in figures))


def _measure(name: str, effort: Effort) -> list[Figure]:
    started = time.monotonic()
    try:
        return ROWS[name](effort)
    except BenchmarkError as error:
        return [Figure(name, Target(), problems=(str(error),))]
    finally:
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
