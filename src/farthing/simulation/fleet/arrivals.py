"""Arrivals: requests in the order of their coming, as columns, a chunk at a time."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from farthing.errors import RequestError
from farthing.simulation.fleet.fleet import Engine

CHUNK = 32_768
"""Requests that are handed to compiled code at a time: what a trace of any length costs in memory."""

_LARGEST = 2**31 - 1


class Arrivals(msgspec.Struct, frozen=True):
    """Requests by column: seconds from any start, in order; tokens in and out; lower `priority` goes first.

    The prompt of request `i` begins with blocks of `prefix_tokens` tokens each, named by
    `prefix_ids[prefix_starts[i]:prefix_starts[i + 1]]`; a name stands for a block and all before it, so prompts that
    begin alike share names. `prefix_tokens` is 0 when nothing is known of the prompts.
    """

    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    priority: NDArray[np.int32]
    prefix_starts: NDArray[np.int64]
    prefix_ids: NDArray[np.int64]
    prefix_tokens: int = 0

    def __len__(self) -> int:
        return len(self.arrival_s)

    def between(self, start: int, end: int) -> "Arrivals":
        """The requests from `start` up to, not including, `end`."""
        starts = self.prefix_starts[start : end + 1]
        return Arrivals(
            self.arrival_s[start:end],
            self.input_tokens[start:end],
            self.output_tokens[start:end],
            self.priority[start:end],
            starts - starts[0],
            self.prefix_ids[starts[0] : starts[-1]],
            self.prefix_tokens,
        )


def arrivals(
    arrival_s: Sequence[float] | NDArray[np.float64],
    input_tokens: Sequence[int] | NDArray[np.integer[Any]],
    output_tokens: Sequence[int] | NDArray[np.integer[Any]],
    priority: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    prefixes: Sequence[Sequence[int]] = (),
    prefix_tokens: int = 0,
) -> Arrivals:
    """Arrivals of lists or arrays of equal length. Raises RequestError for unequal ones and for what is no number.

    >>> arrivals([0.0, 0.5], [100, 200], [10, 20]).input_tokens.tolist()
    [100, 200]
    """
    count = len(arrival_s)
    columns = {"input_tokens": input_tokens, "output_tokens": output_tokens, "priority": priority, "prefixes": prefixes}
    for name, column in columns.items():
        if column is not None and len(column) != count and not (name == "prefixes" and len(column) == 0):
            raise RequestError(
                f"there are {count} arrivals but {len(column)} values of {name}.", hint="Give one per request."
            )
    lengths = [len(ids) for ids in prefixes] if len(prefixes) else [0] * count
    return Arrivals(
        _whole(arrival_s, "arrival_s", np.float64),
        _whole(input_tokens, "input_tokens", np.int32),
        _whole(output_tokens, "output_tokens", np.int32),
        np.zeros(count, np.int32) if priority is None else _whole(priority, "priority", np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.fromiter((name for ids in prefixes for name in ids), np.int64, int(sum(lengths))),
        prefix_tokens,
    )


def checked(chunks: Arrivals | Iterable[Arrivals], engine: Engine) -> Iterator[Arrivals]:
    """Chunks of at most `CHUNK` requests that the engine can serve, in order.

    Raises RequestError, with the number of the row from 1, for no request at all, times that are not in order or not
    finite, tokens below 1, and a request that is longer than the KV pool.
    """
    seen, last = 0, -np.inf
    for chunk in [chunks] if isinstance(chunks, Arrivals) else chunks:
        if len(chunk) == 0:
            continue
        _check(chunk, seen, last, engine)
        last = float(chunk.arrival_s[-1])
        for start in range(0, len(chunk), CHUNK):
            yield chunk.between(start, min(start + CHUNK, len(chunk)))
        seen += len(chunk)
    if not seen:
        raise RequestError("the trace holds no request.", hint="Give one with at least one request.")


def _check(chunk: Arrivals, before: int, last: float, engine: Engine) -> None:
    times = chunk.arrival_s
    _refuse(~np.isfinite(times), before, times, "arrives at", "Times must be finite seconds.")
    early = np.diff(times, prepend=last) < 0
    _refuse(early, before, times, "comes after a later one, at", "Sort the trace by time of arrival.")
    for name, column in (("input", chunk.input_tokens), ("output", chunk.output_tokens)):
        _refuse(column < 1, before, column, f"has {name} tokens of", "Each request has at least one token each way.")
    capacity = engine.kv_tokens // engine.block_tokens * engine.block_tokens
    longest = chunk.input_tokens.astype(np.int64) + chunk.output_tokens
    hint = f"The KV pool holds {capacity} tokens. Take more memory, or leave such requests out."
    _refuse(longest > capacity, before, longest, "is longer than the KV pool, with tokens of", hint)
    if chunk.prefix_tokens and chunk.prefix_tokens % engine.block_tokens:
        raise RequestError(
            f"prompts are named in blocks of {chunk.prefix_tokens} tokens, the KV pool has {engine.block_tokens}.",
            hint="The former must be a multiple of the latter.",
        )


def _refuse(bad: NDArray[np.bool_], before: int, column: NDArray[np.generic], what: str, hint: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise RequestError(f"request {before + row + 1} of the trace {what} {column[row]}.", hint=hint)


def _whole(column: Sequence[float] | NDArray[np.generic], name: str, kind: type[np.generic]) -> NDArray[Any]:
    """A column as an array of `kind`, refused where it would not keep its values."""
    values = np.asarray(column, dtype=np.float64)
    if np.issubdtype(kind, np.integer):
        bad = ~(np.isfinite(values) & (np.abs(values) <= _LARGEST) & (values == np.floor(values)))
        _refuse(bad, 0, values, f"has a {name} of", "It must be a whole number.")
    return values.astype(kind)
