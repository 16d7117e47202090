"""Which limits apply to a call, in whose accounts it counts, and what an attempt claims of each."""

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote

import msgspec

from farthing.budgets.periods import slices
from farthing.schema import Caller, Claim, Limit

REMEMBERED = 4096
"""Pairs of a caller and a model whose limits are kept in mind."""


def account(limit: Limit, subject: str) -> str:
    """The name of the account that a subject has under a limit; the same in every process, and for ever.

    >>> account(Limit("team-search", "usd", 10**12, per="team"), "search")
    'team-search/usd/month/UTC/search'
    """
    window = "rolling" if limit.rolling else limit.time_zone
    return "/".join([quote(part, safe="") for part in (limit.name, limit.meter, limit.period, window, subject)])


def subject(limit: Limit, caller: Caller, model: str) -> str | None:
    """Who has the account that a call counts in ("" for the one of all); `None` when the limit does not apply to it.

    A caller without a team (or tenant, key, ...) is not limited by what is limited per team.
    """
    if limit.per == "total":
        return ""
    if limit.per == "model":
        found = model
    elif limit.per.startswith("tag:"):
        found = dict(caller.tags).get(limit.per[4:], "")
    else:
        found = {"tenant": caller.tenant, "team": caller.team, "key": caller.key, "feature": caller.feature}[limit.per]
    return found if found and limit.of in ("", found) else None


class Applying(msgspec.Struct, frozen=True):
    """The limits on a call in the order of its claims, their accounts, and the budgets that may not be overspent."""

    limits: tuple[Limit, ...]
    accounts: tuple[tuple[Limit, str], ...]
    hard_usd: tuple[Limit, ...]

    def claims(self, at: int, *, usd: int | None, tokens: int) -> tuple[Claim, ...]:
        """What one attempt claims whose call arrived at `at` (Unix ns), and that can come to `usd` (pico-dollars).

        Where the price is unknown (`None`), a soft limit claims nothing, and a hard one more than it can have.
        """
        amounts = {"usd": usd, "tokens": tokens, "calls": 1, "concurrent": 1}
        claims = []
        for limit, name in self.accounts:
            amount = amounts[limit.meter]
            if amount is None:
                amount = limit.amount + 1 if limit.hard else 0
            slice_, oldest = slices(limit, at)
            claims.append(Claim(name, limit.meter, slice_, oldest, amount, limit.amount if limit.hard else None))
        return tuple(claims)


class Limits:
    """All limits in force; quick to say which apply to a call, since callers come again."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self._limits = tuple(limits)
        self.any = bool(self._limits)
        self._applying = lru_cache(maxsize=REMEMBERED)(self._find)

    def applying(self, caller: Caller, model: str) -> Applying:
        """What limits a call."""
        return self._applying(caller, model)

    def claims(self, caller: Caller, model: str, at: int, *, usd: int | None, tokens: int) -> tuple[Claim, ...]:
        """What one attempt claims; see `Applying.claims`."""
        return self._applying(caller, model).claims(at, usd=usd, tokens=tokens)

    def _find(self, caller: Caller, model: str) -> Applying:
        pairs = [(limit, subject(limit, caller, model)) for limit in self._limits]
        accounts = tuple((limit, account(limit, name)) for limit, name in pairs if name is not None)
        limits = tuple(limit for limit, _ in accounts)
        return Applying(limits, accounts, tuple(limit for limit in limits if limit.hard and limit.meter == "usd"))
