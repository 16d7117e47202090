"""Reading traces: recorded traffic of any origin, and the per-request times that an engine wrote down."""

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError
from farthing.schema import Recorded
from farthing.simulation.fleet.arrivals import CHUNK, Arrivals, arrivals

_NANOSECONDS = 1e9
_HINT = (
    "Each line has request_id, input_toks, output_toks, arrival_time, queued_ts, scheduled_ts, first_token_ts, "
    "last_token_ts."
)


class Measured(msgspec.Struct, frozen=True):
    """Requests that a real engine served, by column, in the order of arrival; seconds on one clock.

    `scheduled_s` is NaN where only callers looked.
    """

    arrival_s: NDArray[np.float64]
    scheduled_s: NDArray[np.float64]
    first_s: NDArray[np.float64]
    last_s: NDArray[np.float64]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]

    def arrivals(self) -> Arrivals:
        """The same requests, to be served again."""
        return arrivals(self.arrival_s, self.input_tokens, self.output_tokens)


class _Line(msgspec.Struct, gc=False):
    input_toks: int
    output_toks: int
    arrival_time: float
    first_token_ts: float
    last_token_ts: float
    queued_ts: float | None = None
    scheduled_ts: float | None = None


_read_line = msgspec.json.Decoder(_Line).decode


def recorded_arrivals(traffic: Iterable[Recorded], chunk: int = CHUNK) -> Iterator[Arrivals]:
    """Arrivals of recorded traffic, in chunks: all input tokens count, and prompts share the blocks they have recorded.

    Farthing's own traffic and every trace that `farthing import` reads come as such records. Raises RequestError, with
    the number of the record, for one without tokens and for block sizes that differ.
    """
    records, seen, block_tokens = iter(traffic), 0, None
    while batch := list(islice(records, chunk)):
        tokens = np.array([_tokens(seen + place, record) for place, record in enumerate(batch, 1)])
        sizes = {record.block_tokens for record in batch if record.blocks}
        sizes |= {block_tokens} if block_tokens else set()
        if len(sizes) > 1:
            raise RequestError(
                f"the traffic names prompts in blocks of {' and of '.join(map(str, sorted(sizes)))} tokens.",
                hint="Simulate traffic of one origin at a time.",
            )
        block_tokens = next(iter(sizes), 0)
        yield arrivals(
            np.array([record.at for record in batch]) / _NANOSECONDS,
            tokens[:, 0],
            tokens[:, 1],
            prefixes=[record.blocks for record in batch],
            prefix_tokens=block_tokens,
        )
        seen += len(batch)


def engine_requests(lines: Iterable[bytes]) -> Measured:
    """The requests of a vLLM trace, one JSON object per line, sorted by arrival.

    `arrival_time` is the wall clock of the caller and the rest is the engine's own; the request that was queued
    soonest after its arrival is taken to have been queued at once. Lines without `queued_ts` have one clock. Raises
    RequestError, with the number of the line, for what cannot be read or has no place in time.
    """
    requests = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            requests.append(_read_line(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"line {number} of the trace cannot be read: {error}.", hint=_HINT) from None
        _check_times(requests[-1], number)
    if not requests:
        raise RequestError("the trace holds no request.", hint=_HINT)
    queued = np.array([np.nan if one.queued_ts is None else one.queued_ts for one in requests])
    arrival = np.array([one.arrival_time for one in requests])
    if not np.isnan(queued).all():
        arrival = arrival + np.nanmin(queued - arrival)
    order = np.argsort(arrival, kind="stable")
    return Measured(
        arrival_s=arrival[order],
        scheduled_s=np.array([np.nan if one.scheduled_ts is None else one.scheduled_ts for one in requests])[order],
        first_s=np.array([one.first_token_ts for one in requests])[order],
        last_s=np.array([one.last_token_ts for one in requests])[order],
        input_tokens=np.array([one.input_toks for one in requests], np.int32)[order],
        output_tokens=np.array([one.output_toks for one in requests], np.int32)[order],
    )


def _check_times(request: _Line, number: int) -> None:
    stamps = [request.queued_ts, request.scheduled_ts, request.first_token_ts, request.last_token_ts]
    known = [stamp for stamp in stamps if stamp is not None]
    if not np.isfinite([*known, request.arrival_time]).all():
        raise RequestError(f"line {number} of the trace has a time that is not finite.", hint=_HINT)
    if known != sorted(known):
        raise RequestError(
            f"line {number} of the trace has its times out of order: {', '.join(map(str, known))}.",
            hint="A request is queued, scheduled, has its first token and its last, in this order.",
        )
    if request.input_toks < 1 or request.output_toks < 1:
        raise RequestError(
            f"line {number} of the trace has {request.input_toks} input and {request.output_toks} output tokens.",
            hint="Each request has at least one token each way.",
        )


def _tokens(number: int, record: Recorded) -> tuple[int, int]:
    """Input and output tokens of a record."""
    usage = record.usage
    if usage is None:
        raise RequestError(
            f"record {number} of the traffic has no tokens recorded.",
            hint="Leave such records out: they were not served.",
        )
    return usage.input_tokens, usage.output_tokens
