"""How fast recorded traffic goes through the pipeline again."""

import random
import tempfile
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.process import child_cpu_seconds
from benchmarks.servers import FARTHING
from farthing.schema import write_recorded
from farthing.simulation.generator import Workload, generate

SEED = 1


def replay(effort: Effort) -> list[Figure]:
    """Calls per CPU-second of a whole `farthing replay` over generated traffic, its start and report included."""
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as home:
        traffic = Path(home, "traffic.jsonl")
        with traffic.open("wb") as file:
            for recorded in generate(Workload(calls=effort.replayed), random.Random(SEED)):
                file.write(write_recorded(recorded) + b"\n")
        command = [*FARTHING, "--quiet", "replay", "--json", str(traffic)]
        samples = tuple(effort.replayed / child_cpu_seconds(command) for _ in range(effort.rounds))
        size = traffic.stat().st_size / effort.replayed
    note = f"{effort.replayed:,} generated calls of {size:,.0f} bytes each on average"
    return [Figure("replay, calls per CPU-second", Target(20_000, None, "/s", at_least=True), samples, note=note)]
