"""A measurement: figures out of rounds."""

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec
import numpy as np

TOGETHER: Final = 32
"""The size of batches."""


class Round(msgspec.Struct, frozen=True):
    """What a model took for some texts, one by one and then 32 at once; times in seconds.

    `cpu_s` and `wall_s` are those of each text alone, without its tokenising; `batch_cpu_s` and `batch_wall_s` those of
    all texts in batches, `batch_joules` the energy, None where no counter is readable; `tokens` is how many tokens they
    are, without padding.
    """

    cpu_s: tuple[float, ...]
    wall_s: tuple[float, ...]
    tokenise_s: float
    batch_cpu_s: float
    batch_wall_s: float
    batch_joules: float | None
    texts: int
    tokens: int


class Said(msgspec.Struct, frozen=True):
    """What the measuring process says: its peak memory in MB, a round when there was one, or why it gave up."""

    peak_rss_mb: float = 0.0
    round: Round | None = None
    error: str = ""
    hint: str = ""


class Ratio(msgspec.Struct, frozen=True):
    """How many times faster than the first of the models: the median of the rounds, the lowest and the highest."""

    median: float
    lowest: float
    highest: float


class Measurement(msgspec.Struct, frozen=True):
    """One artefact, as it will be served.

    `mb` is what `model.onnx` and `tokenizer.json` take on disk, in MB. `cpu_ms` and `wall_ms` are those of one text
    alone, without `tokenise_ms`, which is CPU time too. `texts_per_cpu_s`, `texts_per_s` and `tokens_per_s` are at
    batch 32 on the threads asked for, `texts_per_s_all_threads` on all cores, and `joules_per_1k` what the whole
    processor took then, None where no counter is readable. All are medians of the rounds. `faster` and
    `faster_together` compare CPU time at batch 1 and 32 with the first of the artefacts measured together.
    """

    parameters: int
    mb: float
    peak_rss_mb: float
    threads: int
    cpu_ms_p50: float
    cpu_ms_p95: float
    wall_ms_p50: float
    wall_ms_p95: float
    tokenise_ms: float
    texts_per_cpu_s: float
    texts_per_s: float
    texts_per_s_all_threads: float
    tokens_per_s: float
    joules_per_1k: float | None
    faster: Ratio
    faster_together: Ratio
    rounds: int

    def usd_per_1k(self, usd_per_h: float) -> float:
        """Dollars for 1,000 texts on a machine at that price an hour, all of its cores busy."""
        return 1000 * usd_per_h / (3600 * self.texts_per_s_all_threads)


def percentile_ms(rounds: Sequence[Round], share: float, *, wall: bool = False) -> float:
    """The median over the rounds of a percentile of texts alone, in milliseconds."""
    return 1000 * median(float(np.percentile(one.wall_s if wall else one.cpu_s, share)) for one in rounds)


def ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """How many times the first is of the second, round by round."""
    found = [one / max(other, 1e-9) for one, other in zip(first, second, strict=True)]
    return Ratio(median(found), min(found), max(found))
