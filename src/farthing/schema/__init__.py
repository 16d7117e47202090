"""The nouns of Farthing: frozen records, no I/O."""

from farthing.schema.call import Call, Caller, Dialect, Endpoint, dialect_of
from farthing.schema.entry import CacheState, Entry
from farthing.schema.exchange import Attempt, Decision, Exchange, Fact
from farthing.schema.money import PICO_PER_USD, Charge, usd
from farthing.schema.reply import Ending, Headers, Reply
from farthing.schema.usage import CACHE_WRITE_METERS, FEE_METERS, METERS, Usage, UsageSource

__all__ = [
    "CACHE_WRITE_METERS",
    "FEE_METERS",
    "METERS",
    "PICO_PER_USD",
    "Attempt",
    "CacheState",
    "Call",
    "Caller",
    "Charge",
    "Decision",
    "Dialect",
    "Ending",
    "Endpoint",
    "Entry",
    "Exchange",
    "Fact",
    "Headers",
    "Reply",
    "Usage",
    "UsageSource",
    "dialect_of",
    "usd",
]
