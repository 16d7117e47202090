"""The advisor service: runs recorded traffic against a policy, in virtual time."""

from farthing.advisor.replay import Handle, OpenRecords, Replayed, moved_to, replay
from farthing.advisor.virtual_time import VirtualClock, VirtualLoop

__all__ = [
    "Handle",
    "OpenRecords",
    "Replayed",
    "VirtualClock",
    "VirtualLoop",
    "moved_to",
    "replay",
]
