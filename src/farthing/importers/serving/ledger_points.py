"""Measurements from our own ledger: how an engine that the gateway asks served real calls, window by window."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import StatisticsError, linear_regression

import msgspec

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup, completed, measured_on, refuse_contradiction
from farthing.errors import RequestError
from farthing.schema import Entry

_NS, _US = 1e9, 1e-6

_ALIKE = 0.2
"""Lengths of answers that vary less than this (standard deviation over mean) do not tell tokens from prompts."""


class Windowing(msgspec.Struct, frozen=True):
    """How calls are cut into windows: `seconds` each, with `fewest` calls that began in it at the least.

    A window is refused when the calls at once in its halves differ by more than the share `unsteady` of their mean.
    """

    seconds: float = 300.0
    fewest: int = 20
    unsteady: float = 0.5


class LedgerPoints(msgspec.Struct, frozen=True):
    """What a ledger says of an engine: a measurement per window that can be used, and why others cannot."""

    measurements: tuple[Measurement, ...]
    refused: tuple[tuple[str, int], ...]
    """Reasons with the number of windows (or of calls), the most frequent first."""


class _Call(msgspec.Struct, frozen=True):
    """One answered attempt: seconds since the first of all, tokens, and time to the first byte if streamed."""

    began_s: float
    took_s: float
    ttft_s: float | None
    inputs: int
    cached: int
    outputs: int

    @property
    def ended_s(self) -> float:
        return self.began_s + self.took_s


def ledger_points(
    entries: Iterable[Entry], upstream: str, setup: Setup, windowing: Windowing | None = None
) -> LedgerPoints:
    """The measurements that the entries of one upstream make up.

    Calls at once are the time that calls spent in the window over its length (Little's law, with edges cut exactly).
    Streamed calls give the time to the first token, and the time per output token after it; where none was streamed,
    a regression of durations on output tokens does, if lengths vary enough. All load of the engine must come through
    the gateway, or calls at once are too few. Raises RequestError when nothing can be used, with the reasons, or when
    the setup is not complete or the windowing senseless.
    """
    windowing = windowing or Windowing()
    if not (0 < windowing.seconds < math.inf and windowing.fewest >= 2 and 0 < windowing.unsteady < math.inf):
        raise RequestError(
            f"Windows of {windowing.seconds:g} s with {windowing.fewest} calls cannot be cut.",
            hint="Give seconds above 0 and at least 2 calls.",
        )
    place = f"the ledger's entries of '{upstream}'"
    reasons: Counter[str] = Counter()
    kept: list[Entry] = []
    for entry in entries:
        if entry.upstream == upstream and entry.attempt > 0 and not entry.corrects:
            why = _unfit(entry)
            if why:
                reasons[why] += 1
            else:
                kept.append(entry)
    full = completed(setup, Setup(model=_only_model(kept)), place)
    measurements = []
    for start, calls in _windows(_calls(kept), windowing.seconds):
        reason, found = _measured(calls, start, windowing, full, place)
        if found is None:
            reasons[reason] += 1
        else:
            measurements.append(found)
    if not measurements:
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(3)) or "there are none"
        raise RequestError(
            f"Nothing can be measured from {place}: {why}.",
            hint="Take a stretch of steady load, or longer windows.",
        )
    return LedgerPoints(tuple(measurements), tuple(reasons.most_common()))


def _unfit(entry: Entry) -> str:
    """Why an attempt says nothing about the engine; "" when it does."""
    if entry.simulated:
        return "answers were simulated"
    if entry.endpoint not in ("chat", "completions", "responses", "messages"):
        return f"calls of the endpoint {entry.endpoint} make no tokens"
    if entry.error or not 200 <= entry.status < 300:
        return "calls failed"
    if entry.usage is None or not entry.usage.output_tokens or entry.latency <= 0:
        return "calls have no usage"
    return ""


def _only_model(entries: Sequence[Entry]) -> str:
    models = {entry.served or entry.model for entry in entries}
    return models.pop() if len(models) == 1 else ""


def _calls(entries: Sequence[Entry]) -> list[_Call]:
    first = min((entry.at for entry in entries), default=0)
    calls = []
    for entry in entries:
        usage = entry.usage
        assert usage is not None
        took = max(entry.latency - entry.overhead, 1) * _US
        ttft = None
        if entry.stream and entry.ttft is not None:
            ttft = min(max(entry.ttft - entry.overhead, 1) * _US, took)
        began = (entry.at - first) / _NS
        calls.append(_Call(began, took, ttft, usage.input_tokens, usage.cache_read, usage.output_tokens))
    return sorted(calls, key=lambda call: call.began_s)


def _windows(calls: Sequence[_Call], seconds: float) -> Iterator[tuple[float, list[_Call]]]:
    """The whole windows between the first and the last call, each with every call that was under way in it."""
    if not calls:
        return
    ended = max(call.ended_s for call in calls)
    longest = max(call.took_s for call in calls)
    low = 0
    for number in range(int(ended // seconds)):
        start = number * seconds
        while calls[low].began_s < start - longest:
            low += 1
        inside = []
        for call in calls[low:]:
            if call.began_s >= start + seconds:
                break
            if call.ended_s > start:
                inside.append(call)
        if inside:
            yield start, inside


def _measured(
    calls: Sequence[_Call], start: float, windowing: Windowing, setup: Setup, place: str
) -> tuple[str, Measurement | None]:
    """The measurement of one window, or why there is none."""
    seconds = windowing.seconds
    began = [call for call in calls if start <= call.began_s]
    if len(began) < windowing.fewest:
        return f"windows have fewer than {windowing.fewest} calls", None
    middle = start + seconds / 2
    halves = [_at_once(calls, start, middle), _at_once(calls, middle, start + seconds)]
    at_once = sum(halves) / 2
    if abs(halves[0] - halves[1]) > windowing.unsteady * at_once:
        return "the load was not steady", None
    times = _times(began)
    if times is None:
        return "no call was streamed, and lengths of answers are too much alike", None
    ttft, tpot, how = times
    inputs, outputs = (sum(getattr(call, name) for call in began) / len(began) for name in ("inputs", "outputs"))
    made = sum(call.outputs * _share(call, start, start + seconds) for call in calls)
    assert setup.devices is not None
    found = msgspec.structs.replace(
        measured_on(setup, "open_loop"),
        concurrency=at_once,
        input_tokens=inputs or None,
        output_tokens=outputs,
        output_tokens_per_s_per_device=made / seconds / setup.devices,
        ttft_s=ttft,
        tpot_s=tpot,
        source=place,
        note=f"{len(began)} calls in {seconds:g} s from {start:g} s; {how}",
        cached_share=sum(call.cached for call in began) / (inputs * len(began)) if inputs else None,
    )
    refuse_contradiction(found, place)
    return "", found


def _at_once(calls: Sequence[_Call], start: float, end: float) -> float:
    """Calls under way, on average over an interval."""
    return sum(max(min(call.ended_s, end) - max(call.began_s, start), 0.0) for call in calls) / (end - start)


def _share(call: _Call, start: float, end: float) -> float:
    """The share of a call's output that came within an interval, as if it came evenly after the first token."""
    first = call.began_s + (call.ttft_s or 0.0)
    if call.ended_s <= first:
        return float(start <= call.ended_s < end)
    return max(min(call.ended_s, end) - max(first, start), 0.0) / (call.ended_s - first)


def _times(calls: Sequence[_Call]) -> tuple[float | None, float, str] | None:
    """Seconds to the first token (where known) and per output token after it, and how they were found."""
    streamed = [(call, call.ttft_s) for call in calls if call.ttft_s is not None and call.outputs > 1]
    if streamed:
        ttft = sum(first for _, first in streamed) / len(streamed)
        spent = sum(call.took_s - first for call, first in streamed)
        tpot = spent / sum(call.outputs - 1 for call, _ in streamed)
        return (ttft, tpot, f"{len(streamed)} streamed") if tpot > 0 else None
    lengths = [float(call.outputs) for call in calls]
    mean = sum(lengths) / len(lengths)
    if math.sqrt(sum((length - mean) ** 2 for length in lengths) / len(lengths)) < _ALIKE * mean:
        return None
    try:
        line = linear_regression(lengths, [call.took_s for call in calls])
    except StatisticsError:
        return None
    if line.slope <= 0:
        return None
    ttft = line.intercept + line.slope
    return (ttft if ttft > 0 else None), line.slope, "by regression on lengths of answers"
