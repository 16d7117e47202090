"""A small job on made-up texts, that runs in seconds."""

import csv
import random
from pathlib import Path

import msgspec

from farthing.compress.job import Augment, Data, Distil, Job, Machine, Prune, Quantize, Stage, Targets, Teacher
from farthing.compress.progress import Silence
from farthing.simulation.intents import LABELS, intents, outside

FEW = LABELS[:4]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


class Watching(Silence):
    """Notes what it is told, and kills the run in the step numbered `kill_at`."""

    def __init__(self, kill_at: int = 0) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.steps = 0
        self._kill_at = kill_at

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def step(self, done: int, total: int, **figures: float) -> None:
        self.steps += 1
        if self.steps == self._kill_at:
            raise Killed

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_rows(path: Path, rows, names=("text", "label")) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def write_data(folder: Path, count: int = 700) -> None:
    """Training and test texts of four intents, and texts of none."""
    dice = random.Random(4)
    rows = [row for row in intents(dice, (count + 150) * 8) if row[1] in FEW][: count + 150]
    write_rows(folder / "train.csv", rows[:-150])
    write_rows(folder / "test.csv", rows[-150:])
    (folder / "outside.txt").write_text("\n".join(outside(dice, 60)))


STAGES: tuple[Stage, ...] = (
    Distil(layers=1, embedding=16, epochs=2, rate=2e-3, batch=32),
    Prune(heads=1, ffn=48, epochs=2, rate=1e-3, batch=32),
    Quantize(recipes=("dynamic",), calibration=16),
)


def small_job(**changed: object) -> Job:
    job = Job(
        name="small",
        data=Data(
            train=("train.csv",),
            test=("test.csv",),
            outside=("outside.txt",),
            held_out=0.2,
            max_length=32,
            augment=Augment(copies=1),
        ),
        teacher=Teacher(layers=2, width=64, epochs=4, rate=2e-3),
        stages=STAGES,
        targets=Targets(lost=30.0, recall_lost=100.0),
        machine=Machine(seconds=0.05),
    )
    return msgspec.structs.replace(job, **changed)
