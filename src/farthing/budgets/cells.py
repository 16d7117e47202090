"""Cells: the arithmetic of accounts, the same in every store that can read before it writes.

A store that keeps its data elsewhere makes a `Cells` for each batch, inside one transaction that keeps others out:

1. put the holds whose ids the batch names into `holds`;
2. ask `reach` which accounts it touches; put those of them that were seeded into `known`, and their cells into `cells`;
3. call `apply` (or `expire`);
4. write `rows()`, delete the holds in `gone`, then write those in `kept`; `opened` names the accounts with a new slice,
   of which all but the newest `KEPT_SLICES` may be forgotten where nothing is held or expired;
5. commit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from farthing.schema import Balance, Claim, Hold, Resolution, Verdict

MOST = 2**63 - 1
"""The largest amount of a cell, as stores keep 64 bits; what is more counts as this."""

KEPT_SLICES = 26
"""Slices of an account that stores keep: twice what a rolling period has, so that a late call finds its own."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """A hold as stores keep it: whose it is, and whether that owner was taken for dead since."""

    hold: Hold
    owner: str
    expired: bool = False


class Cells:
    """What a store has loaded of its accounts and holds, and what became of it.

    `cells` has [spent, held, expired] by account and slice; `known` the accounts that were seeded; `holds` those that
    are there, by id. What changed: `kept` are holds to write, `gone` ids to delete before that.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.cells: dict[str, dict[int, list[int]]] = {}
        self.holds: dict[str, Held] = {}
        self.kept: dict[str, Held] = {}
        self.gone: set[str] = set()
        self.opened: set[str] = set()
        self._changed: dict[tuple[str, int], list[int]] = {}

    def reach(self, ids: Iterable[str], holds: Iterable[Hold] = ()) -> dict[str, int]:
        """The accounts that ending the holds `ids` and making `holds` touches, each with its oldest slice needed."""
        oldest: dict[str, int] = {}
        for ident in ids:
            held = self.holds.get(ident)
            for claim in held.hold.claims if held is not None else ():
                if claim.slice < oldest.get(claim.account, MOST):
                    oldest[claim.account] = claim.slice
        for hold in holds:
            for claim in hold.claims:
                if claim.oldest < oldest.get(claim.account, MOST):
                    oldest[claim.account] = claim.oldest
        return oldest

    def apply(self, owner: str, resolutions: Sequence[Resolution], holds: Sequence[Hold]) -> list[Verdict]:
        """Resolve, then hold for `owner`, each in order; a verdict for each hold."""
        for resolution in resolutions:
            self.resolve(resolution)
        return [self.hold(owner, hold) for hold in holds]

    def resolve(self, resolution: Resolution) -> None:
        """Post what a hold came to, and release it; nothing, when it is not there."""
        held = self.holds.pop(resolution.id, None)
        if held is None:
            return
        self.kept.pop(resolution.id, None)
        self.gone.add(resolution.id)
        for claim in held.hold.claims:
            if held.expired:
                self._add(claim, resolution.used(claim), 0, -outliving(claim))
            else:
                self._add(claim, resolution.used(claim), -claim.amount, 0)

    def hold(self, owner: str, hold: Hold) -> Verdict:
        """Take all of a hold's claims, or none; what is there already is granted without taking it twice."""
        unknown = [claim.account for claim in hold.claims if claim.meter == "usd" and claim.account not in self.known]
        if unknown:
            return Verdict(False, unknown=tuple(dict.fromkeys(unknown)))
        balances = tuple([self.balance(claim.account, claim.oldest) for claim in hold.claims])
        if hold.id in self.holds:
            return Verdict(True, balances)
        for place, claim in enumerate(hold.claims):
            if claim.limit is not None and balances[place].total + claim.amount > claim.limit:
                return Verdict(False, balances, place)
        for claim in hold.claims:
            self._add(claim, 0, claim.amount, 0)
        self.holds[hold.id] = self.kept[hold.id] = Held(hold, owner)
        return Verdict(True, balances)

    def expire(self, ids: Iterable[str]) -> None:
        """Note that the owner of these holds is taken for dead: what they hold has expired."""
        for ident in ids:
            held = self.holds[ident]
            if held.expired:
                continue
            self.holds[ident] = self.kept[ident] = Held(held.hold, held.owner, True)
            for claim in held.hold.claims:
                self._add(claim, 0, -claim.amount, outliving(claim))

    def seed(self, account: str, spent: Mapping[int, int]) -> None:
        """Make an account known, with what was spent by slice; one that is known stays as it is."""
        if account in self.known:
            return
        self.known.add(account)
        for slice_, amount in spent.items():
            cell = self._cell(account, slice_)
            cell[0] = min(cell[0] + max(amount, 0), MOST)

    def balance(self, account: str, oldest: int) -> Balance:
        """What counts in an account from the slice `oldest` on."""
        spent = held = expired = 0
        for slice_, cell in self.cells.get(account, _EMPTY).items():
            if slice_ >= oldest:
                spent += cell[0]
                held += cell[1]
                expired += cell[2]
        return Balance(spent, held, expired)

    def rows(self) -> Iterator[tuple[str, int, int, int, int]]:
        """The cells that changed: account, slice, spent, held, expired."""
        for (account, slice_), (spent, held, expired) in self._changed.items():
            yield account, slice_, spent, held, expired

    def settle(self) -> None:
        """For a store that has nothing to write: forget what changed, and slices too old to count."""
        for account in self.opened:
            slices = self.cells[account]
            for slice_ in sorted(slices)[:-KEPT_SLICES]:
                if not any(slices[slice_][1:]):
                    del slices[slice_]
        for changes in (self.kept, self.gone, self.opened, self._changed):
            changes.clear()

    def _add(self, claim: Claim, spent: int, held: int, expired: int) -> None:
        """Add to the cell of a claim."""
        cell = self._cell(claim.account, claim.slice)
        cell[0] += spent
        cell[1] += held
        cell[2] += expired
        if cell[1] < 0 or cell[2] < 0 or cell[0] > MOST or cell[1] > MOST or cell[2] > MOST:
            cell[:] = [min(max(amount, 0), MOST) for amount in cell]

    def _cell(self, account: str, slice_: int) -> list[int]:
        """A cell that is about to change."""
        cell = self._changed.get((account, slice_))
        if cell is not None:
            return cell
        slices = self.cells.get(account)
        if slices is None:
            slices = self.cells[account] = {}
        cell = slices.get(slice_)
        if cell is None:
            self.opened.add(account)
            cell = slices[slice_] = [0, 0, 0]
        self._changed[account, slice_] = cell
        return cell


_EMPTY: dict[int, list[int]] = {}


def outliving(claim: Claim) -> int:
    """What a claim counts for once its owner died: attempts under way end with their process, money may be owed."""
    return 0 if claim.meter == "concurrent" else claim.amount
