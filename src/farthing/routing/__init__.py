"""Which upstream serves a call, and which one next when it fails or declines."""

from farthing.routing.breaker import Health
from farthing.routing.cascading import Exceeds, Standing, Watch, above, agree, shown
from farthing.routing.retrying import Judgement, backoff, classify, may_retry
from farthing.routing.table import RouteTable, order

__all__ = [
    "Exceeds",
    "Health",
    "Judgement",
    "RouteTable",
    "Standing",
    "Watch",
    "above",
    "agree",
    "backoff",
    "classify",
    "may_retry",
    "order",
    "shown",
]
