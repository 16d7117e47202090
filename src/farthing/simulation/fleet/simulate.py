"""Simulating a fleet: a trace goes in a chunk at a time, what happened comes out."""

from collections.abc import Iterable

import msgspec
import numpy as np

from farthing.errors import RequestError
from farthing.simulation.fleet.arrivals import Arrivals, checked
from farthing.simulation.fleet.fleet import Fleet, check
from farthing.simulation.fleet.outcome import Outcome, outcome
from farthing.simulation.fleet.scaling import Change, Operator
from farthing.simulation.fleet.serving import NOTHING, Columns, columns_of, serve
from farthing.simulation.fleet.state import Records, Rules, State, empty_state, rules_of, with_room

KEPT = 20_000
"""Traces of at most so many requests come back with the times of each."""

_HOUR_S = 3600.0


def simulate(
    fleet: Fleet,
    arrivals: Arrivals | Iterable[Arrivals],
    dice: np.random.Generator | None = None,
    *,
    stepwise: bool = False,
) -> Outcome:
    """Serve a trace with a fleet until its last request is done.

    The trace may come in chunks and be of any length: memory grows with what is alive at once, not with it. `dice` is
    for interruptions and failures. `stepwise` composes every iteration anew, which changes no result and takes longer.
    Raises RequestError for a fleet or a trace that cannot be.
    """
    check(fleet)
    if dice is None and (fleet.spot or fleet.failures):
        raise RequestError("spot instances and failures need dice.", hint="Pass np.random.default_rng(seed).")
    chunks = checked(arrivals, fleet.engine)
    first = next(chunks)
    run = _Run(fleet, dice, first, stepwise)
    run.feed(first)
    for chunk in chunks:
        run.feed(chunk)
    return run.finish()


class _Run:
    """One simulation on its way. Its clock starts with the first arrival."""

    def __init__(self, fleet: Fleet, dice: np.random.Generator | None, first: Arrivals, stepwise: bool) -> None:
        self.fleet = fleet
        self.origin_s = float(first.arrival_s[0])
        self.prefix_tokens = first.prefix_tokens
        self.rules: Rules = rules_of(fleet, first.prefix_tokens, KEPT, stepwise)
        # Those that drain take room beside those that serve.
        slots = fleet.most if fleet.autoscaler is None and fleet.spot is None else 2 * fleet.most + 1
        self.state: State = with_room(empty_state(fleet, self.rules, slots), 0, 0, 1)
        self.operator = Operator(fleet, dice, slots)
        self.clock_s = 0.0
        self.last_s = 0.0
        self.kept: list[Records] = []
        self.nothing = columns_of(first.between(0, 0))
        for change in self.operator.begin(self.state):
            self._change(change)

    def feed(self, chunk: Arrivals) -> None:
        """Serve one more chunk, up to its last arrival."""
        if chunk.prefix_tokens != self.prefix_tokens:
            raise RequestError(
                f"the trace names prompts in blocks of {self.prefix_tokens} tokens and later of {chunk.prefix_tokens}.",
                hint="Give one size for the whole trace.",
            )
        columns = columns_of(msgspec.structs.replace(chunk, arrival_s=chunk.arrival_s - self.origin_s))
        self.last_s = float(columns.arrival_s[-1])
        self.state = with_room(self.state, len(chunk), len(chunk.prefix_ids), 0)
        index = 0
        while index < len(chunk):
            index = self._advance(columns, index, self.last_s)

    def finish(self) -> Outcome:
        """Serve on until nothing is left or the time is up."""
        end_s = self.last_s + self.fleet.drain_s
        while self._alive() and self.clock_s < end_s:
            self._advance(self.nothing, 0, min((self.clock_s // _HOUR_S + 1) * _HOUR_S, end_s))
        totals = self.state.totals[0]
        closing_s = float(totals["last_s"]) if not self._alive() else self.clock_s
        self.state = with_room(self.state, 0, 0, int(self.clock_s / _HOUR_S) + 2)
        self.operator.close(self.state, closing_s)
        served = np.concatenate(self.kept) if self.rules.keep else None
        if served is not None:
            served = served[np.argsort(served["number"])]
        return outcome(self.state, self.operator, served, self.rules.offset_s)

    def _advance(self, columns: Columns, index: int, until_s: float) -> int:
        """Up to the next event, and what follows from it, or up to `until_s`."""
        event = self.operator.due_s <= until_s
        self.clock_s = self.operator.due_s if event else until_s
        self.state = with_room(self.state, 0, 0, int(self.clock_s / _HOUR_S) + 2)
        index = serve(self.state, self.rules, self.fleet.costs, columns, index, self.clock_s, NOTHING, 0)
        if event:
            for change in self.operator.act(self.state, self.clock_s):
                self._change(change)
        self._collect()
        return index

    def _change(self, change: Change) -> None:
        serve(self.state, self.rules, self.fleet.costs, self.nothing, 0, self.clock_s, change.change, change.replica)
        self.state.replicas["status"][change.replica] = change.status

    def _collect(self) -> None:
        """Take over the requests that have finished, as long as there are few."""
        totals = self.state.totals[0]
        if not self.rules.keep:
            return
        if totals["finished"] > self.rules.keep:
            self.rules = self.rules._replace(keep=0)
            self.kept = []
            return
        self.kept.append(self.state.finished[: totals["kept"]].copy())
        totals["kept"] = 0

    def _alive(self) -> bool:
        totals = self.state.totals[0]
        return bool(totals["arrived"] > totals["finished"])
