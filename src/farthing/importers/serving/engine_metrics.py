"""Prometheus metrics of vLLM, SGLang and TGI: two scrapes or more, and what the engine did between them.

Everything is taken from counters: sums and counts of histograms, tokens and requests. A counter that went down, or a
series that is gone, means that the engine was started anew, and what lies between those two scrapes is left out.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from farthing.economics.calibrating.measurement import Measurement
from farthing.economics.calibrating.setup import Setup, completed, measured_on, refuse_contradiction
from farthing.errors import TrafficError

FEWEST_REQUESTS = 10
"""Requests that must end between two scrapes before their means say anything."""

SCRAPED_AT = re.compile(r"^# scraped_at (\S+)\s*$", re.MULTILINE)
"""The line that says when what follows it was scraped, in Unix seconds."""

STEADY = 3.0
"""Requests at once, by counters and by what the gauges said at both ends, may differ by this factor."""

Series = tuple[str, tuple[tuple[str, str], ...]]


class Scrape(NamedTuple):
    """What `/metrics` answered at an instant (seconds, on any clock)."""

    at_s: float
    text: str


class _Words(msgspec.Struct, frozen=True):
    """How an engine calls what is counted. Of several names the first that is there holds."""

    engine: str
    ttft: tuple[str, ...]
    tpot: tuple[str, ...]
    e2e: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    running: tuple[str, ...]
    waiting: tuple[str, ...]
    cache_hits: tuple[str, ...] = ()
    cache_asked: tuple[str, ...] = ()
    pool_used: tuple[str, ...] = ()


_ENGINES = {
    "vllm:": _Words(
        engine="vllm",
        ttft=("vllm:time_to_first_token_seconds",),
        tpot=(
            "vllm:request_time_per_output_token_seconds",
            "vllm:inter_token_latency_seconds",
            "vllm:time_per_output_token_seconds",
        ),
        e2e=("vllm:e2e_request_latency_seconds",),
        inputs=("vllm:prompt_tokens_total",),
        outputs=("vllm:generation_tokens_total",),
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
        cache_hits=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        cache_asked=("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        pool_used=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    "sglang:": _Words(
        engine="sglang",
        ttft=("sglang:time_to_first_token_seconds",),
        tpot=("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        e2e=("sglang:e2e_request_latency_seconds",),
        inputs=("sglang:prompt_tokens_total",),
        outputs=("sglang:generation_tokens_total",),
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        cache_hits=("sglang:cached_tokens_total",),
        cache_asked=("sglang:prompt_tokens_total",),
        pool_used=("sglang:token_usage",),
    ),
    "tgi_": _Words(
        engine="tgi",
        ttft=(),
        tpot=("tgi_batch_inference_duration",),
        e2e=("tgi_request_duration",),
        inputs=("tgi_request_input_length_sum",),
        outputs=("tgi_request_generated_tokens_sum",),
        running=("tgi_batch_current_size",),
        waiting=("tgi_queue_size",),
    ),
}


class _Page(NamedTuple):
    """One scrape, read: the value of every series of the engine."""

    at_s: float
    values: Mapping[Series, float]


class _Window:
    """What happened between two scrapes, of one model."""

    def __init__(self, words: _Words, before: _Page, after: _Page, model: str) -> None:
        self.words = words
        self.seconds = after.at_s - before.at_s
        self._before, self._after, self._model = before.values, after.values, model

    def restarted(self) -> bool:
        """Whether a counter of this model went down or is gone."""
        counters = (*self.words.outputs, *self.words.inputs, *(f"{name}_count" for name in self.words.e2e))
        return any(
            series[0] in counters and self._is_of_model(series) and self._after.get(series, -1.0) < value
            for series, value in self._before.items()
        )

    def grown(self, names: Sequence[str], suffix: str = "", **only: str) -> float | None:
        """By how much a counter grew, over all label sets of the model; None where the engine has no such counter."""
        for name in names:
            series = [
                one for one in self._after if one[0] == name + suffix and self._is_of_model(one) and _has(one, only)
            ]
            if series:
                return sum(self._after[one] - self._before.get(one, 0.0) for one in series)
        return None

    def mean(self, names: Sequence[str], **only: str) -> float | None:
        """The mean of what a histogram counted in the window; None where it counted nothing."""
        for name in names:
            count = self.grown((name,), "_count", **only)
            total = self.grown((name,), "_sum", **only)
            if count and total:
                return total / count
        return None

    def level(self, names: Sequence[str], shares: bool = False) -> float | None:
        """The mean of a gauge at both ends, summed over label sets, or averaged where they are `shares`.

        None where there is no such gauge.
        """
        for name in names:
            ends = [
                [value for one, value in page.items() if one[0] == name and self._is_of_model(one)]
                for page in (self._before, self._after)
            ]
            if all(ends):
                return sum(sum(values) / (len(values) if shares else 1) for values in ends) / 2
        return None

    def _is_of_model(self, series: Series) -> bool:
        return dict(series[1]).get("model_name", self._model) == self._model


def read_scrapes(files: Sequence[Path]) -> list[Scrape]:
    """Scrapes from files, by time: a `# scraped_at UNIX_SECONDS` line before each, or the time the file was written.

    Raises TrafficError for a file that cannot be read, or that holds several scrapes of which not all say their time.
    """
    found: list[Scrape] = []
    for file in files:
        try:
            text, written = file.read_text("utf-8"), file.stat().st_mtime
        except OSError as error:
            raise TrafficError(f"{file} cannot be read: {error.strerror}.", hint="Name saved scrapes.") from None
        except UnicodeDecodeError as error:
            raise TrafficError(f"{file} is not text in UTF-8: {error}.", hint="Name saved scrapes.") from None
        before, *marked = SCRAPED_AT.split(text)
        if before.strip() and marked:
            raise TrafficError(
                f"{file} holds a scrape above its first '# scraped_at' line.", hint="Write that line before each."
            )
        if not marked:
            found.append(Scrape(written, text))
        for when, page in zip(marked[::2], marked[1::2], strict=True):
            try:
                found.append(Scrape(float(when), page))
            except ValueError:
                raise TrafficError(
                    f"{file}: '# scraped_at {when}' is no time in Unix seconds.", hint="Write it with date +%s.%N."
                ) from None
    return sorted(found, key=lambda scrape: scrape.at_s)


def measure(scrapes: Sequence[Scrape], setup: Setup, place: str = "the scrapes") -> list[Measurement]:
    """One measurement for each two scrapes in a row and each model, where enough requests ended in between.

    Times are means of requests, callers at once the sum of their durations per second (Little's law), so requests that
    began or ended outside should be few: leave a minute or more between scrapes. TGI counts no times to the first
    token; a prompt's wait and the mean prefill stand for it. Raises TrafficError when nothing can be measured, with the
    reasons, and RequestError when the setup is not complete.
    """
    pages, words = _pages(scrapes, place)
    found: list[Measurement] = []
    reasons: Counter[str] = Counter()
    named = {dict(series[1]).get("model_name", "") for page in pages for series in page.values} - {""}
    for before, after in pairwise(pages):
        for model in sorted(named) or [""]:
            window = _Window(words, before, after, model)
            reason, measurement = _measured(window, completed(setup, _said(words, model), place), place)
            if measurement is not None:
                found.append(measurement)
            else:
                reasons[reason] += 1
    if not found:
        why = "; ".join(reason for reason, _ in reasons.most_common(3))
        raise TrafficError(
            f"{place}: nothing can be measured: {why}.", hint="Scrape under load, a minute or more apart."
        )
    return found


def _said(words: _Words, model: str) -> Setup:
    return Setup(model=model, engine=words.engine)


def _measured(window: _Window, setup: Setup, place: str) -> tuple[str, Measurement | None]:
    """The measurement of a window, or why there is none."""
    words = window.words
    if window.restarted():
        return "the engine was started anew between two scrapes", None
    ended = window.grown(words.e2e, "_count") or 0.0
    made = window.grown(words.outputs) or 0.0
    asked = window.grown(words.inputs) or 0.0
    if ended < FEWEST_REQUESTS or made <= 0 or asked <= 0:
        return f"{ended:g} requests ended in {window.seconds:g} s, and {FEWEST_REQUESTS} are needed", None
    callers = (window.grown(words.e2e, "_sum") or 0.0) / window.seconds
    gauges = [level for level in (window.level(words.running), window.level(words.waiting)) if level is not None]
    if gauges and not callers / STEADY <= max(sum(gauges), 1.0) <= max(callers, 1.0) * STEADY:
        return (
            f"the load was not steady: {callers:.3g} requests at once on average, {sum(gauges):g} at the scrapes",
            None,
        )
    assert setup.devices is not None
    used = window.level(words.pool_used, shares=True)
    found = msgspec.structs.replace(
        measured_on(setup, "open_loop"),
        concurrency=callers,
        input_tokens=asked / ended,
        output_tokens=made / ended,
        output_tokens_per_s_per_device=made / window.seconds / setup.devices,
        ttft_s=_ttft_s(window),
        tpot_s=window.mean(words.tpot, **({"method": "decode"} if words.engine == "tgi" else {})),
        source=f"{words.engine} metrics: {place}",
        note=f"{ended:g} requests in {window.seconds:.4g} s" + (f"; KV pool {used:.0%} full" if used else ""),
        cached_share=_cached_share(window),
    )
    refuse_contradiction(found, place)
    return "", found


def _ttft_s(window: _Window) -> float | None:
    if window.words.engine == "tgi":
        wait = window.mean(("tgi_request_queue_duration",))
        prefill = window.mean(("tgi_batch_inference_duration",), method="prefill")
        return None if prefill is None else prefill + (wait or 0.0)
    return window.mean(window.words.ttft)


def _cached_share(window: _Window) -> float | None:
    hits, asked = window.grown(window.words.cache_hits), window.grown(window.words.cache_asked)
    return min(hits / asked, 1.0) if hits is not None and asked else None


def _pages(scrapes: Sequence[Scrape], place: str) -> tuple[list[_Page], _Words]:
    if len(scrapes) < 2:
        raise TrafficError(
            f"{place}: {len(scrapes)} scrape, and two are needed: what counts is what changed between them.",
            hint="Scrape /metrics again under load, a minute later.",
        )
    for before, after in pairwise(scrapes):
        if not after.at_s > before.at_s:
            raise TrafficError(
                f"{place}: a scrape at {after.at_s:.3f} s follows one at {before.at_s:.3f} s.",
                hint="Give scrapes in the order of their times, each with its own.",
            )
    prefixes = {prefix for scrape in scrapes for prefix in _ENGINES if _names(scrape.text, prefix)}
    if len(prefixes) != 1:
        problem = f"metrics of {len(prefixes)} engines" if prefixes else "no metrics of vLLM, SGLang or TGI"
        raise TrafficError(f"{place}: there are {problem}.", hint="Scrape /metrics of one engine.")
    prefix = prefixes.pop()
    pages = [
        _Page(scrape.at_s, dict(_series(scrape.text, prefix, f"{place}, scrape {number}")))
        for number, scrape in enumerate(scrapes, 1)
    ]
    return pages, _ENGINES[prefix]


def _names(text: str, prefix: str) -> bool:
    return text.startswith(prefix) or f"\n{prefix}" in text


def _series(text: str, prefix: str, place: str) -> Iterator[tuple[Series, float]]:
    """The series of an engine, without the buckets of histograms and what is no number.

    Of answers that were not streamed the first token is the last, so their times to it are left out.
    """
    try:
        for family in text_string_to_metric_families(text):
            if not family.name.startswith(prefix):
                continue
            for sample in family.samples:
                whole = sample.labels.get("is_streaming") == "false" and "first_token" in sample.name
                if "le" not in sample.labels and not whole and math.isfinite(sample.value):
                    yield (sample.name, tuple(sorted(sample.labels.items()))), float(sample.value)
    except ValueError as error:
        raise TrafficError(
            f"{place} is not in Prometheus' text format: {error}.", hint="Save what /metrics answers, unchanged."
        ) from None


def _has(series: Series, labels: Mapping[str, str]) -> bool:
    return all(dict(series[1]).get(name) == value for name, value in labels.items())
