"""How fast a fleet is simulated, and how much memory a day of traffic takes."""

import subprocess
import sys
import time

import numpy as np

from benchmarks.effort import Effort
from benchmarks.figures import Figure, Target
from benchmarks.process import BenchmarkError
from farthing.economics.step import StepCosts
from farthing.simulation.fleet.fleet import Engine, Fleet, Router
from farthing.simulation.fleet.generating import Bursts, Traffic, generated
from farthing.simulation.fleet.outcome import Outcome
from farthing.simulation.fleet.simulate import simulate

DAY_S = 86_400.0
HOUR_S = 3_600.0
REPLICAS = 64
COSTS = StepCosts(11e-3, 0.0, 1.0, 9e-8, 0.0, 4.6e-5, 2.3e-6, 1.6e-9, 0.0, 0.0, 1e-3, 2e-5, 1.0, 0.5)
"""About those of an 8B model in BF16 on an L40S."""

MEASURE = """
import resource, time
from benchmarks.rows.simulating import day
started = time.process_time()
seen = day({seconds})
print(time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seen.finished)
"""


def simulate_speed(effort: Effort) -> list[Figure]:
    """Engine iterations simulated per CPU second, as they come and with runs of alike ones leapt over."""
    day(60.0)  # compiles
    found = []
    for stepwise in (True, False):
        samples = []
        for _ in range(effort.rounds):
            started = time.process_time()
            seen = day(HOUR_S / 4, stepwise)
            samples.append(seen.iterations / (time.process_time() - started))
        what = "iterations, one by one" if stepwise else "iterations, alike ones leapt over"
        found.append(Figure(what, Target(300_000, None, "/s", True), tuple(samples)))
    return found


def simulate_day(effort: Effort) -> list[Figure]:
    """A day of 50 requests a second on 64 replicas in a process of its own; memory beside that of a tenth of a day."""
    whole, tenth = _measured(DAY_S), _measured(DAY_S / 10)
    return [
        Figure(f"a day, {whole[2]:,.0f} requests", Target(180, None, "s"), (whole[0],)),
        Figure("memory of a day", Target(2048, None, "MB"), (whole[1],)),
        Figure("memory of a day over that of a tenth of it", Target(1.1, None, "x"), (whole[1] / tenth[1],)),
    ]


def day(seconds: float, stepwise: bool = False) -> Outcome:
    """The first `seconds` of a day of diurnal, bursty traffic: 1,000 tokens in and 250 out on average."""
    dice = np.random.default_rng(1)
    given = np.clip(dice.lognormal(np.log(1000) - 0.5, 1.0, 50_000), 1, 30_000)
    taken = np.clip(dice.lognormal(np.log(250) - 0.32, 0.8, 50_000), 1, 4_000)
    lengths = np.stack([given, taken, np.zeros(50_000)], axis=1).astype(np.int32)
    hours = 1 + 0.6 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    traffic = Traffic(50.0, tuple(hours / hours.sum()), 2.5, lengths, Bursts(2.0, 0.1, 120.0))
    engine = Engine(kv_tokens=500_000, max_sequences=128, max_batched_tokens=2048)
    fleet = Fleet(engine, COSTS, replicas=REPLICAS, router=Router("least_loaded"))
    return simulate(fleet, generated(traffic, seconds, np.random.default_rng(2)), stepwise=stepwise)


def _measured(seconds: float) -> tuple[float, float, float]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(seconds=seconds)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(done.stderr.strip().splitlines()[-1])
    took, memory, finished = (float(word) for word in done.stdout.split())
    return took, memory, finished
