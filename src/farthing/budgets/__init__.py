"""What limits count: periods, accounts, holds and their worst case. Values in, verdicts out."""

from farthing.budgets.accounts import Applying, Limits, account, subject
from farthing.budgets.periods import resets_at, slices, starts_at
from farthing.budgets.refusing import refusal, unpriced
from farthing.budgets.seeding import matches, seed

__all__ = [
    "Applying",
    "Limits",
    "account",
    "matches",
    "refusal",
    "resets_at",
    "seed",
    "slices",
    "starts_at",
    "subject",
    "unpriced",
]
