"""Bills: what providers say that they sold, by model and UTC day, from the exports of their usage and cost reports."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from farthing.errors import TrafficError
from farthing.importers.billing import anthropic, openai, openrouter
from farthing.importers.billing.sheet import Sheet, read_sheet
from farthing.importers.reading import unreadable
from farthing.ledger.reconcile import Bill

__all__ = ["EXPORTS", "Export", "read_bill"]


class Export(msgspec.Struct, frozen=True):
    """One kind of report: what it is, and the members or columns that its results are known by."""

    title: str
    names: frozenset[str]
    read: Callable[[Sheet], Bill]


EXPORTS = (
    Export("OpenAI usage", openai.USAGE_NAMES, openai.usage),
    Export("OpenAI costs", openai.COST_NAMES, openai.costs),
    Export("OpenAI costs as CSV", openai.COST_COLUMNS, openai.costs),
    Export("Anthropic usage report", anthropic.USAGE_NAMES, anthropic.usage),
    Export("Anthropic cost report", anthropic.COST_NAMES, anthropic.costs),
    Export("OpenRouter activity", openrouter.ACTIVITY_NAMES, openrouter.activity),
    Export("OpenRouter generations", openrouter.GENERATION_NAMES, openrouter.generations),
    Export("OpenRouter generations as CSV", openrouter.GENERATION_COLUMNS, openrouter.generations),
)


def read_bill(files: Sequence[Path]) -> Bill:
    """The bill that some exports of one provider make up, say its usage and its costs.

    Raises TrafficError when a file is not such an export, or they are of several providers.
    """
    sheets = [_opened(file) for file in files]
    _refuse_twice(sheets)
    bills = [_read(sheet) for sheet in sheets]
    providers = sorted({bill.provider for bill in bills})
    if len(providers) > 1:
        hint = "Name the exports of one provider at a time."
        raise TrafficError(f"The files are of several providers: {', '.join(providers)}.", hint=hint)
    return Bill(
        providers[0],
        tuple(line for bill in bills for line in bill.lines),
        {
            measure: frozenset().union(*(bill.days.get(measure, ()) for bill in bills))
            for bill in bills
            for measure in bill.days
        },
        any(bill.more for bill in bills),
    )


def _opened(file: Path) -> Sheet:
    try:
        return read_sheet(file)
    except OSError as error:
        raise TrafficError(f"{file} cannot be read: {error.strerror}.", hint="Name a provider's export.") from None


def _refuse_twice(sheets: Sequence[Sheet]) -> None:
    """Results of one export differ in what they are grouped by, so equal ones are of pages that overlap."""
    seen = set()
    for sheet in sheets:
        for place, row in sheet.rows:
            same = repr(sorted(row.items()))
            if same in seen:
                raise unreadable(sheet.path, place, "this result is there twice.", "Leave out pages that overlap.")
            seen.add(same)


def _read(sheet: Sheet) -> Bill:
    for export in EXPORTS:
        if any(export.names <= row.keys() for _, row in sheet.rows):
            return export.read(sheet)
    known = "; ".join(export.title for export in EXPORTS)
    found = f"its first result has {', '.join(sorted(sheet.rows[0][1])[:8])}" if sheet.rows else "it has no results"
    raise TrafficError(
        f"{sheet.path} is no export of usage or costs in a known form: {found}.", hint=f"Known: {known}."
    )
