"""One replica: who is in its next iteration, and what changes when it ends.

With chunked prefill, every iteration serves the decoding sequences first, then goes on with the prompt that was cut,
then admits who waits, until the budget of tokens, the slots or the blocks are used up. Without it, prompts that wait go
first, whole, in iterations of their own. Sequences that need a block when none is left push out the one that came last.
"""

from collections.abc import Callable
from typing import cast

import numpy as np

from farthing.economics.step import StepCosts, step_seconds
from farthing.simulation.fleet.blocks import (
    blocks_asleep,
    cached_entries,
    give_back,
    hold,
    let_go,
    sharable,
    share,
    spare_blocks,
    stored,
    take,
    wake,
)
from farthing.simulation.fleet.compiled import compiled
from farthing.simulation.fleet.finishing import finish, first_token
from farthing.simulation.fleet.queueing import popped, precedes, pushed, run, stop
from farthing.simulation.fleet.state import Record, Rules, State

_seconds: Callable[..., float] = compiled(cast(Callable[..., float], step_seconds))  # of floats, it gives one

NEVER = 1 << 62
"""A count of iterations that is not reached."""


@compiled
def advance(state: State, rules: Rules, costs: StepCosts, r: int, until_s: float) -> None:
    """Let a replica run every iteration that ends by `until_s`."""
    replica = state.replicas[r]
    while replica.due_s <= until_s:
        _land(state, r)
        replica.left -= 1
        # While nobody comes or goes, the next iteration is the last one with each context a token longer.
        if replica.left > 0:
            blocks = state.phases[r, replica.count % rules.block_tokens]
            if blocks <= replica.available:
                take(state, r, blocks)
                replica.due_s = replica.clock_s + _decode_seconds(costs, replica, replica.decoding)
                continue
        _part(state, rules, r)
        start(state, rules, costs, r)


@compiled
def start(state: State, rules: Rules, costs: StepCosts, r: int) -> None:
    """Begin the next iteration of a replica, if there is anything to do."""
    replica = state.replicas[r]
    if not rules.ahead:
        _free_slots(state, rules, r)
    _take_in(state, r, replica.before_s if rules.ahead else replica.clock_s)
    if _compose(state, rules, r):
        # Composed while the iteration before was running, it could not have the slots of those that ended with it.
        if _free_slots(state, rules, r) and replica.queued > 0:
            replica.left = 1
    else:
        _free_slots(state, rules, r)
        _take_in(state, r, replica.clock_s)
        if not _compose(state, rules, r):
            replica.due_s = np.inf
            return
    replica.due_s = replica.clock_s + _iteration_seconds(state, costs, r)


@compiled
def give(state: State, rules: Rules, costs: StepCosts, r: int, slot: int, now_s: float) -> None:
    """Give a request to a replica, which sees it when it composes its next iteration."""
    replica = state.replicas[r]
    request = state.requests[slot]
    request.replica = r
    request.visible_s = now_s
    request.next = -1
    if replica.incoming < 0:
        replica.incoming = slot
    else:
        state.requests[replica.newest].next = slot
    replica.newest = slot
    replica.load += 1
    replica.queued += 1
    if replica.due_s == np.inf:
        replica.clock_s = now_s
        replica.before_s = now_s
        start(state, rules, costs, r)
    elif replica.seats < rules.max_sequences:
        replica.left = min(replica.left, 2 if rules.ahead else 1)


@compiled
def _land(state: State, r: int) -> None:
    """The iteration in flight has ended: count it."""
    replica = state.replicas[r]
    took = replica.due_s - replica.clock_s
    replica.before_s = replica.clock_s
    replica.clock_s = replica.due_s
    replica.busy_s += took
    totals = state.totals[0]
    totals.iterations += 1
    hour = state.hours[int(replica.clock_s / 3600.0)]
    hour.busy_s += took
    batch = replica.chunks
    if replica.steps_decode:
        batch += replica.decoding
        replica.count += 1
        replica.context += replica.decoding
        replica.window += replica.below
        totals.output_tokens += replica.decoding
        hour.output_tokens += replica.decoding
    state.batch_s[batch] += took


@compiled
def _part(state: State, rules: Rules, r: int) -> None:
    """After an iteration: those with their last token end, those with their prompt done begin to decode."""
    replica = state.replicas[r]
    while replica.decoding > 0 and state.requests[state.running[r, 0]].ends == replica.count:
        slot = stop(state, r, 0)
        _leave_batch(state, rules, r, slot)
        _end(state, rules, r, slot)
    slot = replica.chunked
    replica.chunked = -1
    if slot >= 0:
        replica.partial = -1
    while slot >= 0:
        request = state.requests[slot]
        after = request.next
        request.done += request.chunk
        request.chunk = 0
        if request.done < request.goal:
            replica.partial = slot
        else:
            first_token(state, r, slot)
            if request.generated == request.output:
                request.began = replica.count
                _end(state, rules, r, slot)
            else:
                _join_batch(state, rules, r, slot)
        slot = after
    if rules.window > 0 and replica.count >= replica.cross:
        _watch_window(state, rules, r)


@compiled
def _join_batch(state: State, rules: Rules, r: int, slot: int) -> None:
    replica = state.replicas[r]
    request = state.requests[slot]
    request.began = replica.count
    request.ends = replica.count + request.output - request.generated
    run(state, r, slot)
    state.phases[r, (request.began - request.goal) % rules.block_tokens] += 1
    replica.context += request.goal
    replica.window += min(request.goal, rules.window)
    if request.goal < rules.window:
        replica.below += 1
        replica.cross = min(replica.cross, replica.count + rules.window - request.goal)


@compiled
def _leave_batch(state: State, rules: Rules, r: int, slot: int) -> None:
    replica = state.replicas[r]
    request = state.requests[slot]
    tokens = stored(state, r, slot)
    state.phases[r, (request.began - request.goal) % rules.block_tokens] -= 1
    replica.context -= tokens
    replica.window -= min(tokens, rules.window)
    # One that has just filled the window is counted out by the look at all of them that is due at this count.
    if tokens < rules.window:
        replica.below -= 1


@compiled
def _watch_window(state: State, rules: Rules, r: int) -> None:
    """Count the sequences that have not outgrown the window, and when the next one will."""
    replica = state.replicas[r]
    replica.below = 0
    replica.cross = NEVER
    for place in range(replica.decoding):
        room = rules.window - stored(state, r, state.running[r, place])
        if room > 0:
            replica.below += 1
            replica.cross = min(replica.cross, replica.count + room)


@compiled
def _end(state: State, rules: Rules, r: int, slot: int) -> None:
    """A request has its last token; it keeps its slot until the engine has looked at it."""
    replica = state.replicas[r]
    request = state.requests[slot]
    tokens = stored(state, r, slot)
    finish(state, rules, r, slot)
    request.done = tokens
    request.goal = tokens + 1
    request.next = replica.leaving
    replica.leaving = slot
    replica.load -= 1


@compiled
def _free_slots(state: State, rules: Rules, r: int) -> bool:
    """Take slots and blocks back from those that have ended; whether there were any."""
    replica = state.replicas[r]
    slot = replica.leaving
    any_left = slot >= 0
    replica.leaving = -1
    while slot >= 0:
        after = state.requests[slot].next
        give_back(state, rules, r, slot, False)
        replica.seats -= 1
        state.requests[slot].next = state.totals[0].free
        state.totals[0].free = slot
        slot = after
    return any_left


@compiled
def _take_in(state: State, r: int, seen_s: float) -> None:
    """Queue the requests that were there when the engine last looked."""
    replica = state.replicas[r]
    while replica.incoming >= 0 and state.requests[replica.incoming].visible_s <= seen_s:
        slot = replica.incoming
        replica.incoming = state.requests[slot].next
        replica.waiting = pushed(state, replica.waiting, slot)


@compiled
def _compose(state: State, rules: Rules, r: int) -> bool:
    """Choose who is in the next iteration and take their blocks; whether there is anyone."""
    replica = state.replicas[r]
    replica.chunked = -1
    replica.chunks = 0
    if not rules.chunked_prefill:
        _admit(state, rules, r, rules.max_batched_tokens)
    replica.steps_decode = replica.chunks == 0 and replica.decoding > 0
    preempted = False
    if rules.chunked_prefill or replica.steps_decode:
        preempted = _make_room(state, rules, r)
        replica.steps_decode = replica.decoding > 0
        budget = rules.max_batched_tokens - replica.decoding
        if replica.partial >= 0:
            budget -= _go_on(state, rules, r, budget)
        if rules.chunked_prefill and not preempted:
            _admit(state, rules, r, budget)
    if replica.chunks > 0 or preempted or rules.stepwise or replica.incoming >= 0:
        replica.left = 1
    elif replica.decoding > 0:
        replica.left = state.requests[state.running[r, 0]].ends - replica.count
        if rules.window > 0:
            replica.left = min(replica.left, replica.cross - replica.count)
    return replica.chunks > 0 or replica.steps_decode


@compiled
def _make_room(state: State, rules: Rules, r: int) -> bool:
    """Take a block for each decoding sequence that needs one, pushing out others if need be; whether any was."""
    replica = state.replicas[r]
    pushed_out = False
    while True:
        blocks = state.phases[r, replica.count % rules.block_tokens]
        cut = 0
        if replica.partial >= 0:
            chunk = _next_chunk(state, rules, r, rules.max_batched_tokens - replica.decoding)
            cut = _new_blocks(rules, state.requests[replica.partial].done, chunk)
        if blocks + cut <= replica.available:
            take(state, r, blocks)
            return pushed_out
        _preempt(state, rules, r)
        pushed_out = True


@compiled
def _next_chunk(state: State, rules: Rules, r: int, budget: int) -> int:
    request = state.requests[state.replicas[r].partial]
    return min(request.goal - request.done, budget)


@compiled
def _new_blocks(rules: Rules, done: int, chunk: int) -> int:
    """Blocks to take for `chunk` tokens after `done`."""
    size = rules.block_tokens
    return (done + chunk + size - 1) // size - (done + size - 1) // size


@compiled
def _go_on(state: State, rules: Rules, r: int, budget: int) -> int:
    """Put the next part of the prompt that was cut into the iteration; its tokens."""
    replica = state.replicas[r]
    slot = replica.partial
    chunk = _next_chunk(state, rules, r, budget)
    if chunk > 0:
        take(state, r, _new_blocks(rules, state.requests[slot].done, chunk))
        _chunk(state, rules, r, slot, chunk)
    return chunk


@compiled
def _chunk(state: State, rules: Rules, r: int, slot: int, chunk: int) -> None:
    replica = state.replicas[r]
    request = state.requests[slot]
    request.chunk = chunk
    share(state, rules, r, slot)
    request.next = replica.chunked
    replica.chunked = slot
    replica.chunks += 1
    state.totals[0].prefilled_tokens += chunk


@compiled
def _admit(state: State, rules: Rules, r: int, budget: int) -> None:
    """Admit those who wait, in order, as long as the first of them fits."""
    replica = state.replicas[r]
    while budget > 0 and replica.waiting >= 0 and replica.seats < rules.max_sequences:
        slot = replica.waiting
        request = state.requests[slot]
        shared = cached_entries(state, rules, r, request.node, sharable(rules, request))
        spare = spare_blocks(state, r, slot, shared)
        done = shared * rules.prefix_tokens + spare * rules.block_tokens
        chunk = request.goal - done
        if chunk > budget:
            # A prompt longer than the whole budget runs alone.
            if rules.chunked_prefill:
                chunk = budget
            elif replica.chunks > 0:
                return
        blocks = _new_blocks(rules, done, request.goal - done if rules.whole_prompt else chunk)
        if blocks + spare + blocks_asleep(state, rules, r, slot, shared) > replica.available:
            return
        replica.waiting = popped(state, slot)
        hold(state, r, slot, shared)
        if spare > 0:
            wake(state, r, slot)
        else:
            let_go(state, r, slot)
        take(state, r, _new_blocks(rules, done, chunk))
        request.done = done
        if request.scheduled_s < 0.0:
            begun_s = replica.before_s if rules.ahead else replica.clock_s
            request.scheduled_s = max(begun_s, request.arrival_s)
            request.cached = done
            state.totals[0].cached_tokens += done
            state.totals[0].input_tokens += request.input
        _chunk(state, rules, r, slot, chunk)
        replica.seats += 1
        replica.queued -= 1
        budget -= chunk


@compiled
def _preempt(state: State, rules: Rules, r: int) -> None:
    """Push out the sequence that would be admitted last; it waits, and will be computed again."""
    replica = state.replicas[r]
    worst, where = replica.partial, -1
    for place in range(replica.decoding):
        slot = state.running[r, place]
        if worst < 0 or precedes(state, worst, slot):
            worst, where = slot, place
    request = state.requests[worst]
    if where < 0:
        replica.partial = -1
        give_back(state, rules, r, worst, True)
    else:
        stop(state, r, where)
        _leave_batch(state, rules, r, worst)
        give_back(state, rules, r, worst, True)
        request.generated += replica.count - request.began
        request.goal = request.input + request.generated
    request.done = 0
    request.preempted += 1
    state.totals[0].preemptions += 1
    replica.seats -= 1
    replica.queued += 1
    replica.waiting = pushed(state, replica.waiting, worst)


@compiled
def _decode_seconds(costs: StepCosts, replica: Record, decoding: int) -> float:
    return _seconds(
        costs,
        float(decoding),
        float(replica.context + decoding),
        float(replica.window + replica.below),
        0.0,
        0.0,
        0.0,
    )


@compiled
def _iteration_seconds(state: State, costs: StepCosts, r: int) -> float:
    """Seconds of the iteration just composed; what prompts add to it is counted."""
    replica = state.replicas[r]
    decoding = replica.decoding if replica.steps_decode else 0
    if replica.chunks == 0:
        return _decode_seconds(costs, replica, decoding)
    tokens, pairs, finishing = 0.0, 0.0, 0.0
    slot = replica.chunked
    while slot >= 0:
        request = state.requests[slot]
        tokens += request.chunk
        pairs += request.chunk * (request.done + 0.5 * (request.chunk + 1.0))
        if request.done + request.chunk == request.goal:
            finishing += 1.0
        slot = request.next
    context = replica.context + decoding if decoding > 0 else 0
    window = replica.window + replica.below if decoding > 0 else 0
    seconds = _seconds(costs, float(decoding), float(context), float(window), tokens, pairs, finishing)
    alone = _decode_seconds(costs, replica, decoding) if decoding > 0 else 0.0
    state.totals[0].prompt_s += seconds - alone
    return seconds
