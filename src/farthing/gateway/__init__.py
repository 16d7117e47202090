"""The gateway service: takes a call through its stages, and settles it."""

from farthing.gateway.ask import Ask
from farthing.gateway.attempt import Buyer, Source
from farthing.gateway.audits import Audits
from farthing.gateway.catalogue import Catalogue
from farthing.gateway.holding import Holds
from farthing.gateway.keyring import Keyring
from farthing.gateway.lookup import LookUp, ReplyCache
from farthing.gateway.market import Market
from farthing.gateway.pipeline import Pipeline
from farthing.gateway.repeats import Repeats
from farthing.gateway.reserve import Reserve
from farthing.gateway.settle import Settlement, Watcher

__all__ = [
    "Ask",
    "Audits",
    "Buyer",
    "Catalogue",
    "Holds",
    "Keyring",
    "LookUp",
    "Market",
    "Pipeline",
    "Repeats",
    "ReplyCache",
    "Reserve",
    "Settlement",
    "Source",
    "Watcher",
]
