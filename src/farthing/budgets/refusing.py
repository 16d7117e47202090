"""What a caller is told when its worst case does not fit: the whole arithmetic."""

from datetime import UTC, datetime
from typing import Final

from farthing.budgets.periods import resets_at
from farthing.errors import BudgetExceeded, FarthingError, RateLimited
from farthing.schema import Balance, Claim, Limit, usd

SECOND: Final = 10**9
BUSY_SECONDS: Final = 1.0
"""When to come back where calls under way are what is in the way: nobody knows when they end."""

_UNITS: Final = {"tokens": "tokens", "calls": "calls", "concurrent": "calls at once"}


def refusal(limit: Limit, subject: str, claim: Claim, balance: Balance, at: int) -> FarthingError:
    """The error of a claim that did not fit when `balance` was all that counted, at an instant (Unix ns)."""
    resets = resets_at(limit, at)
    wait = None if resets is None else max((resets - at) / SECOND, 0.001)
    if limit.meter != "usd":
        return _rate_limited(limit, subject, claim, balance, wait)
    shortfall = balance.total + claim.amount - limit.amount
    held = balance.held + balance.expired
    facts = {
        "budget": limit.name,
        "subject": subject,
        "limit_usd": _dollars(limit.amount),
        "spent_usd": _dollars(balance.spent),
        "held_usd": _dollars(held),
        "worst_case_usd": _dollars(claim.amount),
        "shortfall_usd": _dollars(shortfall),
        "resets_at": None if resets is None else _shown(resets),
    }
    message = (
        f"The budget {limit.name} allows {_dollars(limit.amount)} {_period(limit)}{_of(limit, subject)}: "
        f"{_dollars(balance.spent)} is spent and {_dollars(held)} is held by calls under way; this call can cost up to "
        f"{_dollars(claim.amount)}, which is {_dollars(shortfall)} too much."
    )
    lower = "Ask for less (a lower max_tokens), or raise the budget."
    if claim.amount > limit.amount:
        return BudgetExceeded(message, hint=lower, facts=facts)
    hint = f"{lower} It resets at {_shown(resets)}." if resets is not None else lower
    return BudgetExceeded(message, hint=hint, facts=facts, retry_after=wait)


def unpriced(limit: Limit, subject: str, provider: str, model: str) -> BudgetExceeded:
    """The error of a call to a model whose price is not known, under a budget that may not be overspent."""
    return BudgetExceeded(
        f"The budget {limit.name}{_of(limit, subject)} may not be overspent, and the price of {model} at "
        f"{provider or 'its upstream'} is not known.",
        hint="Add its price to the file that prices.overrides names, or make the budget soft.",
        facts={"budget": limit.name, "subject": subject, "provider": provider, "model": model},
    )


def _rate_limited(limit: Limit, subject: str, claim: Claim, balance: Balance, wait: float | None) -> RateLimited:
    unit = _UNITS[limit.meter]
    per = "" if limit.meter == "concurrent" else f" {_period(limit)}"
    return RateLimited(
        f"The limit {limit.name} allows {limit.amount} {unit}{per}{_of(limit, subject)}: {balance.total} count at "
        f"present, and this call needs {claim.amount} more.",
        hint="Wait, or spread the calls.",
        facts={
            "limit": limit.name,
            "subject": subject,
            "meter": limit.meter,
            "allowed": limit.amount,
            "used": balance.spent,
            "held": balance.held + balance.expired,
            "needed": claim.amount,
        },
        retry_after=BUSY_SECONDS if limit.meter == "concurrent" or wait is None else wait,
    )


def _period(limit: Limit) -> str:
    if limit.period == "lifetime":
        return "in all"
    return f"in any {limit.period}" if limit.rolling else f"a {limit.period}"


def _of(limit: Limit, subject: str) -> str:
    return f" for {limit.per} {subject}" if subject else ""


def _shown(at: int) -> str:
    return datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _dollars(amount: int) -> str:
    """Dollars, every digit of them, and at least cents."""
    text = usd(amount)
    return text if "." in text else f"{text}.00"
