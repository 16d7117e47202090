"""Batches: every request gets its own answers whatever comes between, none is lost, and a cut is the cheapest one."""

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.engines.batching import Batcher, Rules, runs
from farthing.errors import RateLimited, Unavailable

FAULTY = -1
"""An item whose result is an exception of its own."""
FATAL = -2
"""An item that fails the whole batch it is in."""


class Wrong(Exception):
    pass


class Machine:
    """What runs batches: doubles numbers, remembers the batches, and waits while `gate` is shut."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, batch: list[int]) -> Sequence[int | Exception]:
        self.batches.append(list(batch))
        assert self.gate.wait(10)
        if FATAL in batch:
            raise Wrong("the batch")
        return [Wrong("the item") if item == FAULTY else item * 2 for item in batch]

    @property
    def ran(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


def batching(scenario, rules: Rules = Rules(), machine: Machine | None = None):  # noqa: B008 (frozen)
    """Run a scenario, which is given a batcher and its machine, and close the batcher."""
    machine = machine or Machine()

    async def run():
        batcher = Batcher(machine, rules, "m")
        try:
            return await asyncio.wait_for(scenario(batcher, machine), 20)
        finally:
            machine.gate.set()
            await batcher.close()

    return asyncio.run(run())


async def until(happened) -> None:
    for _ in range(2000):
        if happened():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never happened")


REQUESTS = st.lists(
    st.tuples(st.lists(st.integers(FATAL, 1000), min_size=1, max_size=12), st.sampled_from(["ask", "pause", "leave"])),
    min_size=1,
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(REQUESTS, st.integers(1, 9), st.integers(1, 3), st.sampled_from([0.0, 0.002]))
def test_whatever_comes_between_everyone_gets_its_own_answers(requests, max_batch, workers, max_wait):
    async def scenario(batcher, machine):
        tasks = []
        for items, then in requests:
            task = asyncio.create_task(batcher.ask(items))
            tasks.append((items, task))
            if then == "pause":
                await asyncio.sleep(0)
            elif then == "leave":
                await asyncio.sleep(0)
                task.cancel()
        found = await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
        return [(items, answer) for (items, _), answer in zip(tasks, found, strict=True)]

    machine = Machine()
    rules = Rules(max_batch=max_batch, workers=workers, max_wait=max_wait, queue=10**6)
    for items, answer in batching(scenario, rules, machine):
        if isinstance(answer, list):
            assert answer == [item * 2 for item in items]
            assert FAULTY not in items
            assert FATAL not in items
        else:
            assert isinstance(answer, asyncio.CancelledError | Wrong)
    assert all(len(batch) <= max_batch for batch in machine.batches)
    sent = [item for items, _ in requests for item in items]
    assert all(machine.ran.count(item) <= sent.count(item) for item in set(machine.ran))  # none was run twice


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=40), st.integers(1, 7))
def test_requests_are_run_in_the_order_they_came(items, max_batch):
    async def scenario(batcher, machine):
        machine.gate.clear()
        first = asyncio.create_task(batcher.ask([7]))
        await until(lambda: machine.batches)
        rest = [asyncio.create_task(batcher.ask([item])) for item in items]
        await asyncio.sleep(0)
        machine.gate.set()
        await asyncio.gather(first, *rest)
        assert machine.ran == [7, *items]
        assert len(machine.batches) == 1 + -(-len(items) // max_batch)

    batching(scenario, Rules(max_batch=max_batch))


def test_a_lone_request_waits_for_nobody():
    async def scenario(batcher, machine):
        assert await batcher.ask([1]) == [2]
        assert machine.batches == [[1]]

    batching(scenario)


def test_a_batch_that_is_not_full_waits_only_where_that_was_asked_for():
    async def scenario(batcher, machine):
        before = time.monotonic()
        await asyncio.gather(batcher.ask([1]), asyncio.sleep(0.02, batcher), batcher.ask([2]))
        assert machine.batches == [[1, 2]]
        assert time.monotonic() - before >= 0.05
        full = time.monotonic()
        await asyncio.gather(*(batcher.ask([item]) for item in range(8)))
        assert time.monotonic() - full < 0.05

    batching(scenario, Rules(max_wait=0.06, max_batch=8))


def test_a_large_request_does_not_hold_up_small_ones():
    async def scenario(batcher, machine):
        machine.gate.clear()
        large = asyncio.create_task(batcher.ask(list(range(100))))
        await until(lambda: machine.batches)
        small = asyncio.create_task(batcher.ask([999]))
        await asyncio.sleep(0)
        machine.gate.set()
        assert await small == [1998]
        assert await large == [item * 2 for item in range(100)]
        assert 999 in machine.batches[1] + machine.batches[2]

    batching(scenario, Rules(max_batch=10))


def test_an_error_fails_its_own_request_and_a_failed_batch_only_those_in_it():
    async def scenario(batcher, machine):
        machine.gate.clear()
        hold = asyncio.create_task(batcher.ask([0]))
        await until(lambda: machine.batches)
        asked = [asyncio.create_task(batcher.ask(items)) for items in ([1], [2, FAULTY], [3])]
        await asyncio.sleep(0)
        machine.gate.set()
        one, two, three = await asyncio.gather(*asked, return_exceptions=True)
        assert await hold == [0]
        assert (one, three) == ([2], [6])
        assert str(two) == "the item"
        with pytest.raises(Wrong, match="the batch"):
            await batcher.ask([FATAL])
        assert await batcher.ask([5]) == [10]

    batching(scenario)


def test_results_that_are_too_few_fail_the_batch_and_nobody_waits_for_ever():
    async def scenario(batcher, _):
        with pytest.raises(RuntimeError, match="2 texts were run, and 1 results"):
            await batcher.ask([1, 2])

    class Short(Machine):
        def __call__(self, batch: list[int]) -> Sequence[int | Exception]:
            return super().__call__(batch)[:1]

    batching(scenario, machine=Short())


def test_whoever_leaves_is_not_run():
    async def scenario(batcher, machine):
        machine.gate.clear()
        first = asyncio.create_task(batcher.ask([1]))
        await until(lambda: machine.batches)
        left = asyncio.create_task(batcher.ask([2, 3]))
        stays = asyncio.create_task(batcher.ask([4]))
        await asyncio.sleep(0)
        assert batcher.waiting == 3
        left.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        machine.gate.set()
        assert (await first, await stays) == ([2], [8])
        assert machine.ran == [1, 4]

    batching(scenario)


def test_when_too_many_wait_the_next_is_refused_and_told_when_to_come_back():
    async def scenario(batcher, machine):
        await batcher.ask([0])
        machine.gate.clear()
        asked = [asyncio.create_task(batcher.ask([number])) for number in range(3)]
        await until(lambda: len(machine.batches) == 2 and batcher.waiting == 2)
        with pytest.raises(RateLimited, match="2 texts wait for the model m") as refused:
            await batcher.ask([9, 9])
        assert refused.value.retry_after > 0
        machine.gate.set()
        assert await asyncio.gather(*asked) == [[0], [2], [4]]
        assert await batcher.ask([9] * 5) == [18] * 5  # more than may wait, but nobody does

    batching(scenario, Rules(queue=3, max_batch=1))


def test_who_would_wait_longer_than_it_has_time_for_is_refused():
    async def scenario(batcher, machine):
        machine.gate.clear()
        slow = asyncio.create_task(batcher.ask([1]))
        await asyncio.sleep(0.1)
        machine.gate.set()
        await slow
        assert batcher.expected_wait == 0
        machine.gate.clear()
        under_way = asyncio.create_task(batcher.ask([2]))
        await until(lambda: len(machine.batches) == 2)
        assert batcher.expected_wait >= 0.1
        with pytest.raises(RateLimited) as refused:
            await batcher.ask([3])
        assert refused.value.retry_after >= 0.05
        machine.gate.set()
        assert await under_way == [4]

    batching(scenario, Rules(patience=0.05))


def test_closing_answers_what_waits_and_takes_no_more():
    async def scenario(batcher, machine):
        machine.gate.clear()
        asked = [asyncio.create_task(batcher.ask([number])) for number in range(5)]
        await until(lambda: machine.batches)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await batcher.ask([1])
        machine.gate.set()
        assert await asyncio.gather(*asked) == [[number * 2] for number in range(5)]
        await closing

    batching(scenario, Rules(max_batch=2))


def test_nothing_asked_is_nothing_answered():
    async def scenario(batcher, machine):
        assert await batcher.ask([]) == []
        assert not machine.batches

    batching(scenario)


def cost(lengths: Sequence[int], cut: list[list[int]], setup: int) -> int:
    return sum(len(run) * max(lengths[place] for place in run) + setup for run in cut)


@given(st.lists(st.integers(1, 12), max_size=7), st.integers(0, 20))
def test_a_cut_is_the_cheapest_of_all(lengths, setup):
    found = runs(lengths, setup=setup, most=10**6)
    assert sorted(place for run in found for place in run) == list(range(len(lengths)))
    if not lengths:
        return
    falling = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    every = []
    for count in range(len(lengths)):
        for bounds in itertools.combinations(range(1, len(lengths)), count):
            ends = [0, *bounds, len(lengths)]
            every.append([falling[start:end] for start, end in itertools.pairwise(ends)])
    assert cost(lengths, found, setup) == min(cost(lengths, cut, setup) for cut in every)


@given(st.lists(st.integers(1, 600), max_size=80), st.integers(1, 2000))
def test_no_run_is_larger_than_allowed_unless_one_text_is(lengths, most):
    for run in runs(lengths, setup=16, most=most):
        assert len(run) == 1 or len(run) * max(lengths[place] for place in run) <= most
