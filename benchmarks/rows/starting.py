"""What starting costs before any work is done."""

import sys

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.process import child_cpu_seconds
from benchmarks.servers import FARTHING


def start(effort: Effort) -> list[Figure]:
    """CPU of a whole interpreter that imports Farthing, and of one that shows the command's help."""
    imported = [sys.executable, "-c", "import farthing"]
    helped = [*FARTHING, "--help"]
    return [
        Figure("CPU of `import farthing`", Target(0.15, None, "s"), _samples(imported, effort.starts)),
        Figure("CPU of `farthing --help`", Target(0.25, None, "s"), _samples(helped, effort.starts)),
    ]


def _samples(command: list[str], runs: int) -> tuple[float, ...]:
    child_cpu_seconds(command)  # compiles what is not compiled yet
    return tuple(child_cpu_seconds(command) for _ in range(runs))
