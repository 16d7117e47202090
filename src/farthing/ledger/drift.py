"""Drift: how the rungs of cascades did, and what audits found of them, from entries."""

from collections import Counter
from collections.abc import Callable, Iterable
from math import sqrt

import msgspec

from farthing.ledger.corrections import Settled, settle
from farthing.schema import Decision, Entry

Exceeds = Callable[[int, int, float], bool]
"""Whether, of so many audited, so many that disagreed prove a share above a gate."""
Interval = Callable[[float, float], tuple[float, float]]
"""Where a share lies, of which so many of so many were seen."""

MOST_CONFUSIONS = 10
_Z95 = 1.959964


class Confusion(msgspec.Struct, frozen=True):
    """What a rung answered where the next rank answered `reference`; empty stands for more than a label."""

    answer: str
    reference: str
    times: int


class Spared(msgspec.Struct, frozen=True):
    """What the next rank would have cost for the calls that a rung answered, in pico-dollars, with a 95 % interval.

    It is what audits of them cost on average, times how many they are: audited calls are drawn from them by chance.
    """

    amount: int
    low: int
    high: int


class Rung(msgspec.Struct, frozen=True):
    """What the ledger says of one rung. Money is in pico-dollars, as far as it is known.

    `answered` and `escalated` count calls; `stepped_aside` those that it was not asked for. Of `audited` answers
    `disagreed` differed, which is `share`, between `low` and `high`; `unanswered` audits had nothing to compare.
    `cost` is of its own attempts, `escalated_cost` of those that followed what it declined, `audit_cost` of audits, and
    `unpriced` counts what of all these has no known cost. `spared` is unknown where the audits' cost is.
    """

    model: str
    upstream: str
    answered: int
    escalated: int
    stepped_aside: int
    audited: int
    disagreed: int
    unanswered: int
    share: float | None
    low: float
    high: float
    exceeded: bool
    cost: int
    escalated_cost: int
    audit_cost: int
    unpriced: int
    spared: Spared | None
    confusions: tuple[Confusion, ...]

    @property
    def net(self) -> int | None:
        """What it saved, less what it and its audits cost; `None` when that is not known."""
        return None if self.spared is None or self.unpriced else self.spared.amount - self.cost - self.audit_cost


class Rules(msgspec.Struct, frozen=True):
    """What disagreement is held against: the `gate`, and the statistics that say whether it was passed."""

    gate: float
    exceeds: Exceeds
    interval: Interval


def is_audit(entry: Entry) -> bool:
    """Whether an attempt was made to check an answer: its own went to nobody."""
    return entry.superseded and any(decision.lever == "audit" for decision in entry.decisions)


def rungs(entries: Iterable[Entry], rules: Rules) -> tuple[Rung, ...]:
    """Every rung of which some entries tell, by model and upstream; they come by arrival, corrections among them."""
    found: dict[tuple[str, str], _Seen] = {}
    for settled in settle(entries):
        entry = settled.entry
        audit = is_audit(entry)
        attempt = 0
        for decision in entry.decisions:
            attempt += decision.lever == "route"
            name = decision.facts.get("rung")
            if isinstance(name, str):
                seen = found.setdefault((entry.model, name), _Seen())
                if audit:
                    seen.audit(settled, decision, name)
                elif decision.lever == "cascade":
                    seen.attempt(settled, decision, attempt)
    return tuple(seen.rung(model, upstream, rules) for (model, upstream), seen in sorted(found.items()))


class _Seen:
    """What was seen of one rung so far."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.audits: Counter[str] = Counter()
        self.confusions: Counter[tuple[str, str]] = Counter()
        self.cost = self.escalated_cost = self.audit_cost = self.unpriced = 0
        self.asked = self.asked_cost = self.asked_squares = 0
        self.asked_unpriced = 0

    def attempt(self, settled: Settled, decision: Decision, number: int) -> None:
        """Add an attempt of a call in which the rung's was the one of a number; 0 when it was not asked."""
        entry = settled.entry
        if not entry.superseded:
            self.verdicts[decision.verdict] += 1
        if number and entry.attempt == number:
            self.cost += self._known(settled)
        elif decision.verdict == "escalated" and entry.attempt > number:
            self.escalated_cost += self._known(settled)

    def audit(self, settled: Settled, decision: Decision, rung: str) -> None:
        """Add an audit."""
        cost = self._known(settled)
        self.audit_cost += cost
        self.audits[decision.verdict] += 1
        if settled.entry.upstream != rung:
            self.asked += 1
            self.asked_cost += cost
            self.asked_squares += cost * cost
            self.asked_unpriced += settled.cost is None
        if decision.verdict == "disagreed":
            facts = decision.facts
            self.confusions[str(facts.get("answer") or ""), str(facts.get("reference") or "")] += 1

    def rung(self, model: str, upstream: str, rules: Rules) -> Rung:
        disagreed = self.audits["disagreed"]
        audited = disagreed + self.audits["agreed"]
        low, high = rules.interval(disagreed, audited) if audited else (0.0, 1.0)
        return Rung(
            model=model,
            upstream=upstream,
            answered=self.verdicts["answered"],
            escalated=self.verdicts["escalated"],
            stepped_aside=self.verdicts["stepped_aside"],
            audited=audited,
            disagreed=disagreed,
            unanswered=self.audits.total() - audited,
            share=disagreed / audited if audited else None,
            low=low,
            high=high,
            exceeded=rules.exceeds(audited, disagreed, rules.gate),
            cost=self.cost,
            escalated_cost=self.escalated_cost,
            audit_cost=self.audit_cost,
            unpriced=self.unpriced,
            spared=self._spared(),
            confusions=tuple(
                Confusion(*pair, times)
                for pair, times in sorted(self.confusions.items(), key=lambda item: (-item[1], item[0]))[
                    :MOST_CONFUSIONS
                ]
            ),
        )

    def _known(self, settled: Settled) -> int:
        self.unpriced += settled.cost is None
        return settled.cost or 0

    def _spared(self) -> Spared | None:
        """By the central limit theorem, over two audits or more."""
        n, answered = self.asked, self.verdicts["answered"]
        if n < 2 or self.asked_unpriced:
            return None
        mean = self.asked_cost / n
        spread = max(self.asked_squares / n - mean * mean, 0.0) * n / (n - 1)
        off = _Z95 * sqrt(spread / n)
        return Spared(round(mean * answered), round(max(mean - off, 0.0) * answered), round((mean + off) * answered))
