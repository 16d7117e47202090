"""Trying: sizes of a line timed, the affordable ones trained rung by rung, and the one that is taken."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from farthing.compress.gates import judge
from farthing.compress.job import Job, Search, Stage
from farthing.compress.line import Stand
from farthing.compress.record import Trial
from farthing.compress.searching.bench import Bench
from farthing.compress.searching.halving import Cost, Score, chosen, shortened, spread, survivors
from farthing.compress.searching.sizes import Origin, Size, around, per_token, shape_of, stages_of, weights
from farthing.compress.searching.timing import COSTS, Costs, Reader, missed, reader_of, recipe, timed, within
from farthing.compress.spreading import Alone, team
from farthing.compress.workspace import chained
from farthing.errors import ConfigError

TIMED: Final = 3
"""How many sizes are timed for each that is trained."""


class Plan(NamedTuple):
    """A size that can be afforded: the stages that lead to it, and what it takes."""

    size: Size
    stages: tuple[Stage, ...]
    cost: Cost


def searched(bench: Bench) -> tuple[Job, tuple[Trial, ...]]:
    """The job with its stages set to the best of the sizes that its `search` tries, and all that were trained.

    Sizes that miss the targets of size, time or cost are timed and not trained. Of those that lose no more than the job
    allows, the cheapest is the best, else the most accurate. Its stages are kept as they are in the line that follows.
    Raises ConfigError when no size meets the targets.
    """
    job = bench.setting.job
    assert job.search is not None
    with team(job.search.engine) as bench.workers:
        teacher = bench.teacher()
        bench.setting.progress.stage("search")
        plans = _planned(bench, teacher, job, job.search)
        trials = _halved(bench, plans, job.search)
    bench.workers = Alone()
    best = next(number for number, trial in enumerate(trials) if trial.chosen)
    bench.setting.progress.note(f"The search takes {trials[best].name}.")
    return replace(job, stages=plans[best].stages), trials


def _planned(bench: Bench, teacher: Stand, job: Job, search: Search) -> list[Plan]:
    """As many affordable sizes as are to be trained, as different in size and time as can be."""
    origin = bench.origin(job.stages)
    shape = bench.encoder.shape if bench.encoder is not None else None
    reader = reader_of(bench.setting, job.stages, bench.start.tokenizer, shape)
    sizes = around(job.stages, origin)
    shapes = [shape_of(size, origin, reader.pieces, reader.positions) for size in sizes]
    places = spread([(weights(shape), per_token(shape)) for shape in shapes], TIMED * search.trials)
    sizes = tuple(sizes[place] for place in places)
    costs = _costs(bench, teacher, sizes, origin, reader)
    fitting = within(costs, job.targets)
    progress = bench.setting.progress
    progress.note(f"{len(fitting)} of {len(sizes)} sizes that were timed meet the targets of size, time and cost.")
    if not fitting:
        raise _nothing_fits(sizes, costs, job)
    taken = spread([(costs.sizes[number].mb, costs.sizes[number].cpu_ms) for number in fitting], search.trials)
    return [
        Plan(sizes[number], stages_of(sizes[number], job.stages, origin), costs.sizes[number])
        for number in (fitting[place] for place in taken)
    ]


def _costs(bench: Bench, teacher: Stand, sizes: Sequence[Size], origin: Origin, reader: Reader) -> Costs:
    """What sizes take, as they were timed first: a search that goes on tries the same ones."""
    setting, workspace = bench.setting, bench.workspace
    priced = setting.job.machine.usd_per_h if setting.job.targets.usd_per_1k else 0.0
    key = chained(teacher.key, sizes, reader.digest, recipe(setting.job.stages), setting.job.machine.threads, priced)

    def make(folder: Path) -> None:
        costs = timed(setting, sizes, origin, reader, teacher.folder, workspace.scratch("search", key))
        (folder / COSTS).write_bytes(msgspec.json.encode(costs))

    return msgspec.json.decode((workspace.stage("search", key, make) / COSTS).read_bytes(), type=Costs)


def _nothing_fits(sizes: Sequence[Size], costs: Costs, job: Job) -> ConfigError:
    smallest = min(range(len(sizes)), key=lambda number: costs.sizes[number].mb * costs.sizes[number].cpu_ms)
    missing = "; ".join(missed(costs.sizes[smallest], costs.teacher, job.targets))
    return ConfigError(
        f"None of {len(sizes)} sizes meets the targets. The cheapest, {sizes[smallest].name}, has {missing}.",
        hint="Ask for less, or set the stages to smaller sizes: those around them are tried.",
    )


def _halved(bench: Bench, plans: Sequence[Plan], search: Search) -> tuple[Trial, ...]:
    """The trials of all plans in their order, after the last rung."""
    trials = [Trial(plan.size.name, plan.cost.mb, plan.cost.cpu_ms, 0.0) for plan in plans]
    left, scores = list(range(len(plans))), list[Score]()
    for rung in range(search.rungs):
        last = rung == search.rungs - 1
        if len(left) == 1 and not last:
            continue
        stands = bench.through_all([shortened(plans[number].stages, rung, search.rungs) for number in left])
        scores = [_score(bench, stand, plans[number].cost) for number, stand in zip(left, stands, strict=True)]
        for number, score in zip(left, scores, strict=True):
            trials[number] = replace(trials[number], value=score.value, rung=rung)
            _tell(bench, trials[number], score, search.rungs)
        if not last:
            left = [left[place] for place in survivors(scores)]
    best = left[chosen(scores)]
    trials[best] = replace(trials[best], chosen=True)
    return tuple(trials)


def _score(bench: Bench, stand: Stand, cost: Cost) -> Score:
    """How good a stand is on the held-out texts, and by how many points it breaks the floor."""
    teacher = bench.teacher()
    row = bench.row(stand, teacher)
    breaches = judge(bench.setting.job.targets, row, bench.row(teacher, teacher))
    assert row.dev is not None
    return Score(row.dev.value, sum(breach.found - breach.limit for breach in breaches if breach.floor), cost)


def _tell(bench: Bench, trial: Trial, score: Score, rungs: int) -> None:
    short = f", {score.short:.2f} points short of the floor" if score.short else ""
    bench.setting.progress.note(
        f"Rung {trial.rung + 1} of {rungs}: {trial.name}: {trial.value:.2f} %{short}; "
        f"{trial.mb:.2f} MB, {trial.cpu_ms:.3f} ms."
    )
