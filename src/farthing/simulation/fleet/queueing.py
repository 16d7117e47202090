"""Who is next: a pairing heap of waiting requests by priority, a binary heap of decoding ones by their end."""

from farthing.simulation.fleet.compiled import compiled
from farthing.simulation.fleet.state import State


@compiled
def precedes(state: State, one: int, other: int) -> bool:
    """Whether a request goes before another: lower priority number first, then earlier arrival."""
    a, b = state.requests[one], state.requests[other]
    if a.priority != b.priority:
        return a.priority < b.priority
    return a.number < b.number


@compiled
def pushed(state: State, root: int, slot: int) -> int:
    """The root of a heap with one more request."""
    state.requests[slot].child = -1
    state.requests[slot].next = -1
    return slot if root < 0 else _merged(state, root, slot)


@compiled
def popped(state: State, root: int) -> int:
    """The root of a heap without its first request, -1 when none is left."""
    # Pair the children from left to right, keeping the pairs in a list in reverse; then merge that list.
    pairs = -1
    left = state.requests[root].child
    while left >= 0:
        right = state.requests[left].next
        after = -1
        if right >= 0:
            after = state.requests[right].next
            left = _merged(state, left, right)
        state.requests[left].next = pairs
        pairs = left
        left = after
    rest = -1
    while pairs >= 0:
        after = state.requests[pairs].next
        state.requests[pairs].next = -1
        rest = pairs if rest < 0 else _merged(state, rest, pairs)
        pairs = after
    return rest


@compiled
def _merged(state: State, one: int, other: int) -> int:
    if precedes(state, other, one):
        one, other = other, one
    state.requests[other].next = state.requests[one].child
    state.requests[one].child = other
    return one


@compiled
def run(state: State, r: int, slot: int) -> None:
    """Put a request among the decoding ones of a replica, whose count of them is raised."""
    replica = state.replicas[r]
    place = replica.decoding
    replica.decoding += 1
    heap = state.running[r]
    ends = state.requests[slot].ends
    while place > 0:
        above = (place - 1) >> 1
        if state.requests[heap[above]].ends <= ends:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = slot


@compiled
def stop(state: State, r: int, place: int) -> int:
    """Take the request at a place of the heap out of the decoding ones."""
    replica = state.replicas[r]
    heap = state.running[r]
    slot = heap[place]
    replica.decoding -= 1
    last = heap[replica.decoding]
    if last == slot:
        return slot
    ends = state.requests[last].ends
    while place > 0 and state.requests[heap[(place - 1) >> 1]].ends > ends:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    while True:
        below = 2 * place + 1
        if below >= replica.decoding:
            break
        if below + 1 < replica.decoding and state.requests[heap[below + 1]].ends < state.requests[heap[below]].ends:
            below += 1
        if state.requests[heap[below]].ends >= ends:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = last
    return slot
