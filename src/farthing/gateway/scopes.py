"""What a key may ask for: patterns of models and endpoints, its own and those of every key above it."""

from collections.abc import Callable, Sequence

import msgspec

from farthing.errors import Forbidden
from farthing.ports import Outlet
from farthing.schema import Call, Exchange, GatewayKey

ANYTHING = ("*",)


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern, in which "*" stands for any text, matches a whole name; in time linear in both.

    As "*" is never literal in a pattern, one pattern covers another exactly when it matches the text of it.

    >>> matches("gpt-*", "gpt-6-luna"), matches("gpt-*", "o9"), matches("*-mini", "gpt-*-mini")
    (True, False, True)
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, last = rest
    place, end = len(first), len(name) - len(last)
    if place > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        found = name.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True


class Scope(msgspec.Struct, frozen=True, gc=False):
    """What the key `name` may ask for: one alternative of each group of patterns has to match.

    There is a group for the key itself, and one for each key above it: so what a key may do is always part of what its
    parent may, whatever was written down.
    """

    name: str
    models: tuple[tuple[str, ...], ...] = ()
    endpoints: tuple[tuple[str, ...], ...] = ()

    def allows(self, endpoint: str, model: str) -> bool:
        """Whether it may ask for a model at an endpoint; listing models names none."""
        return _passes(self.endpoints, endpoint) and (not model or _passes(self.models, model))

    def check(self, call: Call) -> None:
        """Raises `Forbidden`, with what the key may ask for, when this call is none of it."""
        if not self.allows(call.endpoint, call.model):
            raise self._refusal(call)

    def _refusal(self, call: Call) -> Forbidden:
        what, asked, groups = f'the model "{call.model}"', call.model, self.models
        if not _passes(self.endpoints, call.endpoint):
            what, asked, groups = f"the endpoint {call.endpoint}", call.endpoint, self.endpoints
        allowed = next(", ".join(group) for group in groups if not _passes((group,), asked))
        return Forbidden(
            f'The key "{self.name}" may not use {what}; it may use {allowed}.',
            hint="Ask for one of these, or have a key made with `farthing key new` that may do more.",
            facts={"key": self.name, "asked": asked, "allowed": allowed},
        )


def scope_of(name: str, line: Sequence[GatewayKey]) -> Scope:
    """The scope of the key `name`, from the record of it and of the keys above it, its own first."""
    return Scope(
        name,
        tuple(key.models for key in line if key.models != ANYTHING),
        tuple(key.endpoints for key in line if key.endpoints != ANYTHING),
    )


def excess(child: GatewayKey, parent: GatewayKey) -> list[str]:
    """In which ways a key would exceed its parent, in phrases; none when all it may do is part of what the parent may.

    Each pattern has to be covered by one of the parent's: what only several of them cover together does not count.
    """
    found = [
        f'{noun} "{pattern}" (it may use {", ".join(theirs)})'
        for noun, ours, theirs in (
            ("the model", child.models, parent.models),
            ("the endpoint", child.endpoints, parent.endpoints),
        )
        for pattern in ours
        if not any(matches(wider, pattern) for wider in theirs)
    ]
    found += [
        f'the {noun} "{ours}" (its own is "{theirs}")'
        for noun, ours, theirs in (("tenant", child.tenant, parent.tenant), ("team", child.team, parent.team))
        if theirs and ours != theirs
    ]
    if parent.expires is not None and (child.expires is None or child.expires > parent.expires):
        found.append("a later end")
    return found


class Admit:
    """The stage that refuses what a caller's key may not do. It fails closed."""

    def __init__(self, scope_of: Callable[[str], Scope]) -> None:
        """`scope_of` gives the scope of a key that is in force, by name, and raises `Unauthorized` for another."""
        self._scope_of = scope_of

    async def __call__(self, exchange: Exchange, outlet: Outlet | None) -> Exchange:
        """Raises `Forbidden`, or `Unauthorized` when the key is in force no longer."""
        scope = self._scope_of(exchange.caller.key)
        if scope.models or scope.endpoints:
            scope.check(exchange.call)
        return exchange


def _passes(groups: Sequence[Sequence[str]], name: str) -> bool:
    return all(any(matches(pattern, name) for pattern in group) for group in groups)
