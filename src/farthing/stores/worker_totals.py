"""WorkerTotals: what the processes of one gateway have each added up, for whichever of them is asked."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from farthing.routing import Standing
from farthing.schema import Rollup


class Totals(msgspec.Struct, frozen=True):
    """One process's sums since it started, and what it is busy with."""

    rollups: Sequence[Rollup] = ()
    in_flight: int = 0
    journal_lag: int = 0
    shed: int = 0
    rungs: Sequence[Standing] = ()


_DECODER = msgspec.msgpack.Decoder(Totals)


class WorkerTotals:
    """A directory with one file for each process that ever worked since the gateway was started.

    The file of a process that died stays, so that no counter falls; what it was busy with no longer counts.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own = directory / str(os.getpid())
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def tell(self, totals: Totals) -> None:
        """Let the others know. Raises `OSError`."""
        draft = self._own.with_suffix(".new")
        draft.write_bytes(msgspec.msgpack.encode(totals))
        draft.replace(self._own)

    def others(self) -> Totals:
        """The sum of what the others told last."""
        told = list(self._told())
        return Totals(
            [rollup for totals, _ in told for rollup in totals.rollups],
            sum(totals.in_flight for totals, alive in told if alive),
            sum(totals.journal_lag for totals, alive in told if alive),
            sum(totals.shed for totals, _ in told),
            [rung if alive else replace(rung, stepped_aside=False) for totals, alive in told for rung in totals.rungs],
        )

    def _told(self) -> Iterator[tuple[Totals, bool]]:
        for path in self._directory.iterdir():
            if path != self._own and path.name.isdigit():
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    yield _DECODER.decode(path.read_bytes()), _is_alive(int(path.name))


def forget_totals(directory: Path) -> None:
    """Begin anew: what a gateway that was stopped had added up is not this one's."""
    if directory.is_dir():
        for path in directory.iterdir():
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
