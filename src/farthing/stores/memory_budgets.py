"""MemoryBudgets: what limits count, for one process that need not remember: tests, and replay."""

import asyncio
from collections.abc import Mapping, Sequence

from farthing.budgets.cells import Cells
from farthing.errors import StoreError
from farthing.ports import LEASE_SECONDS
from farthing.schema import Balance, Hold, Resolution, Verdict


class MemoryBudgets:
    """Implements `farthing.ports.BudgetStore` in memory; leases are measured by the event loop's time."""

    def __init__(self, owner: str = "") -> None:
        self._owner = owner
        self._cells = Cells()
        self._seen: dict[str, float] = {}
        self._closed = False

    @classmethod
    def sharing(cls, other: "MemoryBudgets", owner: str) -> "MemoryBudgets":
        """The same store, for another owner."""
        store = cls(owner)
        store._cells, store._seen = other._cells, other._seen
        return store

    async def apply(self, resolutions: Sequence[Resolution], holds: Sequence[Hold]) -> list[Verdict]:
        """Resolve, then hold."""
        cells = self._open()
        self._seen.setdefault(self._owner, asyncio.get_running_loop().time())
        verdicts = cells.apply(self._owner, resolutions, holds)
        cells.settle()
        return verdicts

    async def seed(self, account: str, spent: Mapping[int, int]) -> None:
        """Make an account known, with what was spent already by slice."""
        cells = self._open()
        cells.seed(account, spent)
        cells.settle()

    async def balance(self, account: str, oldest: int) -> Balance:
        """What counts in an account from the slice `oldest` on."""
        return self._open().balance(account, oldest)

    async def accounts(self) -> list[str]:
        """Every account that was seeded, or has something to count."""
        cells = self._open()
        return sorted(cells.known | cells.cells.keys())

    async def beat(self) -> None:
        """Say that this owner lives; what those hold who were silent for too long expires."""
        cells = self._open()
        now = asyncio.get_running_loop().time()
        self._seen[self._owner] = now
        silent = {owner for owner, seen in self._seen.items() if seen < now - LEASE_SECONDS}
        cells.expire([ident for ident, held in cells.holds.items() if held.owner in silent])
        cells.settle()

    async def orphans(self) -> list[Hold]:
        """This owner's holds."""
        return [held.hold for held in self._open().holds.values() if held.owner == self._owner]

    async def close(self) -> None:
        """Others that share it keep it."""
        self._closed = True

    def _open(self) -> Cells:
        if self._closed:
            raise StoreError("What limits count is asked for after its store was closed.", hint="Report this.")
        return self._cells
