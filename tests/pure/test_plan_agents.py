"""Agent loops: the closed form is the sum over calls, and grows with their square."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from farthing.economics.money.agents import Compaction, Task, task_cost
from farthing.economics.money.api_price import ApiPrice
from farthing.errors import RequestError

PRICE = ApiPrice(3.0, 15.0, 0.3, 3.75)
TASK = Task(20, 4000, output_tokens=300, tool_tokens=1200)

tasks = st.builds(
    Task,
    calls=st.integers(1, 80),
    first_tokens=st.integers(1, 20_000),
    output_tokens=st.integers(0, 2000),
    tool_tokens=st.integers(0, 8000),
    cache_hit_share=st.one_of(st.none(), st.floats(0, 1)),
    retry_share=st.floats(0, 0.5),
    success_share=st.floats(0.1, 1),
    compaction=st.none(),
)
compactions = st.one_of(st.none(), st.tuples(st.integers(0, 60_000), st.integers(0, 3000)))


def call_by_call(task):
    """Tokens of an attempt, one call after the other: sent, read from the cache if it holds, written by the model."""
    again = 1 / (1 - task.retry_share)
    context, former, sent, read, output, summaries, largest = task.first_tokens, 0, 0.0, 0.0, 0.0, 0, 0

    def send(writes):
        nonlocal sent, read, output, former, largest
        sent += context * again
        read += former + (again - 1) * context
        output += writes * again
        former = context
        largest = max(largest, context + writes)

    for call in range(task.calls):
        send(task.output_tokens)
        context += task.output_tokens + task.tool_tokens
        growing = task.output_tokens + task.tool_tokens > 0
        if task.compaction and growing and context > task.compaction.above_tokens and call < task.calls - 1:
            send(task.compaction.summary_tokens)
            context = task.first_tokens + task.compaction.summary_tokens
            former = task.first_tokens
            summaries += 1
    return sent, read, output, summaries, largest


@settings(max_examples=300)
@given(tasks, compactions)
def test_the_closed_form_is_the_sum_over_calls(task, compaction):
    if compaction:
        above, summary = compaction
        task = replace(task, compaction=Compaction(task.first_tokens + summary + above, summary))
    sent, read, output, summaries, largest = call_by_call(task)
    cost = task_cost(task, PRICE)
    assert cost.compactions == summaries
    assert cost.tokens.output == pytest.approx(output)
    assert cost.largest_context_tokens == largest
    assert cost.tokens.total == pytest.approx(sent + output)
    assert cost.calls == pytest.approx((task.calls + summaries) / (1 - task.retry_share))
    if task.cache_hit_share is None:
        assert (cost.tokens.cache_read, cost.tokens.cache_write) == (0, 0)
    else:
        assert cost.tokens.cache_read == pytest.approx(task.cache_hit_share * read)
        assert cost.tokens.input == 0
    assert cost.usd_per_task == pytest.approx(cost.usd_per_attempt / task.success_share)


def test_twice_the_calls_are_nearly_four_times_the_tokens():
    few, many = (task_cost(replace(TASK, calls=calls), PRICE) for calls in (200, 400))
    assert 3.9 < many.tokens.input / few.tokens.input < 4
    assert many.growth > few.growth > 1


@given(tasks)
def test_growth_is_what_longer_prompts_add(task):
    cost = task_cost(task, PRICE)
    assert cost.growth >= 1 - 1e-9
    alone = task_cost(replace(task, calls=1), PRICE)
    assert alone.growth == pytest.approx(1)


@given(tasks.filter(lambda task: task.cache_hit_share is not None and task.calls > 1), st.floats(0, 1))
def test_a_cache_that_holds_more_often_costs_less(task, share):
    low, high = sorted((share, task.cache_hit_share))
    assert (
        task_cost(replace(task, cache_hit_share=high), PRICE).usd_per_attempt
        <= task_cost(replace(task, cache_hit_share=low), PRICE).usd_per_attempt + 1e-9
    )


def test_a_cache_that_is_never_hit_costs_more_than_none():
    never = task_cost(replace(TASK, cache_hit_share=0.0), PRICE)
    assert never.usd_per_attempt > task_cost(TASK, PRICE).usd_per_attempt
    always = task_cost(replace(TASK, cache_hit_share=1.0), PRICE)
    assert always.usd_per_attempt < 0.5 * task_cost(TASK, PRICE).usd_per_attempt


def test_summing_up_makes_growth_linear():
    compact = replace(TASK, compaction=Compaction(12_000, 800))
    few, many = (task_cost(replace(compact, calls=calls), PRICE) for calls in (200, 400))
    assert 1.9 < many.usd_per_attempt / few.usd_per_attempt < 2.1
    assert many.usd_per_attempt < 0.2 * task_cost(replace(TASK, calls=400), PRICE).usd_per_attempt
    assert many.largest_context_tokens <= 12_000 + 1500 + 800


@pytest.mark.parametrize(
    "change",
    [
        {"calls": 0}, {"calls": 1.5}, {"first_tokens": 0}, {"output_tokens": -1}, {"tool_tokens": math.nan},
        {"cache_hit_share": 1.5}, {"retry_share": 1.0}, {"success_share": 0}, {"success_share": None},
        {"compaction": Compaction(4500, 600)}, {"compaction": Compaction(0, 0)},
    ],
)  # fmt: skip
def test_a_task_that_makes_no_sense_is_refused(change):
    with pytest.raises(RequestError) as refused:
        task_cost(replace(TASK, **change), PRICE)
    assert refused.value.hint


@pytest.mark.parametrize(
    "price", [ApiPrice(3.0, 15.0, 0.3), ApiPrice(3.0, 15.0, None, 3.75), ApiPrice(3.0, None, 0.3, 3.75)]
)
def test_a_price_that_is_needed_must_be_known(price):
    with pytest.raises(RequestError, match="not known"):
        task_cost(replace(TASK, cache_hit_share=0.9), price)
