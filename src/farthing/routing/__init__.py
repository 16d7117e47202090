"""Which upstream serves a call, and which one next when it fails."""

from farthing.routing.breaker import Health
from farthing.routing.retrying import Judgement, backoff, classify, may_retry
from farthing.routing.table import RouteTable, order

__all__ = ["Health", "Judgement", "RouteTable", "backoff", "classify", "may_retry", "order"]
