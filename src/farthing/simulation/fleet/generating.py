"""Traffic that looks like what was recorded: its hours, its bursts, its lengths; as much of it as is asked for."""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError
from farthing.simulation.fleet.arrivals import CHUNK, Arrivals, arrivals

HOUR_S = 3600.0
_SAMPLED = 50_000
_SLICE_S = 10.0
"""Bursts are drawn in steps of so many seconds."""


class Bursts(msgspec.Struct, frozen=True):
    """Traffic that is, for `mean_s` at a time and a `share` of all time, `factor` times what it is otherwise.

    A Markov-modulated process: both lengths of time are exponential. The mean rate stays as it is.
    """

    factor: float
    share: float
    mean_s: float


class Traffic(msgspec.Struct, frozen=True):
    """What is known of recorded traffic.

    `hours` are the shares of a day's requests by hour, 24 that sum to 1; `gap_variation` is the squared coefficient of
    variation of the gaps between arrivals, the course of the day taken out: 1 for independent callers, more for bursts.
    `lengths` has a row of input tokens, output tokens and priority for each of a sample of requests.
    """

    requests_per_s: float
    hours: tuple[float, ...]
    gap_variation: float
    lengths: NDArray[np.int32]
    bursts: Bursts | None = None


def fitted(recorded: Iterable[Arrivals], dice: np.random.Generator) -> Traffic:
    """Traffic fitted to recorded arrivals, whose seconds are since midnight (any midnight).

    Hours of the day that were not recorded get the mean of those that were. Raises RequestError for fewer than 100
    requests, which say nothing of bursts.
    """
    counts = np.zeros(24)
    kept = np.zeros((0, 3), np.int32)
    gaps = _Gaps()
    total, first, last = 0, np.nan, np.nan
    for chunk in recorded:
        if not len(chunk):
            continue
        first = float(chunk.arrival_s[0]) if total == 0 else first
        last = float(chunk.arrival_s[-1])
        counts += np.bincount((chunk.arrival_s // HOUR_S % 24).astype(int), minlength=24)
        gaps.add(chunk.arrival_s)
        kept = _sampled(kept, total, chunk, dice)
        total += len(chunk)
    if total < 100 or last <= first:
        raise RequestError(
            f"{total} requests are too few to fit traffic to.", hint="Record at least 100, over more than an instant."
        )
    covered = _covered(first, last)
    rates = np.where(covered > 0, counts / np.maximum(covered, 1e-9), 0.0)
    rates = np.where(covered > 0, rates, rates[covered > 0].mean())
    return Traffic(total / (last - first), tuple((rates / rates.sum()).tolist()), gaps.variation(), kept)


def generated(
    traffic: Traffic, seconds: float, dice: np.random.Generator, requests_per_s: float = 0.0
) -> Iterator[Arrivals]:
    """Arrivals from midnight on for `seconds`, at a mean rate per second (that of the record unless given), in chunks.

    Gaps are drawn from a Gamma distribution of the fitted variation in a time that runs as fast as requests come, so
    the hours and the bursts keep their shape. Lengths are drawn from the sample, input and output together.
    Raises RequestError for a rate or time that is not above 0.
    """
    rate = requests_per_s or traffic.requests_per_s
    if not (np.isfinite([rate, seconds]).all() and rate > 0 and seconds > 0):
        raise RequestError(
            f"traffic at {rate} requests per second for {seconds} s cannot be made.", hint="Both must be above 0."
        )
    shape = 1.0 / max(traffic.gap_variation, 1e-3)
    pace = _Pace(traffic, rate, seconds, dice)
    done = 0.0
    while done < pace.whole:
        passed = done + np.cumsum(dice.gamma(shape, 1.0 / shape, CHUNK))
        done = float(passed[-1])
        times = pace.when(passed[passed < pace.whole])
        if len(times):
            rows = traffic.lengths[dice.integers(0, len(traffic.lengths), len(times))]
            yield arrivals(times, rows[:, 0], rows[:, 1], rows[:, 2])


class _Pace:
    """From requests expected so far to the time of day, `whole` of them in all."""

    def __init__(self, traffic: Traffic, rate: float, seconds: float, dice: np.random.Generator) -> None:
        step_s = _SLICE_S if traffic.bursts else HOUR_S
        edges = np.append(np.arange(0.0, seconds, step_s), seconds)
        weights = np.array(traffic.hours)[(edges[:-1] // HOUR_S % 24).astype(int)] * 24.0
        if traffic.bursts:
            weights = weights * _burst_weights(traffic.bursts, len(weights), dice)
        self._edges = edges
        self._expected = np.concatenate([[0.0], np.cumsum(weights * np.diff(edges) * rate)])
        self.whole = float(self._expected[-1])

    def when(self, expected: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(expected, self._expected, self._edges)


class _Gaps:
    """The variation of gaps over their local mean, which is that of the 100 gaps around them."""

    def __init__(self) -> None:
        self._rest = np.zeros(0)
        self._squares: list[float] = []

    def add(self, times: NDArray[np.float64]) -> None:
        times = np.concatenate([self._rest, times])
        blocks = (len(times) - 1) // 100
        gaps = np.diff(times)[: blocks * 100].reshape(blocks, 100)
        means = gaps.mean(axis=1)
        whole = means > 0
        # The sample variance of 100 gaps over their own mean, which on the whole is too small by about 1 in 100.
        self._squares += (gaps[whole].var(axis=1, ddof=1) / means[whole] ** 2 * 1.01).tolist()
        self._rest = times[blocks * 100 :]

    def variation(self) -> float:
        return float(np.mean(self._squares)) if self._squares else 1.0


def _sampled(kept: NDArray[np.int32], seen: int, chunk: Arrivals, dice: np.random.Generator) -> NDArray[np.int32]:
    """A sample of at most `_SAMPLED` rows of all so far, each with the same chance."""
    rows = np.stack([chunk.input_tokens, chunk.output_tokens, chunk.priority], axis=1).astype(np.int32)
    room = _SAMPLED - len(kept)
    kept, rest = np.concatenate([kept, rows[: max(room, 0)]]), rows[max(room, 0) :]
    if len(rest):
        places = (dice.random(len(rest)) * (seen + max(room, 0) + np.arange(1, len(rest) + 1))).astype(np.int64)
        chosen = places < _SAMPLED
        kept[places[chosen]] = rest[chosen]
    return kept


def _covered(first: float, last: float) -> NDArray[np.float64]:
    """Seconds of each hour of the day between two instants."""
    start = int(first // HOUR_S)
    edges = np.clip(np.arange(start, int(last // HOUR_S) + 2) * HOUR_S, first, last)
    covered = np.zeros(24)
    np.add.at(covered, (start + np.arange(len(edges) - 1)) % 24, np.diff(edges))
    return covered


def _burst_weights(bursts: Bursts, count: int, dice: np.random.Generator) -> NDArray[np.float64]:
    """The rate of each slice over the mean rate."""
    calm = 1.0 / (1.0 + bursts.share * (bursts.factor - 1.0))
    calm_s = bursts.mean_s * (1.0 - bursts.share) / bursts.share
    weights = np.full(count, calm)
    at = dice.exponential(calm_s)
    while at < count * _SLICE_S:
        length = dice.exponential(bursts.mean_s)
        weights[int(at // _SLICE_S) : int((at + length) // _SLICE_S) + 1] = calm * bursts.factor
        at += length + dice.exponential(calm_s)
    return weights
