"""The levels of the exact cache: answers in memory, and answers on disk that survive a restart."""

import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from farthing.ports import Kept
from farthing.schema import Reply
from farthing.stores import bulk
from farthing.stores.write_behind import WriteBehind

log = logging.getLogger(__name__)

OVERHEAD = 1400
"""Bytes that a reply with usage and charge takes in memory beside its body and headers."""
HEADER_OVERHEAD = 170
"""Bytes that one header takes beside its text."""
LARGEST = 8
"""A reply may take one part in so many of a level."""


class MemoryReplies:
    """Replies in memory, bounded in bytes: the one used longest ago goes first."""

    def __init__(self, room: int) -> None:
        self._held: OrderedDict[bytes, Kept] = OrderedDict()
        self._room = room
        self._largest = room // LARGEST

    def get(self, key: bytes, now: int) -> Kept | None:
        """The reply kept under `key`, unless it expired by `now`."""
        kept = self._held.get(key)
        if kept is None:
            return None
        if kept.expires <= now:
            self._drop(key)
            return None
        self._held.move_to_end(key)
        return kept

    def put(self, key: bytes, reply: Reply, expires: int) -> None:
        """Keep a reply, in the place of those used longest ago."""
        self._drop(key)
        size = weight(key, reply)
        if size > self._largest:
            return
        self._room -= size
        self._held[key] = Kept(reply, expires)
        while self._room < 0:
            self._drop(next(iter(self._held)))

    def close(self) -> None:
        """Forget everything."""
        self._held.clear()

    def _drop(self, key: bytes) -> None:
        kept = self._held.pop(key, None)
        if kept is not None:
            self._room += weight(key, kept.reply)


def weight(key: bytes, reply: Reply) -> int:
    """About how many bytes a reply takes in memory."""
    headers = sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in reply.headers)
    return len(key) + len(reply.body) + len(reply.tail) + headers + OVERHEAD
