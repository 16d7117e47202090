"""Which model a name means: exact names, wildcards, regular expressions, and dated snapshots of a family."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from farthing.pricing.edition import Model, Pattern, Provider, Ratio

LONGEST_NAME = 256
"""Longer names are nobody's model, and are not worth remembering."""

_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=[-:]|$)")
_FINAL_DATE = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6})$")


class Found(NamedTuple):
    """A model, the provider that was asked, the one whose rows price it, and at what factor.

    `borrowed` models are another maker's: only their standard tier is known to hold at the provider asked.
    """

    asked: Provider
    owner: Provider
    model: Model
    factor: Ratio
    borrowed: bool


def matches(pattern: Pattern, name: str) -> bool:
    """Whether a lower-case name fits a pattern.

    >>> matches("gpt-6-*", "gpt-6-sol"), matches(("*sol*", "/[0-9]$/"), "gpt-6-sol")
    (True, False)
    """
    if isinstance(pattern, tuple):
        return all(matches(part, name) for part in pattern)
    if pattern[:1] == "/" == pattern[-1:]:
        return re.search(pattern[1:-1], name) is not None
    if "*" not in pattern:
        return pattern == name
    return _matches_wildcards(pattern, name)


def _matches_wildcards(pattern: str, name: str) -> bool:
    first, *inner, last = pattern.split("*")
    position, end = len(first), len(name) - len(last)
    if position > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in inner:
        position = name.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def find(providers: Mapping[str, Provider], provider: str, model: str) -> Found | None:
    """The model that `model` means at `provider`, or at a maker when it is "": first those that serve such names.

    A name is tried as it is, then with a compact date spelled out, then without its date: a snapshot that has no
    row of its own costs what its family costs.
    """
    name = model.lower()
    if len(name) > LONGEST_NAME:
        return None
    if provider:
        home = providers.get(provider.lower())
        return _find_at(providers, home, name) if home else None
    makers = sorted(
        (maker for maker in providers.values() if maker.serves),
        key=lambda maker: not any(matches(pattern, name) for pattern in maker.serves),
    )
    return next(filter(None, (_find_at(providers, maker, name) for maker in makers)), None)


def _find_at(providers: Mapping[str, Provider], home: Provider, name: str) -> Found | None:
    return next(filter(None, (_find_spelling(providers, home, spelling) for spelling in _spellings(name))), None)


def _find_spelling(providers: Mapping[str, Provider], home: Provider, name: str) -> Found | None:
    if model := _own(home, name):
        return Found(home, home, model, Ratio(), borrowed=False)
    if home.like and (found := _find_spelling(providers, providers[home.like], name)):
        return found._replace(factor=home.factor)
    for lender in home.borrows:
        if model := _own(providers[lender], name):
            return Found(home, providers[lender], model, Ratio(), borrowed=True)
    return None


def _own(provider: Provider, name: str) -> Model | None:
    for model in provider.models:
        if name in model.names or name == model.id.lower():
            return model
    for model in provider.models:
        for pattern in model.names:
            if matches(pattern, name):
                return model
    return None


def _spellings(name: str) -> Iterator[str]:
    yield name
    spelled_out = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
    if spelled_out != name:
        yield spelled_out
    undated = _FINAL_DATE.sub("", name)
    if undated != name:
        yield undated
