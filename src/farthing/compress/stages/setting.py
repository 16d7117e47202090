"""What every stage works on: the job, its data as texts, and where to say how it goes."""

from typing import NamedTuple

import numpy as np

from farthing.compress.examples import Examples
from farthing.compress.job import Job
from farthing.compress.networks.encoder import Output
from farthing.compress.progress import Progress
from farthing.schema import Task


class Setting(NamedTuple):
    """A job with its data read.

    `pool` is all that a student learns from: the training texts first, then those made from them, then the unlabeled.
    """

    job: Job
    labels: tuple[str, ...]
    train: Examples
    dev: Examples
    pool: Examples
    progress: Progress

    @property
    def task(self) -> Task:
        return self.job.task

    @property
    def outputs(self) -> int:
        """The columns of the output: a label each, one for a regression, begin and inside of each label for tags."""
        match self.task:
            case "tagging":
                return 2 * len(self.labels) + 1
            case "regression":
                return 1
            case _:
                return max(len(self.labels), 1)

    @property
    def output(self) -> Output:
        match self.task:
            case "tagging":
                return "tags"
            case "embedding":
                return "embedding"
            case _:
                return "logits"

    def dice(self, *purpose: int) -> np.random.Generator:
        """Random numbers for a purpose, the same in every run of the job."""
        return np.random.default_rng((self.job.seed, *purpose))
