"""WriteBehind: what may be lost, written in batches by a thread of its own."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

PAUSE = 0.4
"""Seconds between two batches."""
MOST = 1000
"""Items per batch: each costs the interpreter some microseconds in a row."""


class WriteBehind(Generic[Key, Value]):
    """Holds values until `write` has taken them, in batches; never blocks who puts one.

    What does not fit in `room` bytes is dropped, and counted in `dropped`. `write` runs in a thread of its own and
    deals with its own failures; it is called with no items when there is nothing to write.
    """

    def __init__(self, name: str, write: Callable[[Sequence[tuple[Key, Value]]], None], room: int) -> None:
        self._write = write
        self._room = room
        self._crowded = room * 3 // 4
        self._waiting: dict[Key, tuple[Value, int]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._hurry = self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, key: Key, value: Value, size: int) -> None:
        """Write a value of `size` bytes soon, or drop it when there is no room."""
        with self._lock:
            before = self._waiting.pop(key, None)
            room = self._room + (before[1] if before else 0)
            if size > room:
                self.dropped += 1
            else:
                self._waiting[key] = value, size
                room -= size
            if room < self._crowded <= self._room:
                self._hurry = True
                self._changed.notify_all()
            self._room = room

    def get(self, key: Key) -> Value | None:
        """A value that is not written yet."""
        waiting = self._waiting.get(key)
        return waiting[0] if waiting else None

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits; whether that came within `timeout` seconds."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def close(self) -> None:
        """Write what waits, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while not (self._closing and not self._waiting):
            with self._changed:
                self._changed.wait_for(lambda: self._hurry or self._closing, PAUSE)
                self._hurry = False
            self._step()
            while self._waiting:
                self._step()

    def _step(self) -> None:
        with self._changed:
            batch = [(key, held) for (key, held), _ in zip(self._waiting.items(), range(MOST), strict=False)]
        self._write([(key, value) for key, (value, _) in batch])
        with self._changed:
            for key, held in batch:
                if self._waiting.get(key) is held:
                    del self._waiting[key]
                    self._room += held[1]
            self._changed.notify_all()
