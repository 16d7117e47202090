"""The gateway service: takes a call through its stages, and settles it."""

from farthing.gateway.ask import Ask, Source
from farthing.gateway.catalogue import Catalogue
from farthing.gateway.keyring import Keyring
from farthing.gateway.lookup import LookUp, ReplyCache
from farthing.gateway.pipeline import Pipeline
from farthing.gateway.settle import Settlement, Watcher

__all__ = ["Ask", "Catalogue", "Keyring", "LookUp", "Pipeline", "ReplyCache", "Settlement", "Source", "Watcher"]
