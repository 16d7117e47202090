"""`farthing plan cost`: what tokens and requests cost on hardware that is paid by the hour."""

from typing import Any

import click
import msgspec

from farthing.cli.asking import Asked, verb
from farthing.cli.planning_records import asks, listed, made
from farthing.cli.render import answer
from farthing.dashboard.plan_figures import dollars
from farthing.economics.money.costs import (
    RequestCost,
    Running,
    TokenCost,
    cost_of_request,
    cost_of_time,
    token_cost,
)


class Cost(msgspec.Struct, frozen=True):
    """Dollars per million tokens and per request; the last two only where a size or a latency was given."""

    tokens: TokenCost
    request: RequestCost | None
    usd_per_1k_requests: float | None
    usd_per_request_by_time: float | None


@click.command()
@asks(
    Running,
    {
        "usd_per_device_h": "Dollars per device and hour.",
        "devices": "How many devices serve.",
        "input_tokens_per_s": "Prompt tokens per second of all devices, fully loaded.",
        "output_tokens_per_s": "Output tokens per second of all devices, fully loaded.",
        "prefill_share": "Share of busy time that goes into prompts.",
        "utilisation": "What is served over what could be, on the mean of a day.",
    },
)
@click.option("--input-tokens", type=float, metavar="X", help="Of one request, to price it.")
@click.option("--output-tokens", type=float, metavar="X", help="Of one request, to price it.")
@click.option("--latency-s", type=float, metavar="X", help="Of one request, to price it by time, with --concurrency.")
@click.option("--concurrency", type=int, metavar="X", help="Requests at once.")
@verb
def command(
    asked: Asked,
    input_tokens: float | None,
    output_tokens: float | None,
    latency_s: float | None,
    concurrency: int | None,
    **given: Any,
) -> None:
    """Turn an hourly price and a throughput into dollars per token and per request.

    The bill is split between prompts and answers by the time that each takes. By time, a request costs
    USD/h / 3600 x latency / concurrency.
    """
    if (latency_s is None) != (concurrency is None):
        raise click.UsageError("a request is priced by time from both --latency-s and --concurrency")
    running = made(Running, given)
    tokens = token_cost(running)
    request = None
    if input_tokens is not None or output_tokens is not None:
        request = cost_of_request(tokens, input_tokens or 0.0, output_tokens or 0.0)
    by_time = None
    if latency_s is not None and concurrency is not None:
        by_time = cost_of_time(tokens.usd_per_h, latency_s, concurrency)
    each = None if request is None else request.usd_per_1k_requests
    answer(asked, "farthing.plan.cost/1", Cost(tokens, request, each, by_time), _in_words)


def _in_words(cost: Cost) -> str:
    tokens = cost.tokens
    rows = [
        ("per hour", f"{dollars(tokens.usd_per_h)}, of it idle {dollars(tokens.idle_usd_per_h)}"),
        ("per 1M tokens", dollars(tokens.usd_per_1m_tokens)),
    ]
    for name, usd in (("input", tokens.usd_per_1m_input), ("output", tokens.usd_per_1m_output)):
        if usd is not None:
            rows.append((f"per 1M {name} tokens", dollars(usd)))
    if cost.request is not None:
        parts = f"{dollars(cost.request.input_usd)} in, {dollars(cost.request.output_usd)} out"
        rows.append(("per request", f"{dollars(cost.request.usd)} ({parts})"))
        rows.append(("per 1k requests", dollars(cost.request.usd_per_1k_requests)))
    if cost.usd_per_request_by_time is not None:
        rows.append(("per request, by time", dollars(cost.usd_per_request_by_time)))
    return listed(rows)
