"""What is counted when a request gets its first token and its last."""

from farthing.simulation.fleet.compiled import compiled
from farthing.simulation.fleet.sketch import bin_of
from farthing.simulation.fleet.state import E2E, QUEUE, TPOT, TTFT, Rules, State


@compiled
def first_token(state: State, r: int, slot: int) -> None:
    """A prompt is done, and gives one token."""
    clock_s = state.replicas[r].clock_s
    request = state.requests[slot]
    request.generated += 1
    if request.generated == 1:
        request.first_s = clock_s
    state.totals[0].output_tokens += 1
    state.hours[int(clock_s / 3600.0)].output_tokens += 1


@compiled
def finish(state: State, rules: Rules, r: int, slot: int) -> None:
    """A request has its last token: count its times, forget its names."""
    last_s = state.replicas[r].clock_s
    request = state.requests[slot]
    totals = state.totals[0]
    hour = int(last_s / 3600.0)
    totals.finished += 1
    totals.last_s = max(totals.last_s, last_s)
    state.hours[hour].finished += 1
    ttft_s = request.first_s - request.arrival_s + rules.offset_s
    _count(state, QUEUE, request.scheduled_s - request.arrival_s)
    _count(state, TTFT, ttft_s)
    _count(state, E2E, last_s - request.arrival_s + rules.offset_s)
    if request.output > 1:
        _count(state, TPOT, (last_s - request.first_s) / (request.output - 1))
    state.hourly[hour, bin_of(ttft_s)] += 1
    while request.node >= 0:
        node = request.node
        request.node = state.nodes[node].next
        state.nodes[node].next = totals.nodes
        totals.nodes = node
        totals.names += 1
    if rules.keep > 0 and totals.kept < len(state.finished):
        row = state.finished[totals.kept]
        totals.kept += 1
        row.number = request.number
        row.arrival_s = request.arrival_s
        row.scheduled_s = request.scheduled_s
        row.first_s = request.first_s
        row.last_s = last_s
        row.input_tokens = request.input
        row.output_tokens = request.output
        row.cached_tokens = request.cached
        row.priority = request.priority
        row.replica = request.replica
        row.preempted = request.preempted
        row.retried = request.retried


@compiled
def _count(state: State, kind: int, seconds: float) -> None:
    state.sketches[kind, bin_of(seconds)] += 1
    state.sums[kind] += seconds
