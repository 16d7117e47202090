"""Records of the core as options of a command: one option per field, with its unit in its name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_type_hints

import click
import msgspec

R = TypeVar("R", bound=msgspec.Struct)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_KINDS: dict[type, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, str: click.STRING, bool: click.BOOL}


def asks(record: type[msgspec.Struct], helps: Mapping[str, str], prefix: str = "") -> Decorator:
    """Give a command an option for each field of `helps`: required where the record has no default for it.

    `prefix` tells the options of two records of one kind apart.
    """

    def given(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(tuple(helps)):
            function = _option(record, name, helps[name], prefix)(function)
        return function

    return given


def made(record: type[R], given: Mapping[str, Any], prefix: str = "", **rest: Any) -> R:
    """The record that options say; what was not given takes its default, or what `rest` says."""
    named = {name: given.get(f"{prefix}{name}") for name in record.__struct_fields__}
    return record(**rest, **{name: value for name, value in named.items() if value is not None and name not in rest})


def _option(record: type[msgspec.Struct], name: str, told: str, prefix: str) -> Decorator:
    field = next(field for field in msgspec.structs.fields(record) if field.name == name)
    hint = get_type_hints(record)[name]
    kind = next(kind for kind in (hint, *get_args(hint)) if kind in _KINDS)
    shown = f" [default: {field.default}]" if not field.required and field.default not in (None, "") else ""
    return click.option(
        f"--{prefix}{name}".replace("_", "-"),
        f"{prefix}{name}",
        type=_KINDS[kind],
        required=field.required,
        help=told + shown,
        metavar="X",
    )


def listed(rows: Sequence[tuple[str, str]]) -> str:
    """Names and figures, one pair a line."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {figure}" for name, figure in rows)
