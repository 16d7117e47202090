"""Routes by model name: exact names before patterns, longer patterns before shorter ones."""

import difflib
import re
from collections.abc import Sequence

from farthing.errors import UnknownModel
from farthing.schema import Call
from farthing.schema.policy import Route

MEMO_LIMIT = 10_000
"""Model names come from callers, so the memory of them is bounded."""


class RouteTable:
    """The routes of a policy, ready to be asked."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: ("*" in route.model, -len(route.model)))
        self._patterns = [re.compile(re.escape(r.model).replace(r"\*", ".*"), re.DOTALL) for r in self._routes]
        self._memo: dict[tuple[str, str], Route] = {}

    def choose(self, call: Call) -> Route:
        """The route of a call: by its model's exact name, else by the upstream that the name begins with
        ("groq/llama-4": the prefix chooses, and is taken off before asking), else by the longest pattern that fits.

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

    def _find(self, call: Call) -> Route:
        upstream, _, rest = call.model.partition("/")
        for route, pattern in self._fitting(call):
            if "*" not in route.model and pattern.fullmatch(call.model):
                return route
        for route, pattern in self._fitting(call):
            if route.upstream == upstream and pattern.fullmatch(rest):
                return Route(call.model, upstream, route.endpoints, route.served_as or rest, route.cache)
        for route, pattern in self._fitting(call):
            if pattern.fullmatch(call.model):
                return route
        raise self._unknown(call)

    def _fitting(self, call: Call) -> list[tuple[Route, re.Pattern[str]]]:
        pairs = zip(self._routes, self._patterns, strict=True)
        return [(route, pattern) for route, pattern in pairs if call.endpoint in route.endpoints]

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
