"""Cascades: small models that answer what they are sure of, and step aside when audits find them wrong too often."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from farthing.schema import Route

Exceeds = Callable[[int, int, float], bool]
"""Whether, of so many answers audited, so many that disagreed prove a share above a gate."""

LONGEST_LABEL: Final = 64
"""Characters of an answer that is still taken for a label: longer ones are compared, and not written down."""
_VERSIONS: Final = 8
"""Versions of a model whose audits are remembered at once, of each rung."""
_AROUND: Final = " \t\r\n\f\v\xa0.,;:!?\"'`*()[]{}<>\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026\u3002"
"""What may stand around a label without changing it; `+`, `#`, `-`, `_` and the like may be part of one."""


def topped(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Ranked routes, of which the last rank answers whatever comes: there is nobody that it could decline to."""
    top = routes[-1].rank
    return tuple(
        msgspec.structs.replace(route, accept=0.0, audit=0.0, gate=0.0)
        if route.rank == top and (route.accept or route.audit or route.gate)
        else route
        for route in routes
    )


def above(routes: Sequence[Route], rung: Route) -> list[Route]:
    """The routes of a higher rank than a rung that declined, in their order; its peers are no surer than it is."""
    return [route for route in routes if route.rank > rung.rank]


def label(answer: str) -> str:
    """What an answer says, however it is dressed: without the spaces and punctuation around it, and caseless.

    >>> label(' **Card_Arrival**. '), label("C++"), label("“Oui”")
    ('card_arrival', 'c++', 'oui')
    """
    return answer.strip(_AROUND).casefold()


def agree(one: str, other: str) -> bool:
    """Whether two answers are the same label."""
    return label(one) == label(other)


def shown(answer: str) -> str:
    """The label of an answer as it is written down: empty when it is too long to be one, so that no prose is kept."""
    name = label(answer)
    return name if len(name) <= LONGEST_LABEL and "\n" not in name else ""


class Standing(msgspec.Struct, frozen=True):
    """What audits have found of one rung since its process started."""

    model: str
    upstream: str
    audited: int
    disagreed: int
    stepped_aside: bool


class Watch:
    """What audits say of one rung. Once those of a version of its model exceed the gate, that version stands aside.

    A model that was replaced is watched anew, so that the rung gets its calls back.
    """

    def __init__(self, route: Route, exceeds: Exceeds) -> None:
        self._route = route
        self._exceeds = exceeds
        self._versions: dict[str, tuple[int, int, bool]] = {}
        self._audited = self._disagreed = 0
        self.aside = False

    def note(self, agreed: bool, version: str) -> bool:
        """Take note of one audit of an answer by a version of the model; whether it changed where the rung stands."""
        audited, disagreed, exceeded = self._versions.pop(version, (0, 0, False))
        audited, disagreed = audited + 1, disagreed + (not agreed)
        gate = self._route.gate
        exceeded = exceeded or (gate > 0 and self._exceeds(audited, disagreed, gate))
        self._versions[version] = audited, disagreed, exceeded
        if len(self._versions) > _VERSIONS:
            del self._versions[next(iter(self._versions))]
        self._audited += 1
        self._disagreed += not agreed
        before, self.aside = self.aside, exceeded
        return self.aside != before

    @property
    def standing(self) -> Standing:
        """Where the rung stands, with all audits of any version."""
        return Standing(self._route.model, self._route.upstream, self._audited, self._disagreed, self.aside)
