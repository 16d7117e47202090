"""How long to measure: the full run is what is published, the quick one is for while you work."""

import msgspec

WARM_UP = 1
"""Seconds of load before the first sample."""


class Effort(msgspec.Struct, frozen=True):
    """Repetitions and sizes; a figure is the median of `rounds` samples. `artefact` is the folder of the model that
    the engine serves, one of a usual student's size unless given."""

    rounds: int = 5
    seconds: int = 2
    pairs: int = 1500
    streams: int = 256
    requests: int = 100_000
    starts: int = 9
    entries: int = 20_000
    replayed: int = 50_000
    install: bool = True
    artefact: str = ""


FULL = Effort()
QUICK = Effort(rounds=3, seconds=1, pairs=500, requests=20_000, starts=5, replayed=20_000, install=False)
