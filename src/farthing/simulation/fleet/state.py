"""The state of a simulated fleet: flat arrays of records, which compiled code changes in place.

Links between records are their numbers; -1 is none. A request's record is taken from a list of free ones at its arrival
and given back when it has finished, so the arrays are as large as what is alive at once, however long the trace.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from farthing.simulation.fleet.fleet import ROUTES, Fleet
from farthing.simulation.fleet.sketch import BINS

Records: TypeAlias = NDArray[Any]
Record: TypeAlias = Any
"""One element of them, by its fields' names."""

ABSENT, STARTING, SERVING, DRAINING, DOWN = range(5)
"""The states of a replica. Only a serving one is given requests; a draining one finishes those it has begun."""

SHARED, DEAD = -2, -1
"""Owners of cached blocks: many prompts, or nobody; else it is the request that was preempted."""

REQUEST = np.dtype(
    [
        ("number", np.int64),  # place in the trace
        ("arrival_s", np.float64),
        ("visible_s", np.float64),  # when this replica was given it
        ("scheduled_s", np.float64),
        ("first_s", np.float64),
        ("began", np.int64),  # the replica's count of decode iterations when it began to decode
        ("ends", np.int64),  # and that at which it ends
        ("input", np.int32),
        ("output", np.int32),
        ("priority", np.int32),
        ("generated", np.int32),  # tokens it had when it began to decode
        ("goal", np.int32),  # tokens to prefill: the prompt, and what was generated before a preemption
        ("done", np.int32),  # of which so many are in the KV cache
        ("chunk", np.int32),  # and so many are being processed
        ("cached", np.int32),  # found in the cache when first scheduled
        ("shared", np.int32),  # cache entries it holds
        ("entry", np.int32),  # the deepest of them
        ("spare", np.int32),  # the entry that keeps its own blocks while it is preempted
        ("node", np.int32),  # names of its prefix blocks, first in the list
        ("cursor", np.int32),  # and the next to be entered
        ("replica", np.int32),
        ("preempted", np.int32),
        ("retried", np.int32),
        ("next", np.int32),  # in whatever list or heap it is
        ("child", np.int32),
    ],
    align=True,
)

REPLICA = np.dtype(
    [
        ("status", np.int32),
        ("spot", np.int32),
        ("clock_s", np.float64),  # when the iteration in flight began
        ("due_s", np.float64),  # when it ends; infinity when idle
        ("before_s", np.float64),  # when the last one began
        ("left", np.int64),  # iterations until the batch is composed anew
        ("count", np.int64),  # decode iterations so far
        ("cross", np.int64),  # the count at which a sequence next outgrows the window
        ("decoding", np.int64),  # sequences that have their first token
        ("steps_decode", np.int64),  # whether they take part in the iteration in flight
        ("context", np.int64),  # their tokens in the KV cache
        ("window", np.int64),  # of which so many lie within the window
        ("below", np.int64),  # sequences that have not outgrown it
        ("chunked", np.int32),  # list of requests whose prompts are processed in this iteration
        ("chunks", np.int32),
        ("partial", np.int32),  # the request whose prompt is processed in part
        ("waiting", np.int32),  # heap
        ("incoming", np.int32),  # list of those given but not seen yet
        ("newest", np.int32),
        ("leaving", np.int32),  # list of those finished whose slots are not free yet
        ("seats", np.int64),  # taken: decoding, prefilling or leaving
        ("load", np.int64),  # requests given and unfinished
        ("queued", np.int64),  # of which so many have no slot
        ("unused", np.int64),  # blocks never written
        ("available", np.int64),  # these and those that the cache can do without
        ("oldest", np.int32),  # entry of the cache that goes first
        ("youngest", np.int32),
        ("free", np.int32),  # entries
        ("busy_s", np.float64),
    ],
    align=True,
)

ENTRY = np.dtype(
    [
        ("name", np.int64),
        ("owner", np.int32),
        ("parent", np.int32),
        ("uses", np.int32),
        ("blocks", np.int32),
        ("older", np.int32),
        ("younger", np.int32),
        ("next", np.int32),  # in its bucket, or free
    ],
    align=True,
)

NODE = np.dtype([("name", np.int64), ("next", np.int32)], align=True)

FINISHED = np.dtype(
    [
        ("number", np.int64),
        ("arrival_s", np.float64),
        ("scheduled_s", np.float64),
        ("first_s", np.float64),
        ("last_s", np.float64),
        ("input_tokens", np.int32),
        ("output_tokens", np.int32),
        ("cached_tokens", np.int32),
        ("priority", np.int32),
        ("replica", np.int32),
        ("preempted", np.int32),
        ("retried", np.int32),
    ],
    align=True,
)

HOUR = np.dtype(
    [
        ("arrived", np.int64),
        ("finished", np.int64),
        ("input_tokens", np.int64),
        ("output_tokens", np.int64),
        ("busy_s", np.float64),
        ("replica_s", np.float64),
    ],
    align=True,
)

TOTALS = np.dtype(
    [
        ("free", np.int32),  # requests' records
        ("nodes", np.int32),  # free records of names
        ("names", np.int64),  # how many
        ("held", np.int32),  # list of requests that no replica can take
        ("newest", np.int32),
        ("turn", np.int64),  # of the router
        ("arrived", np.int64),
        ("finished", np.int64),
        ("kept", np.int64),
        ("iterations", np.int64),
        ("preemptions", np.int64),
        ("retries", np.int64),
        ("interrupted", np.int64),
        ("input_tokens", np.int64),
        ("cached_tokens", np.int64),
        ("prefilled_tokens", np.int64),
        ("output_tokens", np.int64),
        ("prompt_s", np.float64),
        ("last_s", np.float64),
        ("version", np.int64),  # of the code that was compiled
    ],
    align=True,
)

QUEUE, TTFT, TPOT, E2E = range(4)


class Rules(NamedTuple):
    """An engine and a router as compiled code reads them."""

    max_sequences: int
    max_batched_tokens: int
    blocks: int
    block_tokens: int
    prefix_tokens: int
    chunked_prefill: bool
    prefix_caching: bool
    ahead: bool
    whole_prompt: bool
    window: int
    offset_s: float
    route: int
    slack: float
    stepwise: bool
    keep: int


class State(NamedTuple):
    """Everything that changes. Replicas are rows of what has two dimensions."""

    requests: Records
    replicas: Records
    running: NDArray[np.int32]
    """Requests that decode: the heap of each replica, next to finish first."""
    phases: NDArray[np.int32]
    """How many decoding sequences begin a new block at a count of decode iterations, modulo the size of a block."""
    entries: Records
    buckets: NDArray[np.int32]
    nodes: Records
    totals: Records
    sketches: NDArray[np.int64]
    """Of queue time, TTFT, TPOT and E2E."""
    sums: NDArray[np.float64]
    hours: Records
    hourly: NDArray[np.int32]
    """Sketch of TTFT by hour."""
    batch_s: NDArray[np.float64]
    """Busy seconds by the number of sequences in the batch."""
    finished: Records


def rules_of(fleet: Fleet, prefix_tokens: int, keep: int, stepwise: bool) -> Rules:
    """The rules of a fleet; `stepwise` composes every iteration anew, for comparison."""
    engine = fleet.engine
    return Rules(
        max_sequences=engine.max_sequences,
        max_batched_tokens=engine.max_batched_tokens,
        blocks=engine.kv_tokens // engine.block_tokens,
        block_tokens=engine.block_tokens,
        prefix_tokens=prefix_tokens,
        chunked_prefill=engine.chunked_prefill,
        prefix_caching=engine.prefix_caching,
        ahead=engine.ahead,
        whole_prompt=engine.whole_prompt,
        window=engine.window,
        offset_s=engine.ttft_offset_s,
        route=ROUTES.index(fleet.router.route),
        slack=fleet.router.slack,
        stepwise=stepwise,
        keep=keep,
    )


def empty_state(fleet: Fleet, rules: Rules, slots: int) -> State:
    """A fleet at rest, with room for `slots` replicas that are absent yet."""
    # A cached prefix block holds at least one block of the pool; the blocks that nobody shares are merged between.
    per_entry = max(rules.prefix_tokens // rules.block_tokens, 1)
    entries = 2 * (rules.blocks // per_entry + rules.max_sequences) + 16 if rules.prefix_caching else 1
    buckets = 1 << (entries - 1).bit_length()
    replicas = np.zeros(slots, REPLICA)
    replicas["due_s"] = np.inf
    totals = np.zeros(1, TOTALS)
    totals["free"] = totals["nodes"] = totals["held"] = totals["newest"] = -1
    return State(
        requests=np.zeros(0, REQUEST),
        replicas=replicas,
        running=np.zeros((slots, rules.max_sequences), np.int32),
        phases=np.zeros((slots, rules.block_tokens), np.int32),
        entries=np.zeros((slots, entries), ENTRY),
        buckets=np.full((slots, buckets), -1, np.int32),
        nodes=np.zeros(0, NODE),
        totals=totals,
        sketches=np.zeros((4, BINS), np.int64),
        sums=np.zeros(4),
        hours=np.zeros(0, HOUR),
        hourly=np.zeros((0, BINS), np.int32),
        batch_s=np.zeros(fleet.engine.max_sequences + 1),
        finished=np.zeros(0, FINISHED),
    )


def with_room(state: State, requests: int, names: int, hours: int) -> State:
    """A state that can take so many more requests and names of prefix blocks, and counts so many hours."""
    alive = int(state.totals["arrived"][0] - state.totals["finished"][0])
    if len(state.requests) < alive + requests:
        grown = _linked(state.requests, max(alive + requests, 2 * len(state.requests)), "next", state.totals["free"])
        state.totals["free"] = len(state.requests)
        state = state._replace(requests=grown, finished=np.zeros(len(grown), FINISHED))
    if state.totals["names"][0] < names:
        grown = _linked(state.nodes, 2 * len(state.nodes) + names, "next", state.totals["nodes"])
        state.totals["nodes"] = len(state.nodes)
        state.totals["names"] += len(grown) - len(state.nodes)
        state = state._replace(nodes=grown)
    if len(state.hours) < hours:
        more = max(hours, 2 * len(state.hours)) - len(state.hours)
        state = state._replace(
            hours=np.concatenate([state.hours, np.zeros(more, HOUR)]),
            hourly=np.concatenate([state.hourly, np.zeros((more, BINS), np.int32)]),
        )
    return state


def _linked(records: Records, size: int, link: str, head: Records) -> Records:
    """Records grown to `size`, the new ones linked into a list that goes on with the old head."""
    more = np.zeros(size - len(records), records.dtype)
    more[link] = np.arange(len(records) + 1, size + 1)
    more[link][-1] = head[0]
    return np.concatenate([records, more])
