"""`farthing compress drift`: how the small models of cascades do, and whether they still agree with the large ones."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from time import time_ns

import click
import msgspec

from farthing import dialects
from farthing.cli.asking import Asked, verb
from farthing.cli.compressing_needs import needing
from farthing.cli.configured import configuration
from farthing.cli.figures import at_least, counted, dollars, percent
from farthing.cli.ledgers import ledger_of
from farthing.cli.render import answer, say, strong, table
from farthing.cli.when import instant, shown
from farthing.compress.data.conversations import asked as text_asked
from farthing.config import Settings
from farthing.errors import ConfigError, UpstreamGarbage
from farthing.evaluation.drift import exceeds
from farthing.ledger.drift import Rules, Rung, is_audit, rungs
from farthing.schema import PICO_PER_USD, Call, Entry, Recorded, Reply
from farthing.stores.bodies import Bodies, Body
from farthing.stores.retention import Retention
from farthing.wiring.serving import SystemClock


class Drifted(msgspec.Struct, frozen=True):
    """What the ledger says since an instant (Unix ns) of every rung; `gate` is what disagreement is held against."""

    since: int
    gate: float
    rungs: tuple[Rung, ...]
    training_usd: float | None
    exported: int | None


@click.command()
@click.option("--since", default="7d", show_default=True, metavar="WHEN", help="A date and time (UTC), or a span.")
@click.option(
    "--gate", default=0.05, show_default=True, type=click.FloatRange(0, 1), help="The highest share that may disagree."
)
@click.option("--training", type=click.FloatRange(0), metavar="USD", help="What making the small model cost.")
@click.option(
    "--export",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write texts with the large model's answers as labels, to learn from (needs ledger.bodies).",
)
@verb
def command(asked: Asked, since: str, gate: float, training: float | None, file: Path | None) -> None:
    """Say how often small models were asked, what they saved, and whether they still agree with the large ones.

    Reads the audits in the ledger; exit 1 when disagreement is proven to exceed the gate for any rung, however often
    this is asked (a false alarm in one of twenty watches at most). What is exported can be named as another `train`
    file of a job, and `farthing compress run` then learns from it.
    """
    with needing("engine"):
        from farthing.evaluation.intervals import wilson
    settings, began = configuration(asked).settings, instant(since, time_ns())
    with ledger_of(settings) as ledger:
        found = rungs(ledger.entries(began), Rules(gate, exceeds, wilson))
        exported = _export(settings, ledger.entries(began), file) if file is not None else None
    if file is not None:
        say(asked, f"{counted(exported or 0, 'text')} in {file}")
    answer(asked, "farthing.compress.drift/1", Drifted(began, gate, found, training, exported), _in_words)
    click.get_current_context().exit(1 if any(rung.exceeded for rung in found) else 0)


# -- in words


def _in_words(drifted: Drifted) -> str:
    return "\n".join(_lines(drifted))


def _lines(drifted: Drifted) -> Iterator[str]:
    if not drifted.rungs:
        yield f"The ledger tells of no cascade since {shown(drifted.since)}: no route has `accept` or `audit`."
        return
    for rung in drifted.rungs:
        calls = rung.answered + rung.escalated + rung.stepped_aside
        yield strong(f"{rung.upstream} for {rung.model}: {counted(calls, 'call')} since {shown(drifted.since)}")
        yield f"  answered {_part(rung.answered, calls)}, escalated {_part(rung.escalated, calls)}" + (
            f", stood aside for {_part(rung.stepped_aside, calls)}" if rung.stepped_aside else ""
        )
        yield f"  {_verdict(rung, drifted.gate)}"
        yield from _money(rung, drifted.training_usd)
        if rung.confusions:
            yield ""
            heads = ("answered", "instead of", "times")
            rows = [(one.answer or "(prose)", one.reference or "(prose)", f"{one.times:,}") for one in rung.confusions]
            yield table(heads, rows, labels=2)
        yield ""


def _part(calls: int, of: int) -> str:
    return f"{calls:,} ({percent(calls / of if of else None)})"


def _verdict(rung: Rung, gate: float) -> str:
    if rung.share is None:
        return "no answer was audited, so nothing is known of its errors: give its route an `audit`"
    seen = f"{rung.disagreed:,} of {rung.audited:,} audited answers differ: {percent(rung.share)}"
    where = f"{100 * rung.low:.1f} to {percent(rung.high)} at 95 %"
    verdict = "MORE than" if rung.exceeded else "not proven to be more than"
    return f"{seen} ({where}), {verdict} the gate of {percent(gate)}"


def _money(rung: Rung, training: float | None) -> Iterator[str]:
    yield (
        f"  it cost {at_least(rung.cost, rung.unpriced)}, its audits {at_least(rung.audit_cost, rung.unpriced)}, "
        f"what it escalated {at_least(rung.escalated_cost, rung.unpriced)}"
    )
    if rung.spared is None:
        yield "  what it saved is not known: audits of known cost would tell"
        return
    spared, net = rung.spared, rung.net
    between = f"{dollars(spared.low)} to {dollars(spared.high)} at 95 %"
    yield f"  the next rank would have cost {dollars(spared.amount)} for what it answered ({between}), by its audits"
    if net is None:
        return
    yield f"  so it saved {dollars(net)}"
    if training is not None:
        yield f"  {_paid_back(training, net, rung.answered + rung.escalated)}"


def _paid_back(training: float, net: int, calls: int) -> str:
    if net <= 0 or not calls:
        return f"making it for ${training:,.2f} is not paid back at this rate"
    needed = round(training * PICO_PER_USD * calls / net)
    return f"making it for ${training:,.2f} is paid back after {needed:,} calls, of which these were {calls:,}"


# -- texts to learn from


def _export(settings: Settings, entries: Iterable[Entry], file: Path) -> int:
    """Write what was escalated or audited, as texts and the large model's answers; how many there are."""
    place = Path(settings.ledger.path) / "bodies.sqlite"
    if not place.exists():
        raise ConfigError(
            f"There are no texts to export: {place} is not there.", hint="Set ledger.bodies = true, and wait for calls."
        )
    retention = Retention(settings.ledger.bodies_days, SystemClock())
    seen: set[str] = set()
    try:
        with closing(Bodies(place, retention)) as bodies, file.open("wb") as out:
            for entry, name in _taught(entries):
                body = bodies.get(name)
                example = _example(entry, body) if body is not None else None
                if example is not None and example[0] not in seen:
                    seen.add(example[0])
                    text, label = example
                    out.write(msgspec.json.encode({"text": text, "label": label}) + b"\n")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}.") from error
    return len(seen)


def _taught(entries: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
    """The entries whose answer is the large model's, where a small one was asked, and the name their bodies go by."""
    for entry in entries:
        verdicts = {decision.verdict for decision in entry.decisions if decision.lever == "cascade"}
        if entry.corrects or entry.error or entry.status != 200:
            continue
        if is_audit(entry):
            tried = any(decision.facts.get("rung") == entry.upstream for decision in entry.decisions)
            yield entry, entry.group if tried else entry.id
        elif not entry.superseded and verdicts and "answered" not in verdicts:
            yield entry, entry.group


def _example(entry: Entry, body: Body) -> tuple[str, str] | None:
    """What was asked last, and the answer to it; `None` where either is missing."""
    try:
        reply = Reply(200, body.reply, streamed=entry.stream)
        plain = dialects.render(Call(entry.endpoint, entry.model, body.request), reply).body  # type: ignore[arg-type]
        text = text_asked(Recorded(at=entry.at, model=entry.model, request=msgspec.Raw(body.request)))
    except UpstreamGarbage:
        return None
    label = dialects.answer_text(entry.endpoint, plain)  # type: ignore[arg-type]
    return (text, label.strip()) if text and label and label.strip() else None
