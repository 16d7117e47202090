"""Which replica a request goes to."""

from farthing.economics.step import StepCosts
from farthing.simulation.fleet.blocks import cached_entries, sharable
from farthing.simulation.fleet.compiled import compiled
from farthing.simulation.fleet.fleet import ROUTES
from farthing.simulation.fleet.scheduling import give
from farthing.simulation.fleet.state import SERVING, Rules, State

ROUND_ROBIN = ROUTES.index("round_robin")
PREFIX_AFFINE = ROUTES.index("prefix_affine")


@compiled
def route(state: State, rules: Rules, costs: StepCosts, slot: int, now_s: float) -> None:
    """Give a request to a replica, or hold it until one serves."""
    if rules.route == ROUND_ROBIN:
        chosen = _next_in_turn(state)
    elif rules.route == PREFIX_AFFINE:
        chosen = _with_most_of_prompt(state, rules, slot)
    else:
        chosen = _least_loaded(state)
    totals = state.totals[0]
    if chosen >= 0:
        totals.turn = chosen + 1
        give(state, rules, costs, chosen, slot, now_s)
        return
    state.requests[slot].next = -1
    if totals.held < 0:
        totals.held = slot
    else:
        state.requests[totals.newest].next = slot
    totals.newest = slot


@compiled
def _next_in_turn(state: State) -> int:
    count = len(state.replicas)
    for step in range(count):
        r = (state.totals[0].turn + step) % count
        if state.replicas[r].status == SERVING:
            return r
    return -1


@compiled
def _least_loaded(state: State) -> int:
    """The one with the fewest requests; of equals, the next in turn."""
    count = len(state.replicas)
    chosen = -1
    r = state.totals[0].turn
    for _ in range(count):
        if r >= count:
            r = 0
        replica = state.replicas[r]
        if replica.status == SERVING and (chosen < 0 or replica.load < state.replicas[chosen].load):
            chosen = r
            if replica.load == 0:
                break
        r += 1
    return chosen


@compiled
def _with_most_of_prompt(state: State, rules: Rules, slot: int) -> int:
    serving, load = 0, 0
    for r in range(len(state.replicas)):
        if state.replicas[r].status == SERVING:
            serving += 1
            load += state.replicas[r].load
    if serving == 0:
        return -1
    most = (1.0 + rules.slack) * load / serving + 1.0
    request = state.requests[slot]
    chosen, found = -1, 0
    for r in range(len(state.replicas)):
        if state.replicas[r].status == SERVING and state.replicas[r].load <= most:
            cached = cached_entries(state, rules, r, request.node, sharable(rules, request))
            if cached > found:
                chosen, found = r, cached
    return chosen if chosen >= 0 else _least_loaded(state)
