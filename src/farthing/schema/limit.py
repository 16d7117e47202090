"""Limit: the most that may be used of something in a period; and what one attempt holds of it meanwhile."""

from typing import Literal

import msgspec

LimitMeter = Literal["usd", "tokens", "calls", "concurrent"]
"""What a limit counts: money in pico-dollars, tokens, attempts, or attempts under way at once."""

Period = Literal["minute", "hour", "day", "week", "month", "lifetime"]


class Limit(msgspec.Struct, frozen=True):
    """The most that may be used of a meter in a period: a budget counts "usd", a rate limit the others.

    `per` says what has an account of its own: "total" (one for all), or each "tenant", "team", "key", "model",
    "feature", or value of a tag ("tag:NAME"); `of` limits only that one of them. A period is a calendar one in
    `time_zone`, or the last so many seconds when `rolling` (a month is then 30 days). `hard` limits refuse; others only
    warn, at each share of `amount` in `warn_at` (ascending). Where a call's worst case does not fit, `clamp` lowers its
    cap on output to what is left, and `downgrade` names cheaper models to ask instead ((asked, instead) pairs).
    """

    name: str
    meter: LimitMeter
    amount: int
    per: str = "total"
    of: str = ""
    period: Period = "month"
    rolling: bool = False
    time_zone: str = "UTC"
    hard: bool = True
    warn_at: tuple[float, ...] = ()
    clamp: bool = False
    downgrade: tuple[tuple[str, str], ...] = ()


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What one hold takes of one account: `amount` in the unit of `meter`, in the slice its call arrived in.

    Time is cut into slices (Unix seconds at which they begin): a calendar period is one slice, a rolling one several.
    The slices from `oldest` on count towards `limit`, which is `None` where nothing is to be refused.
    """

    account: str
    meter: LimitMeter
    slice: int
    oldest: int
    amount: int
    limit: int | None


class Hold(msgspec.Struct, frozen=True, gc=False):
    """The worst case of one attempt, reserved before its upstream is asked: all of its claims, or none.

    `id` is that of the attempt's entry. `entry` is the entry to write, as JSON, should its gateway die before the
    outcome is known: it charges the worst case, and says so.
    """

    id: str
    claims: tuple[Claim, ...]
    entry: bytes = b""


class Resolution(msgspec.Struct, frozen=True, gc=False):
    """How a hold ended: what was used. `None` is not known, and posts what was held.

    Resolving a hold that is not there (any more) changes nothing, so it may be repeated.
    """

    id: str
    usd: int | None = 0
    tokens: int | None = 0
    calls: int = 0

    def used(self, claim: Claim) -> int:
        """What it posts to a claim's account."""
        amount = {"usd": self.usd, "tokens": self.tokens, "calls": self.calls, "concurrent": 0}[claim.meter]
        return claim.amount if amount is None else amount


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What counts towards a limit at present: `spent` is posted, `held` is reserved by attempts under way.

    `expired` was held by a gateway that died: it counts until that gateway returns and says what became of it, since
    the provider may have charged it.
    """

    spent: int = 0
    held: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """All that counts."""
        return self.spent + self.held + self.expired


class Account(msgspec.Struct, frozen=True):
    """One subject's account under a limit, and how it stands: what counts in it from the slice `oldest` on."""

    limit: Limit
    subject: str
    name: str
    oldest: int
    balance: Balance


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a store says to a hold. `balances` are those of its claims' accounts just before it, in order.

    When not `granted`, `short` is the place of the first claim that does not fit; or `unknown` names the accounts that
    the store has never seen, which have to be seeded with what was spent already before they can be held from.
    """

    granted: bool
    balances: tuple[Balance, ...] = ()
    short: int = -1
    unknown: tuple[str, ...] = ()
