"""Comparing the ledger with a provider's bill, and saying where and why they differ."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from farthing.cli.figures import counted, dollars
from farthing.cli.ledgers import ledger_of
from farthing.cli.render import strong, table
from farthing.config import Settings
from farthing.importers.billing import read_bill
from farthing.ledger.reconcile import (
    JUDGED,
    Cause,
    Days,
    Gap,
    Gaps,
    Measure,
    Reason,
    Reconciliation,
    Row,
    doubtful,
    explain,
    reconcile,
)

MOST_EXPLAINED = 12
SECOND = 10**9

NAMES: dict[Measure, str] = {"tokens": "tokens", "cost": "dollars"}
SEEN = {"both": "", "billed": "only billed", "entered": "only entered"}
CAUSES: dict[Cause, str] = {
    "not_entered": "billed and not entered: were they asked with a key that Farthing does not hold?",
    "not_billed": "entered and not billed: was an answer cut off, or is the bill not complete yet?",
    "price": "the tokens agree and the price does not: see prices.overrides and `farthing ledger rerate`",
    "estimated": "entered by an estimate, for no provider reported their usage",
    "unpriced": "entered without a price, so their cost is missing",
    "unanswered": "entered with an error, and perhaps not billed",
    "settled_next_day": "settled after midnight, and perhaps billed on the next day",
    "from_day_before": "of the day before settled on this one, and perhaps billed on it",
    "forgotten": "the entries of this day are no longer kept (ledger.retention_days)",
}


def reconciled(settings: Settings, files: Sequence[Path], tolerance: Fraction, now: int) -> Reconciliation:
    """Compare the ledger with the bill in some files, at `now` (Unix ns), and explain the rows that are off.

    Raises TrafficError when a file is no export of a provider's, LedgerError when there is no ledger.
    """
    bill = read_bill(files)
    with ledger_of(settings) as ledger:
        found = reconcile(bill, ledger.rollups(), now, tolerance)
        span = doubtful(found)
        return explain(found, ledger.entries(*span)) if span else found


def in_words(found: Reconciliation) -> str:
    """A verdict, the models, and the rows that are off with what explains them."""
    return "\n".join(_lines(found))


def _lines(found: Reconciliation) -> Iterator[str]:
    judged = [measure for measure in JUDGED if measure in found.totals]
    verdict = f"{'differ by more than' if found.off else 'agree within'} {100 * found.tolerance:g} %"
    if not found.comparable:
        verdict = "have no whole day in common"
    yield strong(f"The ledger and the bill of {found.provider} {verdict}.")
    for measure, days in found.days.items():
        if measure in JUDGED:
            yield f"{NAMES[measure]}: {_window(days)}"
    if found.more:
        yield "The export goes on in further pages, which are not in these files."
    if found.simulated:
        yield f"Left out: {counted(found.simulated, 'simulated attempt')}, which nobody bills."
    if judged:
        yield ""
        heads = ("model", *(head for m in judged for head in (NAMES[m], "billed", "gap")), "")
        rows = [(each.model, *_cells(each.gaps, judged), SEEN[each.seen]) for each in found.models]
        yield table(heads, [*rows, ("in all", *_cells(found.totals, judged), "")])
    yield from _explained([row for row in found.rows if row.off], judged)


def _explained(rows: Sequence[Row], judged: Sequence[Measure]) -> Iterator[str]:
    dearest = sorted(rows, key=lambda row: [-abs(row.gaps.get(m, Gap()).difference) for m in reversed(judged)])
    for row in dearest[:MOST_EXPLAINED]:
        gaps = ", ".join(
            f"{NAMES[m]} {_figure(m, row.gaps[m].ours)} for {_figure(m, row.gaps[m].billed)} billed"
            for m in judged
            if m in row.gaps
        )
        yield f"\n{strong(f'{date(row.day)} {row.model}')}: {gaps}"
        yield from (f"  {_reason(reason)}" for reason in row.reasons)
    if left := len(dearest[MOST_EXPLAINED:]):
        yield f"\n{counted(left, 'smaller difference')} more: --json has them all."


def _reason(reason: Reason) -> str:
    figures = (
        counted(reason.attempts, "attempt") if reason.attempts else "",
        counted(reason.tokens, "token") if reason.tokens else "",
        dollars(reason.cost) if reason.cost else "",
    )
    amount = ", ".join(filter(None, figures))
    return f"{amount} {CAUSES[reason.cause]}" if amount else CAUSES[reason.cause]


def _window(days: Days) -> str:
    left_out = (
        (days.unfinished, "not over yet"),
        (days.before, "from before the ledger began"),
        (days.unbilled, "not told of by the bill in full"),
    )
    notes = ", ".join(f"{count:,} {why}" for count, why in left_out if count)
    if days.first is None or days.last is None:
        return f"no day in common ({notes or 'the bill tells of no whole day'})"
    compared = f"{counted(days.compared, 'day')} compared, {date(days.first)} to {date(days.last)} UTC"
    return f"{compared}; left out: {notes}" if notes else compared


def _cells(gaps: Gaps, judged: Sequence[Measure]) -> Iterator[str]:
    for measure in judged:
        gap = gaps.get(measure)
        yield from (_figure(measure, gap.ours), _figure(measure, gap.billed), _ratio(gap)) if gap else ("", "", "")


def _figure(measure: Measure, amount: int) -> str:
    return dollars(amount) if measure == "cost" else f"{amount:,}"


def _ratio(gap: Gap) -> str:
    """What the ledger has more, as a share of what was billed; enough digits to see the smallest."""
    if not gap.difference:
        return "0"
    if not gap.billed:
        return "-"
    share = Decimal(100 * gap.difference) / gap.billed
    return f"{share:+.2f} %" if abs(share) >= Decimal("0.01") else f"{share:+.1g} %"


def date(day: int) -> str:
    """A UTC day as people write it.

    >>> date(86_400 * SECOND)
    '1970-01-02'
    """
    return f"{datetime.fromtimestamp(day // SECOND, UTC):%Y-%m-%d}"
