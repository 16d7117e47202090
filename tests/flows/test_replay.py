"""Recorded traffic through the pipeline in virtual time."""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.advisor import OpenRecords, Replayed, VirtualClock, VirtualLoop, moved_to, replay
from farthing.advisor.replay import LOOK_AHEAD, in_time_order
from farthing.budgets import Limits
from farthing.config import ExactCache, Fallback, Settings, Upstream
from farthing.errors import TrafficError
from farthing.gateway import Holds, ReplyCache, Source
from farthing.importers import read
from farthing.providers.recorded import RecordedUpstream
from farthing.schema import METERS, Exchange, Recorded, Sums, Usage
from farthing.simulation.generator import Workload, generate
from farthing.stores.memory_budgets import MemoryBudgets
from farthing.stores.price_files import current_book
from farthing.stores.reply_cache import MemoryReplies
from farthing.stores.tallying import TallyingJournal
from farthing.wiring.parts import Parts, pipeline_of, policy_of

SECOND = 10**9
WEEK = 7 * 24 * 3600 * SECOND
START = 1_790_000_000 * SECOND


def in_virtual_time(main: Callable[[VirtualClock], Awaitable], start: int = START):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main(VirtualClock(runner.get_loop(), start)))


class Handled:
    """A pipeline that does nothing but remember; each call takes `takes` seconds."""

    def __init__(self, takes: float = 0.0) -> None:
        self.exchanges: list[Exchange] = []
        self.takes = takes
        self.open = self.most_open = 0

    async def handle(self, exchange: Exchange, outlet: None) -> Exchange:
        self.exchanges.append(exchange)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if self.takes:
            await asyncio.sleep(self.takes)
        self.open -= 1
        return exchange


def driven(
    traffic: Iterable[Recorded], handled: Handled, records: OpenRecords | None = None, **options: int
) -> Replayed:
    records = OpenRecords() if records is None else records
    return in_virtual_time(lambda clock: replay(traffic, handled.handle, records, clock, **options))


async def nothing_spent(*_: object) -> dict[int, int]:
    return {}


def through_the_gateway(traffic: Iterable[Recorded], *, cached: bool = True) -> tuple[Replayed, Sums]:
    upstreams = {"recording": Upstream(kind="recorded", models=("*",))}
    policy = policy_of(Settings(upstreams=upstreams, cache=ExactCache(enabled=cached), fallback=Fallback(attempts=1)))
    journal, records = TallyingJournal(), OpenRecords()

    async def run(clock: VirtualClock) -> Replayed:
        pipeline = pipeline_of(
            Parts(
                policy,
                {"recording": Source(RecordedUpstream("recording", records.find))},
                current_book(""),
                journal,
                clock,
                ReplyCache([MemoryReplies(1 << 26)], clock),
                Holds(MemoryBudgets(), Limits(policy.limits), nothing_spent),
                random.Random(0).random,
                authenticated=lambda: False,
            )
        )
        return await replay(traffic, pipeline.handle, records, clock)

    return in_virtual_time(run), journal.tally.totals()


def total(traffic: Iterable[Recorded]) -> Usage:
    used = [recorded.usage for recorded in traffic if recorded.usage]
    return Usage(**{meter: sum(getattr(usage, meter) for usage in used) for meter in METERS})


def call(at: float, **facts: object) -> Recorded:
    return Recorded(at=round(at * SECOND), model="gpt-6-luna", **facts)


# Virtual time


def test_timers_come_in_order_of_time_and_then_of_asking():
    async def main(clock: VirtualClock) -> list[tuple[str, int]]:
        seen = []
        loop = asyncio.get_running_loop()
        for name, after in (("late", 3), ("soon", 1), ("also soon", 1), ("at once", 0)):
            loop.call_later(after, lambda name=name: seen.append((name, (clock.now() - START) // SECOND)))
        await asyncio.sleep(5)
        return seen

    assert in_virtual_time(main) == [("at once", 0), ("soon", 1), ("also soon", 1), ("late", 3)]


def test_a_year_passes_without_waiting_and_to_the_microsecond():
    async def main(clock: VirtualClock) -> int:
        for _ in range(365):
            await asyncio.sleep(24 * 3600 + 0.000_001)
        return clock.now() - START

    before = time.process_time()
    assert in_virtual_time(main) == 365 * (24 * 3600 * SECOND + 1_000)
    assert time.process_time() - before < 24 * 3600


def test_nothing_sleeps_in_fact(monkeypatch):
    def asleep(*_: object) -> None:
        raise AssertionError("something waited for real")

    monkeypatch.setattr(time, "sleep", asleep)
    monkeypatch.setattr(threading.Condition, "wait", asleep)
    monkeypatch.setattr("select.epoll", asleep, raising=False)
    assert driven([call(0), call(10**6)], Handled(takes=10**6)).ended == START + 2 * 10**6 * SECOND


def test_tasks_timeouts_and_cancellation_work_as_on_any_loop():
    async def main(clock: VirtualClock) -> list[object]:
        results = await asyncio.gather(*(asyncio.sleep(delay, delay) for delay in (3, 1, 2)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        task = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [*results, (clock.now() - START) // SECOND]

    assert in_virtual_time(main) == [3, 1, 2, 8]


def test_waiting_for_what_never_comes_is_an_error_not_a_hang():
    async def main(clock: VirtualClock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="stands still"):
        in_virtual_time(main)


def test_an_exception_in_a_callback_ends_the_run():
    async def main(clock: VirtualClock) -> None:
        asyncio.get_running_loop().call_later(1, lambda: 1 // 0)
        await asyncio.sleep(10)

    with pytest.raises(ZeroDivisionError):
        in_virtual_time(main)


def test_there_is_no_network_and_no_thread_in_virtual_time():
    async def connect(clock: VirtualClock) -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    async def work(clock: VirtualClock) -> None:
        await asyncio.to_thread(print)

    for attempt in (connect, work):
        with pytest.raises(NotImplementedError):
            in_virtual_time(attempt)


# Order


@given(st.lists(st.integers(0, 50), max_size=200), st.integers(1, 300))
def test_records_within_reach_are_put_in_order_and_none_is_lost(times, ahead):
    traffic = [Recorded(at=at, model=str(number)) for number, at in enumerate(times)]
    try:
        ordered = list(in_time_order(iter(traffic), ahead))
    except TrafficError:
        assert ahead < len(times)
        return
    assert ordered == sorted(traffic, key=lambda recorded: recorded.at)


def test_a_record_out_of_reach_is_refused_with_its_place():
    traffic = [call(at) for at in range(10, LOOK_AHEAD + 20)] + [call(0)]

    with pytest.raises(TrafficError, match=f"Record {len(traffic)} was asked .* Sort the file by time"):
        driven(traffic, Handled())


def test_no_more_is_read_than_is_needed():
    taken = []

    def endless():
        for at in range(10**9):
            taken.append(at)
            yield call(at)

    class Enough(Exception):
        pass

    async def handle(exchange: Exchange, outlet: None) -> Exchange:
        if exchange.arrived >= START + 100 * SECOND:
            raise Enough
        return exchange

    with pytest.raises(Enough):
        in_virtual_time(lambda clock: replay(endless(), handle, OpenRecords(), clock))
    assert len(taken) <= LOOK_AHEAD + 110


# Driving


def test_calls_arrive_as_far_apart_as_recorded():
    handled = Handled()
    driven([call(100), call(100.5), call(100.5), call(103.000_001_9)], handled)

    assert [exchange.arrived - START for exchange in handled.exchanges] == [0, 500_000_000, 500_000_000, 3_000_001_000]
    assert len({exchange.id for exchange in handled.exchanges}) == 4


def test_a_replay_ends_with_its_last_answer_and_adds_up_what_was_paid():
    replayed = driven([call(0, cost=5), call(1, cost=7), call(2)], Handled(takes=10))

    assert replayed == Replayed(
        calls=3, began=START, ended=START + 12 * SECOND, late=0, recorded_cost=12, recorded_priced=2
    )


def test_nothing_to_replay_is_soon_replayed():
    assert driven([], Handled()).calls == 0


def test_too_many_open_calls_wait_their_turn_and_are_counted():
    handled = Handled(takes=10)
    replayed = driven([call(0) for _ in range(9)], handled, most_open=3)

    assert (replayed.calls, handled.most_open, replayed.late) == (9, 3, 6)
    assert replayed.ended == START + 30 * SECOND


def test_an_error_in_the_pipeline_is_not_swallowed():
    async def handle(exchange: Exchange, outlet: None) -> Exchange:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_virtual_time(lambda clock: replay([call(0), call(1)], handle, OpenRecords(), clock))


def test_an_error_in_the_file_ends_the_replay_with_its_line():
    def traffic():
        yield from (call(at) for at in range(LOOK_AHEAD + 3))
        raise TrafficError("line 2: it is not one.")

    records = OpenRecords()
    with pytest.raises(TrafficError, match="line 2"):
        driven(traffic(), Handled(takes=10), records)
    assert len(records) == 0


def test_records_are_forgotten_once_answered():
    records, handled = OpenRecords(), Handled(takes=3)
    seen = []

    async def handle(exchange: Exchange, outlet: None) -> Exchange:
        seen.append(len(records))
        return await handled.handle(exchange, outlet)

    traffic = [call(at) for at in range(50)]
    in_virtual_time(lambda clock: replay(traffic, handle, records, clock))

    assert (max(seen), len(records)) == (3, 0)


def test_callers_are_those_recorded():
    handled = Handled()
    driven([call(0, tenant="acme", team="search", key="prod", feature="find", tags=(("a", "b"),))], handled)
    caller = handled.exchanges[0].caller

    assert (caller.tenant, caller.team, caller.key, caller.feature, caller.tags) == (
        "acme",
        "search",
        "prod",
        "find",
        (("a", "b"),),
    )


@pytest.mark.parametrize("endpoint", ["chat", "responses", "embeddings", "completions", "messages", "count_tokens"])
def test_a_prompt_known_by_its_name_gets_a_body_of_its_own(endpoint):
    handled = Handled()
    named = [call(at, endpoint=endpoint, prompt=prompt) for at, prompt in enumerate(("a", "a", "b", "", ""))]
    driven(named, handled)
    first, again, other, *unnamed = (exchange.call.body for exchange in handled.exchanges)

    assert first == again
    assert len({first, other, *unnamed}) == 4
    assert all(msgspec.json.decode(exchange.call.body)["model"] == "gpt-6-luna" for exchange in handled.exchanges)


def test_a_recorded_body_is_sent_byte_for_byte():
    body = b'{ "model":"gpt-6-sol", "messages":[], "stream":true}'
    handled = Handled()
    driven([call(0, request=msgspec.Raw(body))], handled)

    assert handled.exchanges[0].call.body == body
    assert handled.exchanges[0].call.model == "gpt-6-sol"
    assert handled.exchanges[0].call.stream


def test_a_recorded_body_that_is_none_is_refused_by_its_place():
    with pytest.raises(TrafficError, match=r"Record 2 \(here\) has a request that cannot be replayed"):
        driven([call(0), call(1, request=msgspec.Raw(b"{}"), note="here")], Handled())


@given(st.integers(0, 10**17 - 1) | st.integers(10**17, 4 * 10**18), st.integers(10**18, 4 * 10**18))
def test_recordings_move_to_the_present_by_whole_weeks(first, present):
    moved = moved_to(first, present)

    if first < 10**17:
        assert moved == present
    else:
        assert (moved - first) % WEEK == 0
        assert present - WEEK < moved <= present


# Through the gateway


def test_totals_are_the_recordings_to_the_token():
    traffic = list(generate(Workload(calls=1_500), random.Random(5)))
    replayed, sums = through_the_gateway(traffic, cached=False)

    assert (replayed.calls, sums.calls, sums.errors, sums.estimated) == (1_500, 1_500, 0, 0)
    assert sums.usage == total(traffic)


def test_an_identical_call_is_answered_from_the_cache():
    usage = Usage(input=1_000, output=100)
    traffic = [
        call(at, prompt=prompt, usage=usage, latency=10**6) for at, prompt in ((0, "a"), (0.5, "a"), (5, "a"), (6, "b"))
    ]
    _, cached = through_the_gateway(traffic)
    _, uncached = through_the_gateway(traffic, cached=False)

    assert (cached.attempts, cached.hits, cached.misses) == (2, 2, 2)
    assert (uncached.attempts, uncached.hits) == (4, 0)
    assert cached.cost == uncached.cost // 2 > 0
    assert cached.list_cost == uncached.cost
    assert sum(cached.saved.values()) == cached.list_cost - cached.cost


def test_latency_is_the_recordings_to_the_microsecond():
    traffic = [
        call(0, usage=Usage(input=1, output=9), latency=1_234_567),
        call(1, usage=Usage(input=1, output=9), latency=2_000_001, ttft=345_678, stream=True),
    ]
    _, sums = through_the_gateway(traffic)

    assert sums.latency.total == 1_234_567 + 2_000_001
    assert sums.ttft.total == 1_234_567 + 345_678
    assert sums.overhead.total == 0


@pytest.mark.parametrize("endpoint", ["chat", "responses", "completions", "messages"])
@pytest.mark.parametrize("stream", [True, False])
def test_every_bucket_survives_in_every_wire_format(endpoint, stream):
    usage = Usage(input=11, cache_read=7, cache_write_1h=0, output=5, reasoning=3)
    if endpoint in ("messages", "chat"):
        usage = msgspec.structs.replace(usage, cache_write_1h=13)
    _, sums = through_the_gateway([call(0, endpoint=endpoint, usage=usage, stream=stream)])

    assert sums.usage == usage
    assert sums.errors == 0


def test_failures_fail_again_and_cost_nothing():
    _, sums = through_the_gateway([call(0, status=429), call(1, status=500, latency=5), call(2, usage=Usage(input=1))])

    assert (sums.calls, sums.errors, sums.unpriced) == (3, 2, 0)


def test_equal_recordings_give_equal_ledgers():
    def once() -> tuple[Replayed, Sums]:
        return through_the_gateway(generate(Workload(calls=300), random.Random(9)))

    assert once() == once()


def test_a_recording_answers_configured_questions_and_refuses_strange_ones(gateway_with, tmp_path):
    recorded = generate(Workload(calls=1), random.Random(1))
    (known,) = recorded
    file = tmp_path / "recording.jsonl"
    file.write_bytes(msgspec.json.encode(known))
    gateway = gateway_with(upstreams={"recording": Upstream(kind="recorded", recording=str(file), models=("*",))})
    path = {
        "chat": "/v1/chat/completions",
        "responses": "/v1/responses",
        "embeddings": "/v1/embeddings",
        "messages": "/v1/messages",
    }

    answer = gateway.post(path[known.endpoint], bytes(known.request))
    strange = gateway.post("/v1/chat/completions", {"model": "gpt-6-luna", "messages": []})

    assert answer.status == 200
    assert strange.status == 404
    assert "recording holds no answer" in strange.json["error"]["message"]


@pytest.mark.parametrize(
    ("place", "calls", "tokens"),
    [
        ("mooncake/conversation_trace.jsonl", 12_031, 148_915_871),
        ("azure_llm/AzureLLMInferenceTrace_code.csv", 8_819, 18_305_870),
    ],
)
def test_public_traces_replay_to_the_token(shared_data, place, calls, tokens):
    replayed, sums = through_the_gateway(read(shared_data / place), cached=False)

    assert (replayed.calls, sums.calls, sums.errors) == (calls, calls, 0)
    assert sums.usage.tokens == tokens
