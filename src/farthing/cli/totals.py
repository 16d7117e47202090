"""What a set of calls comes to, in lines."""

from collections.abc import Iterator

from farthing.cli.figures import at_least, counted, dollars, duration, growth, percent, share
from farthing.cli.render import table
from farthing.ledger.report import Change, Figures


def in_lines(total: Figures, change: Change | None = None, *, timed: bool = True) -> Iterator[str]:
    """A table of figures, with their change if it is given, and remarks; durations only of calls that were `timed`."""
    yield table(("", "", ""), [*_rows(total, change), *(_durations(total) if timed else ())])
    if total.unpriced:
        yield f"No price is known for {counted(total.unpriced, 'attempt')}, so what was paid is a lower bound."
    if total.estimated:
        yield f"The usage of {counted(total.estimated, 'attempt')} is estimated, for no provider reported it."


def _rows(total: Figures, change: Change | None) -> Iterator[tuple[str, str, str]]:
    yield "list cost", at_least(total.list, total.unpriced), ""
    yield "paid", at_least(total.paid, total.unpriced), growth(change.paid) if change else ""
    yield "saved", dollars(total.saved), share(total.saved, total.list)
    for lever, amount in total.saved_by_lever.items():
        yield f"  by {lever}", dollars(amount), share(amount, total.list)
    yield "paid per 1k calls", at_least(total.cost_per_1k, total.unpriced), growth(change.cost_per_1k) if change else ""
    yield "answered from the cache", f"{total.hits:,}", percent(total.hit_ratio)
    yield "tokens in / out", f"{total.input_tokens:,} / {total.output_tokens:,}", ""
    yield "errors", f"{total.errors:,}", share(total.errors, total.calls)


def _durations(total: Figures) -> Iterator[tuple[str, str, str]]:
    yield "overhead p50 / p99", f"{duration(total.overhead.p50)} / {duration(total.overhead.p99)}", ""
    yield "latency p50 / p99", f"{duration(total.latency.p50)} / {duration(total.latency.p99)}", ""
