"""The nouns of Farthing: frozen records, no I/O."""

from farthing.schema.artefact import Artefact, Task
from farthing.schema.call import Call, Caller, Dialect, Endpoint, dialect_of
from farthing.schema.entry import CacheState, Entry
from farthing.schema.exchange import Attempt, Decision, Exchange, Fact
from farthing.schema.key import GatewayKey
from farthing.schema.limit import Account, Balance, Claim, Hold, Limit, LimitMeter, Period, Resolution, Verdict
from farthing.schema.money import PICO_PER_USD, Charge, usd
from farthing.schema.policy import Fallback, Policy, Route, SharingRules
from farthing.schema.reply import Ending, Reply
from farthing.schema.rollup import DIMENSIONS, HOUR, Cell, Histogram, Rollup, Sums
from farthing.schema.traffic import OFFSETS_END, Recorded, read_recorded, write_recorded
from farthing.schema.usage import CACHE_WRITE_METERS, FEE_METERS, METERS, Usage, UsageSource
from farthing.schema.wire import Headers

__all__ = [
    "CACHE_WRITE_METERS",
    "DIMENSIONS",
    "FEE_METERS",
    "HOUR",
    "METERS",
    "OFFSETS_END",
    "PICO_PER_USD",
    "Account",
    "Artefact",
    "Attempt",
    "Balance",
    "CacheState",
    "Call",
    "Caller",
    "Cell",
    "Charge",
    "Claim",
    "Decision",
    "Dialect",
    "Ending",
    "Endpoint",
    "Entry",
    "Exchange",
    "Fact",
    "Fallback",
    "GatewayKey",
    "Headers",
    "Histogram",
    "Hold",
    "Limit",
    "LimitMeter",
    "Period",
    "Policy",
    "Recorded",
    "Reply",
    "Resolution",
    "Rollup",
    "Route",
    "SharingRules",
    "Sums",
    "Task",
    "Usage",
    "UsageSource",
    "Verdict",
    "dialect_of",
    "read_recorded",
    "usd",
    "write_recorded",
]
