"""Whether, when and where a failed attempt may be followed by another."""

from typing import Final, Literal

from farthing.schema import Fallback, Reply

Judgement = Literal["answered", "caller", "declined", "retry", "rate_limited", "quota"]
"""What became of an attempt: `caller` is a fault of the caller's, which no other attempt would mend; `declined` is no
fault: the answer is another's to give; `rate_limited` is an upstream's limit for now, and `quota` credit that ran out:
to ask it again does not help.
"""

_AGAIN: Final = frozenset((408, 409, 425, 498))
"""Statuses of a caller's fault that are none; 498 is Groq's for being full."""
_NO_CREDIT: Final = frozenset(
    ("insufficient_quota", "credit_balance_exhausted", "organization_usage_limit_exceeded",
     "organization_spend_limit_exceeded", "project_spend_limit_exceeded", "billing_hard_limit_reached",
     "billing_error")
)  # fmt: skip
_LOW_CREDIT: Final = b"credit balance is too low"
"""How Anthropic says so in the message of an `invalid_request_error`."""


def classify(reply: Reply) -> Judgement:
    """What became of an attempt, from the status, ending, error code and body of its reply."""
    if reply.ok:
        return "answered"
    if reply.ending == "disconnected":
        return "caller"
    if reply.ending == "declined":
        return "declined"
    if reply.status == 402 or reply.error in _NO_CREDIT or (reply.status == 400 and _LOW_CREDIT in reply.body):
        return "quota"
    if reply.status == 429:
        return "rate_limited"
    if reply.ending == "complete" and 400 <= reply.status < 500 and reply.status not in _AGAIN:
        return "caller"
    return "retry"


def backoff(fallback: Fallback, attempt: int, draw: float) -> int:
    """How long to wait, in ns, before an upstream is asked again after its `attempt`-th failure (from 1).

    Full jitter: any time, by `draw` in [0, 1), up to a bound that doubles with each failure.

    >>> backoff(Fallback(backoff=100, longest_backoff=300), 1, 0.5), backoff(Fallback(longest_backoff=300), 9, 0.5)
    (50, 150)
    """
    doublings = min(attempt - 1, 62)
    return int(draw * min(fallback.backoff << doublings, fallback.longest_backoff))


def may_retry(fallback: Fallback, *, attempts: int, elapsed: int, spent: int | None) -> bool:
    """Whether one more attempt may follow those made.

    `elapsed` is the time since the call arrived, in ns; `spent` what its attempts cost, in pico-dollars, `None` when
    that is not known, which may be more than any bound.
    """
    if attempts >= fallback.attempts or elapsed >= fallback.deadline:
        return False
    return fallback.max_cost is None or (spent is not None and spent < fallback.max_cost)
