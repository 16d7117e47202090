"""The KV pool of a replica: blocks, and a cache of prompt prefixes in those that nobody uses, oldest first out.

Blocks are counted, not numbered. What is cached is an entry: a named prefix block of many prompts, the own blocks of a
preempted request, or blocks that nobody will ask for but that take their turn in the order of eviction all the same.
"""

import numpy as np

from farthing.simulation.fleet.compiled import compiled
from farthing.simulation.fleet.state import DEAD, SHARED, Record, Rules, State


@compiled
def clear_pool(state: State, rules: Rules, r: int) -> None:
    """Every block unused, nothing cached."""
    replica = state.replicas[r]
    replica.unused = rules.blocks
    replica.available = rules.blocks
    replica.oldest = -1
    replica.youngest = -1
    state.buckets[r, :] = -1
    count = state.entries.shape[1]
    for index in range(count):
        state.entries[r, index].next = index + 1 if index + 1 < count else -1
    replica.free = 0


@compiled
def take(state: State, r: int, blocks: int) -> None:
    """Use `blocks` more, which must be available: unused ones, then those cached longest ago."""
    replica = state.replicas[r]
    replica.available -= blocks
    while replica.unused < blocks:
        blocks -= replica.unused
        replica.unused = 0
        oldest = replica.oldest
        entry = state.entries[r, oldest]
        if entry.owner == SHARED:
            replica.unused = entry.blocks
            _forget(state, r, oldest)
            _drop(state, r, oldest)
        elif entry.blocks > blocks:
            entry.blocks -= blocks
            return
        else:
            replica.unused = entry.blocks
            if entry.owner >= 0:
                state.requests[entry.owner].spare = -1
            _drop(state, r, oldest)
    replica.unused -= blocks


@compiled
def give_back(state: State, rules: Rules, r: int, slot: int, keep: bool) -> None:
    """Give back all blocks of a request; with `keep`, its own full ones stay cached for itself."""
    replica = state.replicas[r]
    request = state.requests[slot]
    held = blocks_held(state, rules, r, slot)
    own = held - request.shared * (rules.prefix_tokens // rules.block_tokens)
    if not rules.prefix_caching:
        replica.unused += held
        replica.available += held
        return
    if keep and replica.free >= 0:
        full = stored(state, r, slot) // rules.block_tokens - (held - own)
        _cache_dead(state, r, own - full)
        own = full
        if full > 0 and replica.free >= 0:
            spare = _new_entry(state, r, slot, full)
            state.entries[r, spare].uses = request.shared
            _append(state, r, spare)
            request.spare = spare
            replica.available += full
            own = 0
    _cache_dead(state, r, own)
    _release_shared(state, r, request.entry)
    request.shared = 0
    request.entry = -1


@compiled
def stored(state: State, r: int, slot: int) -> int:
    """Tokens of a request in the KV cache, those of an unfinished chunk included."""
    request = state.requests[slot]
    if request.done < request.goal:
        return request.done + request.chunk
    return request.goal + (state.replicas[r].count - request.began)


@compiled
def blocks_held(state: State, rules: Rules, r: int, slot: int) -> int:
    """Blocks that a request takes, shared ones included."""
    return (stored(state, r, slot) + rules.block_tokens - 1) // rules.block_tokens


@compiled
def cached_entries(state: State, rules: Rules, r: int, node: int, most: int) -> int:
    """How many of the names from `node` on, `most` at most, the replica has cached."""
    count = 0
    while count < most and node >= 0 and _find(state, r, state.nodes[node].name) >= 0:
        count += 1
        node = state.nodes[node].next
    return count


@compiled
def sharable(rules: Rules, request: Record) -> int:
    """How many prefix blocks of a prompt can be shared: whole ones, and one token must be left to process."""
    if rules.prefix_tokens == 0 or not rules.prefix_caching:
        return 0
    return min(request.input, request.goal - 1) // rules.prefix_tokens


@compiled
def blocks_asleep(state: State, rules: Rules, r: int, slot: int, shared: int) -> int:
    """Blocks of the first `shared` names of a request that count as available, since nobody uses them now."""
    asleep = 0
    node = state.requests[slot].node
    for _ in range(shared):
        entry = state.entries[r, _find(state, r, state.nodes[node].name)]
        if entry.uses == 0:
            asleep += entry.blocks
        node = state.nodes[node].next
    return asleep


@compiled
def hold(state: State, r: int, slot: int, shared: int) -> None:
    """Let a request use the cached blocks of its first `shared` names."""
    replica = state.replicas[r]
    request = state.requests[slot]
    request.cursor = request.node
    request.entry = -1
    for _ in range(shared):
        index = _find(state, r, state.nodes[request.cursor].name)
        entry = state.entries[r, index]
        if entry.uses == 0:
            _unlink(state, r, index)
            replica.available -= entry.blocks
        entry.uses += 1
        request.entry = index
        request.cursor = state.nodes[request.cursor].next
    request.shared = shared


@compiled
def spare_blocks(state: State, r: int, slot: int, shared: int) -> int:
    """Blocks that a request kept through its preemption and can use again, given so many shared ones before them."""
    spare = state.requests[slot].spare
    if spare < 0 or state.entries[r, spare].uses != shared:
        return 0
    return state.entries[r, spare].blocks


@compiled
def wake(state: State, r: int, slot: int) -> None:
    """Give a request that was preempted its own blocks back, as many as are left."""
    request = state.requests[slot]
    state.replicas[r].available -= state.entries[r, request.spare].blocks
    _drop(state, r, request.spare)
    request.spare = -1


@compiled
def let_go(state: State, r: int, slot: int) -> None:
    """Leave the own blocks of a preempted request to eviction: what came before them is gone."""
    request = state.requests[slot]
    if request.spare >= 0:
        state.entries[r, request.spare].owner = DEAD
        request.spare = -1


@compiled
def share(state: State, rules: Rules, r: int, slot: int) -> None:
    """Enter the prefix blocks of a prompt that are processed now, so that others find them."""
    replica = state.replicas[r]
    request = state.requests[slot]
    if rules.prefix_tokens == 0 or not rules.prefix_caching:
        return
    whole = min(request.input, request.done + request.chunk) // rules.prefix_tokens
    while request.shared < whole and request.cursor >= 0 and replica.free >= 0:
        name = state.nodes[request.cursor].name
        if _find(state, r, name) >= 0:
            request.cursor = -1
            return
        index = _new_entry(state, r, SHARED, rules.prefix_tokens // rules.block_tokens)
        entry = state.entries[r, index]
        entry.name = name
        entry.uses = 1
        entry.parent = request.entry
        bucket = _bucket(state, name)
        entry.next = state.buckets[r, bucket]
        state.buckets[r, bucket] = index
        request.entry = index
        request.shared += 1
        request.cursor = state.nodes[request.cursor].next


@compiled
def _release_shared(state: State, r: int, index: int) -> None:
    """One use less of an entry and all before it; the deepest goes first when room is needed."""
    while index >= 0:
        entry = state.entries[r, index]
        entry.uses -= 1
        if entry.uses == 0:
            _append(state, r, index)
            state.replicas[r].available += entry.blocks
        index = entry.parent


@compiled
def _cache_dead(state: State, r: int, blocks: int) -> None:
    """Put blocks that nobody will ask for at the end of the order of eviction."""
    replica = state.replicas[r]
    if blocks == 0:
        return
    replica.available += blocks
    youngest = replica.youngest
    if youngest >= 0 and state.entries[r, youngest].owner == DEAD:
        state.entries[r, youngest].blocks += blocks
    elif replica.free >= 0:
        _append(state, r, _new_entry(state, r, DEAD, blocks))
    else:
        replica.unused += blocks


@compiled
def _new_entry(state: State, r: int, owner: int, blocks: int) -> int:
    replica = state.replicas[r]
    index = replica.free
    entry = state.entries[r, index]
    replica.free = entry.next
    entry.owner = owner
    entry.blocks = blocks
    entry.uses = 0
    entry.parent = -1
    return index


@compiled
def _drop(state: State, r: int, index: int) -> None:
    """Out of the order of eviction, and free for something else."""
    _unlink(state, r, index)
    state.entries[r, index].next = state.replicas[r].free
    state.replicas[r].free = index


@compiled
def _append(state: State, r: int, index: int) -> None:
    replica = state.replicas[r]
    entry = state.entries[r, index]
    entry.older = replica.youngest
    entry.younger = -1
    if replica.youngest >= 0:
        state.entries[r, replica.youngest].younger = index
    else:
        replica.oldest = index
    replica.youngest = index


@compiled
def _unlink(state: State, r: int, index: int) -> None:
    replica = state.replicas[r]
    entry = state.entries[r, index]
    if entry.older >= 0:
        state.entries[r, entry.older].younger = entry.younger
    else:
        replica.oldest = entry.younger
    if entry.younger >= 0:
        state.entries[r, entry.younger].older = entry.older
    else:
        replica.youngest = entry.older


@compiled
def _bucket(state: State, name: int) -> np.int64:
    mixed = np.uint64(name) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(state.buckets.shape[1] - 1))


@compiled
def _find(state: State, r: int, name: int) -> int:
    index = state.buckets[r, _bucket(state, name)]
    while index >= 0 and state.entries[r, index].name != name:
        index = state.entries[r, index].next
    return index


@compiled
def _forget(state: State, r: int, index: int) -> None:
    """Out of its bucket."""
    bucket = _bucket(state, state.entries[r, index].name)
    link = state.buckets[r, bucket]
    if link == index:
        state.buckets[r, bucket] = state.entries[r, index].next
        return
    while state.entries[r, link].next != index:
        link = state.entries[r, link].next
    state.entries[r, link].next = state.entries[r, index].next
