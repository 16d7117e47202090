"""OpenAI usage exports: pages of /v1/organization/usage/completions and /embeddings, or the dashboard's CSV.

Each result sums up many requests: they are spread evenly over the bucket's time and tokens, so that sums stay exact.
"""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from farthing.importers.reading import Reading, Row, instant, rows, shaped, unreadable
from farthing.schema import Recorded, Usage

NAMES = frozenset(("num_model_requests",))
BUCKET_NAMES = frozenset(("results", "start_time"))
_NANOSECONDS = 10**9
_DAY = 86_400
_COUNTED = ("input_tokens", "num_model_requests")

Count = Annotated[int, msgspec.Meta(ge=0)]


class _Result(msgspec.Struct):
    start_time: int | str
    end_time: int | str | None = None
    object: str = ""
    num_model_requests: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    input_cached_tokens: Count = 0
    input_cache_write_30m_tokens: Count = 0
    input_cache_write_12h_tokens: Count = 0
    input_cache_write_tokens: Count = 0
    input_audio_tokens: Count = 0
    input_image_tokens: Count = 0
    output_audio_tokens: Count = 0
    output_image_tokens: Count = 0
    model: str = ""
    project_id: str = ""
    project_name: str = ""
    user_id: str = ""
    api_key_id: str = ""
    service_tier: str = ""
    batch: bool = False


class _Bucket(msgspec.Struct):
    start_time: int | str
    results: list[dict[str, object]]
    end_time: int | str | None = None


class _Page(msgspec.Struct):
    data: list[_Bucket]


def read(path: Path, reading: Reading) -> Iterator[Recorded]:
    """As many records as requests were counted; results that count no tokens (images, sessions) are skipped.

    Raises TrafficError when a result names no model and `reading` does not say which to assume.
    """
    waiting: list[Iterator[Recorded]] = []
    bucket = -1
    for place, result in _results(path):
        if not all(name in result for name in _COUNTED):
            reading.skipped[str(result.get("object", "result without tokens"))] += 1
            continue
        totals = shaped(path, place, result, _Result)
        start = _second(path, place, totals.start_time)
        if start != bucket:
            yield from _by_time(waiting)
            waiting, bucket = [], start
        waiting.append(_spread(path, place, totals, start, reading))
    yield from _by_time(waiting)


def _by_time(results: list[Iterator[Recorded]]) -> Iterator[Recorded]:
    return heapq.merge(*results, key=lambda recorded: recorded.at)


def _results(path: Path) -> Iterator[tuple[str, Row]]:
    """Every result with the times of its bucket."""
    for place, row in rows(path):
        if "data" in row:
            buckets = shaped(path, place, row, _Page).data
        elif "results" in row:
            buckets = [shaped(path, place, row, _Bucket)]
        else:
            yield place, row
            continue
        for bucket in buckets:
            times: Row = {"start_time": bucket.start_time, "end_time": bucket.end_time}
            for result in bucket.results:
                yield place, {name: value for name, value in result.items() if value is not None} | times


def _second(path: Path, place: str, time: int | str) -> int:
    if isinstance(time, str) and not time.isdigit():
        return instant(path, place, time) // _NANOSECONDS
    return int(time)


def _spread(path: Path, place: str, totals: _Result, start: int, reading: Reading) -> Iterator[Recorded]:
    usage = _usage(path, place, totals)
    model = totals.model or reading.model
    if not model:
        hint = "Export it grouped by model, or say which model to assume."
        raise unreadable(path, place, "the result names no model.", hint)
    count = totals.num_model_requests or bool(usage.tokens)
    length = (_second(path, place, totals.end_time) - start if totals.end_time else _DAY) * _NANOSECONDS
    whole = {name: amount for name in usage.__struct_fields__ if (amount := getattr(usage, name))}
    for number in range(count):
        share = {name: amount * (number + 1) // count - amount * number // count for name, amount in whole.items()}
        yield Recorded(
            at=start * _NANOSECONDS + length * number // count,
            model=model,
            endpoint="embeddings" if "embeddings" in totals.object else "chat",
            tenant=totals.project_name or totals.project_id,
            key=totals.api_key_id,
            tags=(("user", totals.user_id),) if totals.user_id else (),
            tier="batch" if totals.batch else totals.service_tier or None,
            usage=Usage(**share),
            note="openai_usage",
        )


def _usage(path: Path, place: str, totals: _Result) -> Usage:
    brief, lasting = totals.input_cache_write_30m_tokens, totals.input_cache_write_12h_tokens
    brief = max(brief, totals.input_cache_write_tokens - lasting)
    within = totals.input_cached_tokens + brief + lasting + totals.input_audio_tokens + totals.input_image_tokens
    hidden = totals.output_audio_tokens + totals.output_image_tokens
    if within > totals.input_tokens or hidden > totals.output_tokens:
        what = f"the parts of its tokens are more than the {totals.input_tokens} in and {totals.output_tokens} out."
        raise unreadable(path, place, what, "Export the usage again.")
    return Usage(
        input=totals.input_tokens - within,
        cache_read=totals.input_cached_tokens,
        cache_write_30m=brief,
        cache_write_12h=lasting,
        input_audio=totals.input_audio_tokens,
        input_image=totals.input_image_tokens,
        output=totals.output_tokens - hidden,
        output_audio=totals.output_audio_tokens,
        output_image=totals.output_image_tokens,
    )
