"""The shape of the settings: which names and values are valid at a path, and what is wrong with a given one."""

import types
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from farthing.config.document import Path, Step, dotted
from farthing.config.settings import SECRET, Settings

Kind = Any
"""A type annotation of a field of Settings."""

_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class Fault(Struct, frozen=True):
    """One thing that is wrong, and the path it stands at."""

    path: Path
    message: str


def faults(kind: Kind, given: object, path: Path = ()) -> Iterator[Fault]:
    """Everything about a given value that its type does not allow, outermost first."""
    if is_table(kind):
        yield from _table_faults(kind, given, path)
    elif _origin(kind) is dict:
        inner = get_args(kind)[1]
        if isinstance(given, dict):
            for name, value in given.items():
                yield from faults(inner, value, (*path, name))
        else:
            yield Fault(path, f"{dotted(path)} must be tables such as [{dotted(path)}.NAME]")
    elif is_rows(kind):
        if isinstance(given, list):
            for index, value in enumerate(given):
                yield from faults(get_args(kind)[0], value, (*path, index))
        else:
            yield Fault(path, f"{dotted(path)} must be a list of tables, each under [[{dotted(path)}]]")
    else:
        yield from _leaf_faults(kind, given, path)


def is_table(kind: Kind) -> bool:
    """Whether values of this type are tables with fixed keys."""
    return isinstance(kind, type) and issubclass(kind, Struct)


def is_rows(kind: Kind) -> bool:
    """Whether values of this type are lists of tables."""
    return _origin(kind) is tuple and is_table(get_args(kind)[0])


def is_single(kind: Kind) -> bool:
    """Whether values of this type are one value, or a list of such, rather than tables."""
    return not (is_table(kind) or is_rows(kind) or _origin(kind) is dict)


def fields(kind: Kind) -> dict[str, msgspec.structs.FieldInfo]:
    """The keys of a table, by name."""
    return {field.name: field for field in msgspec.structs.fields(kind)}


def values(settings: Settings) -> Iterator[tuple[Path, Kind, Any]]:
    """Every single value of the settings, with its path and its type."""
    return _values(Settings, settings, ())


def kind_at(kind: Kind, path: Path) -> Kind | Fault:
    """The type of the value at a path, or what is wrong with the path."""
    for index, step in enumerate(path):
        if is_table(kind):
            known = fields(kind)
            if step not in known:
                return Fault(path[: index + 1], _no_such_key(path[:index], step, known))
            kind = known[str(step)].type
        elif _origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return Fault(path, f"{dotted(path[:index])} is not a table; it has no {step!r} to set")
    return kind


def read(kind: Kind, text: str) -> object:
    """A value from text, as the file would give it; text that does not fit comes back as it is, and is a fault."""
    kind_inside = get_args(kind)[0] if _origin(kind) is Annotated else kind
    if kind_inside is str or _origin(kind_inside) is Literal:
        return text
    if _origin(kind_inside) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return msgspec.convert(text, kind_inside, strict=False)
    except msgspec.ValidationError:
        return text


def expected(kind: Kind) -> str:
    """What a value of this type may be, in words."""
    if meta := _meta(kind):
        return meta.description or expected(get_args(kind)[0])
    if _origin(kind) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(kind))
    if _origin(kind) is tuple:
        return f"a list of {expected(get_args(kind)[0])}"
    if _origin(kind) is dict:
        return f"a table of {expected(get_args(kind)[1])}"
    if _origin(kind) in (Union, types.UnionType):
        return expected(get_args(kind)[0])
    return _PLAIN[kind]


def is_secret(kind: Kind) -> bool:
    """Whether values of this type refer to secrets."""
    return _meta(kind) is SECRET


def nearest(given: Step, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    if near := get_close_matches(str(given), names, n=1, cutoff=0.6):
        return f'; did you mean "{near[0]}"?'
    return f"; it may be {', '.join(sorted(names))}" if names else ""


def shown(given: object) -> str:
    """A given value as the file would write it, cut short when long."""
    text = str(given) if isinstance(given, float) else msgspec.json.encode(given, enc_hook=str).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _values(kind: Kind, value: Any, path: Path) -> Iterator[tuple[Path, Kind, Any]]:
    inner: Iterable[tuple[str | int, Kind, Any]]
    if is_table(kind):
        inner = ((name, field.type, getattr(value, name)) for name, field in fields(kind).items())
    elif is_rows(kind):
        inner = ((index, type(row), row) for index, row in enumerate(value))
    elif isinstance(value, dict):
        inner = ((name, type(row), row) for name, row in value.items())
    else:
        yield path, kind, value
        return
    for step, kind_below, below in inner:
        yield from _values(kind_below, below, (*path, step))


def _table_faults(kind: Kind, given: object, path: Path) -> Iterator[Fault]:
    if not isinstance(given, dict):
        yield Fault(path, f"{dotted(path)} must be a table, [{dotted(path)}]")
        return
    known = fields(kind)
    for name, value in given.items():
        if name in known:
            yield from faults(known[name].type, value, (*path, name))
        else:
            yield Fault((*path, name), _no_such_key(path, name, known))
    for name, field in known.items():
        if field.required and name not in given:
            yield Fault(path, f'{dotted(path)} has no "{name}", which it needs: {expected(field.type)}')


def _no_such_key(path: Path, name: Step, known: dict[str, msgspec.structs.FieldInfo]) -> str:
    place = dotted(path) if path and isinstance(path[-1], int) else f"[{dotted(path)}]"
    where = f"{place} has no key" if path else "there is no section"
    return f'{where} "{name}"{nearest(name, list(known))}'


def _leaf_faults(kind: Kind, given: object, path: Path) -> Iterator[Fault]:
    try:
        msgspec.convert(given, kind)
    except msgspec.ValidationError:
        if is_secret(kind):
            yield Fault(path, _literal_secret(path))
            return
        near = get_close_matches(str(given), get_args(kind), n=1) if _origin(kind) is Literal else []
        hint = f'; did you mean "{near[0]}"?' if near else ""
        yield Fault(path, f"{dotted(path)} is {shown(given)}; expected {expected(kind)}{hint}")


def _literal_secret(path: Path) -> str:
    return (
        f"{dotted(path)} must say where the secret is kept and not what it is (what was given is not repeated here); "
        'write "env:NAME" for a variable or "file:/path" for a file'
    )


def _origin(kind: Kind) -> object:
    return get_origin(kind)


def _meta(kind: Kind) -> Meta | None:
    if _origin(kind) is Annotated:
        return next((extra for extra in get_args(kind)[1:] if isinstance(extra, Meta)), None)
    return None
