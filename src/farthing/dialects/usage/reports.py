"""Usage as it comes off the wire: typed when it is what is documented, picked apart with suspicion when it is not."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Generic, NamedTuple, TypeVar, get_args

import msgspec

from farthing.schema import Usage

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Given = bytes | msgspec.Raw
"""JSON as it was reported; empty and `null` say that nothing was."""


class Tally(NamedTuple):
    """Usage in buckets (`None` when missing or unreadable), the reported names that have no bucket, the tier served."""

    usage: Usage | None
    unknown: tuple[str, ...] = ()
    tier: str | None = None


NOTHING: Final = Tally(None)

Shape = Mapping[str, "Shape"]
S = TypeVar("S", bound=msgspec.Struct)
_ANY: Final = msgspec.json.Decoder()
_PLACE: Final = re.compile(r"`\$\.?(.*)`$")
_INDEX: Final = re.compile(r"\[\d*\.*\]")


class Report(Generic[S]):
    """Reads one kind of report into its struct, which must forbid unknown fields: that is how they are noticed."""

    def __init__(self, struct: type[S]) -> None:
        self._struct = struct
        self._decoder = msgspec.json.Decoder(struct)
        self._shape = _shape(struct)

    def read(self, given: Given) -> tuple[S | None, tuple[str, ...]]:
        """The report, and the names in it that are unknown; `None` and the culprit when a count is not a count.

        A negative, fractional, boolean or textual count makes the whole report untrustworthy.
        """
        try:
            return self._decoder.decode(given), ()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._pick(given)

    def _pick(self, given: Given) -> tuple[S | None, tuple[str, ...]]:
        try:
            tree = _ANY.decode(given)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None, ("usage",)
        if tree is None:
            return None, ()
        unknown: list[str] = []
        known = _known(tree, self._shape, "", unknown)
        try:
            return msgspec.convert(known, self._struct), tuple(dict.fromkeys(unknown))
        except msgspec.ValidationError as error:
            place = _PLACE.search(str(error))
            culprit = _INDEX.sub("", place[1]) if place else ""
            return None, (*dict.fromkeys(unknown), culprit or "usage")


def _shape(struct: type[msgspec.Struct]) -> Shape:
    """The field names of a struct, each with the shape of the struct it holds, if it holds one."""
    return {field.encode_name: _inner(field.type) for field in msgspec.structs.fields(struct)}


def _inner(kind: object) -> Shape:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _shape(kind)
    for argument in get_args(kind):
        if inner := _inner(argument):
            return inner
    return {}


def _known(value: object, shape: Shape, under: str, unknown: list[str]) -> object:
    """A report without what is unknown in it, whose names go to `unknown`; whole floats become integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not shape:
        return value
    if isinstance(value, list):
        return [_known(item, shape, under, unknown) for item in value]
    if not isinstance(value, dict):
        return value
    unknown += [under + name for name in value if name not in shape]
    return {
        name: _known(inner, shape[name], f"{under}{name}.", unknown) for name, inner in value.items() if name in shape
    }


def shares(total: int, *parts: int) -> list[int]:
    """Cut `total` into the parts, first come first served, and what is left over; the sum is always `total`.

    Providers count some tokens twice, under cache and under modality say; here each is counted once.

    >>> shares(100, 80, 0, 50)
    [80, 0, 20, 0]
    """
    if not any(parts):
        return [*parts, total]
    cut = []
    for part in parts:
        taken = part if part < total else total
        cut.append(taken)
        total -= taken
    cut.append(total)
    return cut
