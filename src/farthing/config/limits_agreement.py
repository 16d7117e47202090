"""What budgets and rate limits must satisfy beyond each setting being valid alone."""

from collections.abc import Iterator
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from farthing.config.settings import Budget, Settings
from farthing.config.shape import Fault

MOST_USD = 9_000_000
"""Stores count pico-dollars in 64 bits, which is $9.2 million."""


def limit_faults(settings: Settings) -> Iterator[Fault]:
    """Everything that makes budgets and limits unusable, or that would have each gateway count for itself."""
    for name, budget in settings.budgets.items():
        yield from _budget_faults(name, budget)
    for name, rates in settings.limits.items():
        if not (rates.calls_per_minute or rates.tokens_per_minute or rates.concurrent):
            yield Fault(
                ("limits", name),
                f"[limits.{name}] limits nothing; set calls_per_minute, tokens_per_minute or concurrent",
            )
    shared = settings.shared
    if shared.replicas > 1 and shared.postgres and not settings.key_store.pepper:
        yield Fault(
            ("key_store", "pepper"),
            'gateways that share keys need the same pepper; set key_store.pepper = "env:NAME" in all of them',
        )
    if shared.replicas > 1 and (settings.budgets or settings.limits) and not shared.postgres:
        yield Fault(
            ("shared", "replicas"),
            f"shared.replicas is {shared.replicas}, and each of these gateways would count budgets for itself; give "
            'them one ledger with shared.postgres = "env:NAME" (and shared.redis for fewer milliseconds a call)',
        )


def _budget_faults(name: str, budget: Budget) -> Iterator[Fault]:
    path = ("budgets", name)
    if not budget.usd or not 0 < Decimal(budget.usd) <= MOST_USD:
        yield Fault((*path, "usd"), f'[budgets.{name}] needs usd = "AMOUNT", above 0 and up to {MOST_USD:,} dollars')
    if budget.period == "lifetime" and budget.window == "rolling":
        yield Fault((*path, "window"), f"[budgets.{name}] has no period that could roll: it is for a lifetime")
    if budget.of and budget.per == "total":
        yield Fault((*path, "of"), f'[budgets.{name}] is for all calls together; say of what "{budget.of}" is with per')
    try:
        ZoneInfo(budget.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = (
            f'[budgets.{name}] has the time zone "{budget.time_zone}", which is none; write "UTC" or "Europe/Berlin"'
        )
        yield Fault((*path, "time_zone"), message)
