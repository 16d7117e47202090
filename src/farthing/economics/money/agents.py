"""What an agent's task costs: each call sends all that was said before, so tokens grow with the square of the calls."""

import math
from collections.abc import Iterator

import msgspec

from farthing.economics.money.api_price import ApiPrice, Tokens, api_usd, checked
from farthing.economics.money.plausible import number, require
from farthing.errors import RequestError


class Compaction(msgspec.Struct, frozen=True):
    """When the context has grown beyond `above_tokens`, a call of its own sums it up in `summary_tokens`."""

    above_tokens: float
    summary_tokens: float


class Task(msgspec.Struct, frozen=True):
    """A task of so many model calls, each of which writes an answer and gets a tool's output back.

    `first_tokens` are those of the first prompt: instructions, tools, the task. `cache_hit_share` is how often the
    provider still has the former call's prompt in its cache; `None` sends without any caching. `retry_share` of calls
    fail and are sent again, `success_share` of tasks end well; one that does not is done again from the beginning.
    """

    calls: int
    first_tokens: float
    output_tokens: float
    tool_tokens: float
    cache_hit_share: float | None = None
    retry_share: float = 0.0
    success_share: float = 1.0
    compaction: Compaction | None = None


class TaskCost(msgspec.Struct, frozen=True):
    """Tokens of one attempt at a task, and dollars of an attempt and of a task that ends well.

    `calls` counts those that sum up, and calls sent again on the mean. `without_growth_usd` is what an attempt would
    cost if every prompt were as long as the first.
    """

    calls: float
    compactions: int
    largest_context_tokens: float
    tokens: Tokens
    usd_per_attempt: float
    usd_per_task: float
    without_growth_usd: float

    @property
    def growth(self) -> float:
        """How many times dearer the growing context makes an attempt; 1 for free models."""
        return self.usd_per_attempt / self.without_growth_usd if self.without_growth_usd else 1.0


class _Stretch(msgspec.Struct, frozen=True):
    """Calls between two compactions: how long the first prompt is, and how much of that the former call had too."""

    base: float
    kept: float
    calls: int
    times: int = 1


def task_cost(task: Task, price: ApiPrice) -> TaskCost:
    """Tokens and dollars of a task, in closed form. Raises RequestError.

    With c0 first tokens, growth g = output + tool tokens a call and n calls, n c0 + g n (n - 1) / 2 tokens are sent.
    With a cache, call i reads what call i - 1 sent and writes the rest; with none left of it, it writes everything.

    >>> cost = task_cost(Task(10, 2000, output_tokens=200, tool_tokens=800), ApiPrice(2.0, 10.0))
    >>> cost.tokens.input, cost.tokens.output, round(cost.usd_per_attempt, 6), round(cost.growth, 3)
    (65000.0, 2000.0, 0.15, 2.5)
    """
    _check(task)
    checked(price)
    growth = task.output_tokens + task.tool_tokens
    stretches = tuple(_stretches(task, growth))
    again = 1 / (1 - task.retry_share)
    hit = task.cache_hit_share
    sent = read = 0.0
    compactions = sum(one.times for one in stretches) - 1
    for one in stretches:
        total = one.calls * one.base + growth * one.calls * (one.calls - 1) / 2
        before = (one.calls - 1) * one.base + growth * (one.calls - 1) * (one.calls - 2) / 2
        sent += one.times * total
        read += one.times * (one.kept + before)
    if task.compaction:
        closing = list(_closing(stretches, growth))
        sent += sum(times * tokens for times, tokens in closing)
        read += sum(times * (tokens - growth) for times, tokens in closing)
    written = task.calls * task.output_tokens
    if task.compaction:
        written += compactions * task.compaction.summary_tokens
    # A call that is sent again finds its own prompt in the cache, if that holds.
    tokens = Tokens(
        input=again * sent if hit is None else 0.0,
        cache_read=0.0 if hit is None else hit * (read + (again - 1) * sent),
        cache_write=0.0 if hit is None else sent - hit * read + (again - 1) * (1 - hit) * sent,
        output=again * written,
    )
    usd = api_usd(price, tokens)
    return TaskCost(
        calls=again * (task.calls + compactions),
        compactions=compactions,
        largest_context_tokens=_largest(task, stretches, growth),
        tokens=tokens,
        usd_per_attempt=usd,
        usd_per_task=usd / task.success_share,
        without_growth_usd=_flat_usd(task, price, again),
    )


def _stretches(task: Task, growth: float) -> Iterator[_Stretch]:
    """All calls of a task, cut where the context is summed up; equal stretches are counted, not repeated."""
    if task.compaction is None or not growth:
        yield _Stretch(task.first_tokens, 0.0, task.calls)
        return
    limit = task.compaction.above_tokens
    first = min(task.calls, math.floor((limit - task.first_tokens) / growth + 1e-9) + 1)
    yield _Stretch(task.first_tokens, 0.0, first)
    base = task.first_tokens + task.compaction.summary_tokens
    each = math.floor((limit - base) / growth + 1e-9) + 1
    times, rest = divmod(task.calls - first, each)
    if times:
        yield _Stretch(base, task.first_tokens, each, times)
    if rest:
        yield _Stretch(base, task.first_tokens, rest)


def _closing(stretches: tuple[_Stretch, ...], growth: float) -> Iterator[tuple[int, float]]:
    """How often, and how long, the prompts are that ask for a summary: one at the end of each stretch but the last."""
    for place, one in enumerate(stretches):
        times = one.times - (place == len(stretches) - 1)
        if times:
            yield times, one.base + one.calls * growth


def _largest(task: Task, stretches: tuple[_Stretch, ...], growth: float) -> float:
    within = max(one.base + growth * (one.calls - 1) for one in stretches) + task.output_tokens
    if task.compaction is None:
        return within
    return max([within, *(tokens + task.compaction.summary_tokens for _, tokens in _closing(stretches, growth))])


def _flat_usd(task: Task, price: ApiPrice, again: float) -> float:
    """Dollars of an attempt whose every prompt is the first one."""
    sent, hit = task.calls * task.first_tokens, task.cache_hit_share
    output = again * task.calls * task.output_tokens
    if hit is None:
        return api_usd(price, Tokens(input=again * sent, output=output))
    read = hit * (again * sent - task.first_tokens)
    return api_usd(price, Tokens(cache_read=read, cache_write=again * sent - read, output=output))


def _check(task: Task) -> None:
    require(task, above_zero=("first_tokens", "success_share"), counts=("calls",))
    require(task, at_least_zero=("output_tokens", "tool_tokens"), shares=("retry_share", "success_share"))
    if task.cache_hit_share is not None:
        require(task, shares=("cache_hit_share",))
    if task.retry_share > 0.99:
        raise RequestError(f"{task.retry_share:.0%} of calls fail.", hint="retry_share must be 0.99 at most.")
    if task.compaction is not None:
        require(task.compaction, above_zero=("above_tokens",), at_least_zero=("summary_tokens",))
        base = task.first_tokens + task.compaction.summary_tokens
        if number("the compaction", "above_tokens", task.compaction.above_tokens) < base:
            raise RequestError(
                f"Contexts are summed up above {task.compaction.above_tokens:g} tokens, and begin with {base:g}.",
                hint="Sum up later, or in fewer tokens.",
            )
