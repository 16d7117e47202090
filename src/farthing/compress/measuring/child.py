"""The process that a model is measured in: it loads one artefact, and runs a round whenever it is told to.

It imports what serves the model and nothing else, so that its memory is that of serving. It reads one JSON array of
texts for each round from its standard input, and writes one line for each to its standard output.
"""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from farthing.compress.measuring.energy import counters, joules, reading
from farthing.compress.measuring.measurement import TOGETHER, Round, Said
from farthing.engines.onnx import Model
from farthing.errors import FarthingError


def main(folder: str, threads: str) -> None:
    """Load the artefact in `folder`, say so, and answer every line."""
    # What libraries print must not get between the lines.
    out, sys.stdout = sys.stdout.buffer, sys.stderr

    def say(said: Said) -> None:
        out.write(msgspec.json.encode(said) + b"\n")
        out.flush()

    try:
        model = Model.load(Path(folder), int(threads))
        say(Said(peak_rss_mb()))
        for line in sys.stdin.buffer:
            found = run_round(model, msgspec.json.decode(line, type=list[str]))
            say(Said(peak_rss_mb(), found))
    except FarthingError as error:
        say(Said(error=error.message, hint=error.hint))


def run_round(model: Model, texts: Sequence[str]) -> Round:
    """All texts one by one, then all in batches of 32 in the order they came: what arrives together is served so."""
    began = time.process_time()
    ids = [model.encode([text])[0] for text in texts]
    tokenise_s = time.process_time() - began
    cpu_s, wall_s = [], []
    for row in ids:
        wall, cpu = time.perf_counter(), time.process_time()
        model.run([row])
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
    packages = counters()
    before = reading(packages)
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(ids), TOGETHER):
        model.run(ids[start : start + TOGETHER])
    batch_cpu_s, batch_wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return Round(
        cpu_s=tuple(cpu_s),
        wall_s=tuple(wall_s),
        tokenise_s=tokenise_s,
        batch_cpu_s=batch_cpu_s,
        batch_wall_s=batch_wall_s,
        batch_joules=joules(packages, before, reading(packages)) if packages else None,
        texts=len(ids),
        tokens=sum(len(row) for row in ids),
    )


def peak_rss_mb() -> float:
    """The most memory this process had in use.

    Linux counts what its parent had into `ru_maxrss`, so it is read where that is not so.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
