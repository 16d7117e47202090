"""Energy counters of the processor (RAPL), where they may be read."""

from pathlib import Path
from typing import Final, NamedTuple

POWERCAP: Final = Path("/sys/class/powercap")


class Counter(NamedTuple):
    """One package's counter, in microjoules, which begins anew beyond `limit`."""

    file: Path
    limit: int


def counters(folder: Path = POWERCAP) -> list[Counter]:
    """The packages' counters that are readable: on many machines by root alone, and in most guests none."""
    found = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:
            continue  # a part of a package, which the package counts too
        try:
            (zone / "energy_uj").read_text()
            found.append(Counter(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
        except (OSError, ValueError):
            continue
    return found


def reading(found: list[Counter]) -> list[int]:
    """What the counters stand at."""
    return [int(one.file.read_text()) for one in found]


def joules(found: list[Counter], before: list[int], after: list[int]) -> float:
    """Energy between two readings of all counters, each of which may have begun anew once."""
    return sum((end - start) % (one.limit + 1) for one, start, end in zip(found, before, after, strict=True)) / 1e6
