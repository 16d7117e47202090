"""Routes by model name: exact names before patterns, longer patterns before shorter ones."""

import difflib
import re
from collections.abc import Callable, Collection, Sequence

import msgspec

from farthing.errors import UnknownModel
from farthing.routing.cascading import topped
from farthing.schema import Call
from farthing.schema.policy import Route

MEMO_LIMIT = 10_000
"""Model names come from callers, so the memory of them is bounded."""


class RouteTable:
    """The routes of a policy, ready to be asked."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: ("*" in route.model, -len(route.model)))
        self._patterns = [re.compile(re.escape(r.model).replace(r"\*", ".*"), re.DOTALL) for r in self._routes]
        self._memo: dict[tuple[str, str], tuple[Route, ...]] = {}

    def choose(self, call: Call) -> Route:
        """The first of the routes that may serve a call; see `candidates`."""
        return self.candidates(call)[0]

    def candidates(self, call: Call) -> tuple[Route, ...]:
        """The routes that may serve a call, lowest rank first: those of its model's exact name, else the upstream that
        the name begins with ("groq/llama-4": the prefix chooses, and is taken off before asking), else those of the
        longest pattern that fits. A route of rank 0 stands alone, where none of another rank has its pattern.

        Raises UnknownModel, with the nearest name that is served.
        """
        found = self._memo.get((call.endpoint, call.model))
        if found is None:
            found = self._find(call)
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[call.endpoint, call.model] = found
        return found

    def names(self) -> list[str]:
        """Model names that are served by name rather than by pattern, in order."""
        return sorted({route.model for route in self._routes if "*" not in route.model})

    def _find(self, call: Call) -> tuple[Route, ...]:
        pairs = zip(self._routes, self._patterns, strict=True)
        fitting = [(route, pattern) for route, pattern in pairs if call.endpoint in route.endpoints]
        if named := [route for route, _ in fitting if "*" not in route.model and route.model == call.model]:
            return _ranked(named)
        upstream, _, rest = call.model.partition("/")
        for route, pattern in fitting:
            if route.upstream == upstream and pattern.fullmatch(rest):
                served_as = route.served_as or rest
                return topped((msgspec.structs.replace(route, model=call.model, served_as=served_as, rank=0),))
        matching = [route for route, pattern in fitting if pattern.fullmatch(call.model)]
        if not matching:
            raise self._unknown(call)
        return _ranked([route for route in matching if route.model == matching[0].model])

    def _unknown(self, call: Call) -> UnknownModel:
        elsewhere = [r for r, p in zip(self._routes, self._patterns, strict=True) if p.fullmatch(call.model)]
        if elsewhere:
            return UnknownModel(
                f'The model "{call.model}" is not served on {call.path or call.endpoint}.',
                hint=f"Its upstream, {elsewhere[0].upstream}, serves: {', '.join(elsewhere[0].endpoints)}.",
            )
        near = difflib.get_close_matches(call.model, self.names(), 1)
        hint = f'Did you mean "{near[0]}"?' if near else "Add a route or an upstream that lists it in `models`."
        return UnknownModel(f'No upstream serves the model "{call.model}".', hint=hint)


def _ranked(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Routes of one pattern in the order of their ranks."""
    ranked = sorted((route for route in routes if route.rank), key=lambda route: route.rank)
    return topped(tuple(ranked) or (routes[0],))


def order(candidates: Sequence[Route], resting: Collection[str], draw: Callable[[], float]) -> list[Route]:
    """Routes in the order to be asked: rank by rank, each rank shuffled by weight, those whose upstream rests last.

    `draw` gives random numbers in [0, 1). Within a rank, each place goes to one of the routes left with a chance in
    proportion to its weight (Efraimidis and Spirakis, 2006: order by u^(1/w)).
    """
    return sorted(
        candidates, key=lambda route: (route.upstream in resting, route.rank, -(draw() ** (1 / route.weight)))
    )
