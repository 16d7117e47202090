"""The compiled loop: arrivals in order, each given to a replica that has been run up to that instant."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from farthing.economics.step import StepCosts
from farthing.simulation.fleet.arrivals import Arrivals
from farthing.simulation.fleet.blocks import clear_pool
from farthing.simulation.fleet.compiled import compiled, fingerprint
from farthing.simulation.fleet.queueing import popped
from farthing.simulation.fleet.routing import route
from farthing.simulation.fleet.scheduling import NEVER, advance
from farthing.simulation.fleet.state import DRAINING, ENTRY, REPLICA, REQUEST, SERVING, Rules, State

NOTHING, OPEN, DRAIN, EMPTY = range(4)
"""What is done to a replica: it begins to serve; it passes on who waits; all it has starts again elsewhere."""


class Columns(NamedTuple):
    """Arrivals as compiled code reads them."""

    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    priority: NDArray[np.int32]
    prefix_starts: NDArray[np.int64]
    prefix_ids: NDArray[np.int64]


def columns_of(arrivals: Arrivals) -> Columns:
    """The columns of arrivals."""
    return Columns(*(getattr(arrivals, name) for name in Columns._fields))


@compiled
def _serve(state: State, rules: Rules, costs: StepCosts, columns: Columns, first: int, until_s: float) -> int:
    """Route the arrivals from `first` on that come by `until_s`, and run all replicas up to then; the next arrival."""
    index = first
    while index < len(columns.arrival_s) and columns.arrival_s[index] <= until_s:
        now_s = columns.arrival_s[index]
        for r in range(len(state.replicas)):
            if state.replicas[r].due_s <= now_s:
                advance(state, rules, costs, r, now_s)
        route(state, rules, costs, _arrived(state, columns, index), now_s)
        index += 1
    for r in range(len(state.replicas)):
        if state.replicas[r].due_s <= until_s:
            advance(state, rules, costs, r, until_s)
    return index


@compiled
def _arrived(state: State, columns: Columns, index: int) -> int:
    """The record of a new request."""
    totals = state.totals[0]
    slot = totals.free
    request = state.requests[slot]
    totals.free = request.next
    request.number = totals.arrived
    totals.arrived += 1
    request.arrival_s = columns.arrival_s[index]
    request.input = columns.input_tokens[index]
    request.output = columns.output_tokens[index]
    request.priority = columns.priority[index]
    request.preempted = 0
    request.retried = 0
    request.node = -1
    last = -1
    for place in range(columns.prefix_starts[index], columns.prefix_starts[index + 1]):
        node = totals.nodes
        totals.nodes = state.nodes[node].next
        totals.names -= 1
        state.nodes[node].name = columns.prefix_ids[place]
        state.nodes[node].next = -1
        if last < 0:
            request.node = node
        else:
            state.nodes[last].next = node
        last = node
    _begin_again(state, slot)
    hour = state.hours[int(request.arrival_s / 3600.0)]
    hour.arrived += 1
    hour.input_tokens += request.input
    return slot


@compiled
def _begin_again(state: State, slot: int) -> None:
    """As if nothing had been done for it yet."""
    request = state.requests[slot]
    request.scheduled_s = -1.0
    request.first_s = -1.0
    request.generated = 0
    request.goal = request.input
    request.done = 0
    request.chunk = 0
    request.cached = 0
    request.shared = 0
    request.entry = -1
    request.spare = -1
    request.cursor = -1


@compiled
def _change(state: State, rules: Rules, costs: StepCosts, change: int, r: int, now_s: float) -> None:
    """Do one of `OPEN`, `DRAIN` and `EMPTY` to a replica."""
    moved = -1
    if change == OPEN:
        _open(state, rules, r, now_s)
        moved = state.totals[0].held
        state.totals[0].held = -1
    else:
        state.replicas[r].status = DRAINING
        moved = _unqueued(state, r)
        if change == EMPTY:
            moved = _emptied(state, r, moved)
            _open(state, rules, r, now_s)
            state.replicas[r].status = DRAINING
    while moved >= 0:
        after = state.requests[moved].next
        route(state, rules, costs, moved, now_s)
        moved = after


@compiled
def _open(state: State, rules: Rules, r: int, now_s: float) -> None:
    """A replica that has just started."""
    replica = state.replicas[r]
    replica.status = SERVING
    replica.clock_s = now_s
    replica.before_s = now_s
    replica.due_s = np.inf
    replica.cross = NEVER
    replica.left = 0
    replica.decoding = 0
    replica.steps_decode = 0
    replica.context = 0
    replica.window = 0
    replica.below = 0
    replica.chunked = -1
    replica.chunks = 0
    replica.partial = -1
    replica.waiting = -1
    replica.incoming = -1
    replica.leaving = -1
    replica.seats = 0
    replica.load = 0
    replica.queued = 0
    state.phases[r, :] = 0
    clear_pool(state, rules, r)


@compiled
def _unqueued(state: State, r: int) -> int:
    """The list of requests that a replica has not begun, which it has no more."""
    replica = state.replicas[r]
    first, last = -1, -1
    while replica.waiting >= 0 or replica.incoming >= 0:
        if replica.waiting >= 0:
            slot = replica.waiting
            replica.waiting = popped(state, slot)
        else:
            slot = replica.incoming
            replica.incoming = state.requests[slot].next
        _begin_again(state, slot)
        state.requests[slot].next = -1
        if last < 0:
            first = slot
        else:
            state.requests[last].next = slot
        last = slot
        replica.load -= 1
        replica.queued -= 1
    return first


@compiled
def _emptied(state: State, r: int, moved: int) -> int:
    """The list `moved` with all requests that a replica had begun, before it; they count as interrupted."""
    replica = state.replicas[r]
    while replica.leaving >= 0:
        slot = replica.leaving
        replica.leaving = state.requests[slot].next
        state.requests[slot].next = state.totals[0].free
        state.totals[0].free = slot
    if replica.partial >= 0 and state.requests[replica.partial].chunk == 0:
        moved = _interrupted(state, replica.partial, moved)
    while replica.chunked >= 0:
        slot = replica.chunked
        replica.chunked = state.requests[slot].next
        moved = _interrupted(state, slot, moved)
    for place in range(replica.decoding):
        moved = _interrupted(state, state.running[r, place], moved)
    return moved


@compiled
def _interrupted(state: State, slot: int, moved: int) -> int:
    totals = state.totals[0]
    request = state.requests[slot]
    if request.retried == 0:
        totals.interrupted += 1
    request.retried += 1
    totals.retries += 1
    _begin_again(state, slot)
    request.next = moved
    return slot


def _compile(version: int) -> Callable[..., int]:
    """The one function that is kept on disk: its key there includes `version`, as it does not know what it calls."""

    @njit(cache=True)
    def run(
        state: State,
        rules: Rules,
        costs: StepCosts,
        columns: Columns,
        first: int,
        until_s: float,
        change: int,
        replica: int,
    ) -> int:
        state.totals[0].version = version
        index = _serve(state, rules, costs, columns, first, until_s)
        if change != NOTHING:
            _change(state, rules, costs, change, replica, until_s)
        return index

    return run


def _sources(state: State, rules: Rules, costs: StepCosts, columns: Columns) -> None:
    """What is compiled, for its fingerprint."""
    _serve(state, rules, costs, columns, 0, 0.0)
    _change(state, rules, costs, NOTHING, 0, 0.0)


serve = _compile(fingerprint(_sources) ^ hash((REQUEST.itemsize, REPLICA.itemsize, ENTRY.itemsize)))
"""Run a fleet up to an instant, then do something to one replica; the number of the next arrival."""
