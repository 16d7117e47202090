"""YAML by hand: the few forms that manifests need, each read back as what was meant, with a comment where it matters.

Strings stay bare only when no reader of YAML 1.1 or 1.2 can take them for anything else; all others are quoted.
"""

import math
import re
from collections.abc import Mapping, Sequence

import msgspec

_BARE = re.compile(r"(--[a-z][a-z0-9-]*|[A-Za-z/][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*)")
_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"))
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


class Noted(msgspec.Struct, frozen=True):
    """A value with a comment that says where it comes from."""

    value: object
    why: str


def comment(text: str) -> str:
    """Text on one line that nothing can break out of.

    >>> comment("from\\nelsewhere")
    'from elsewhere'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def scalar(value: object) -> str:
    """One value in YAML. Numbers that YAML would read as text are written so that it does not.

    >>> [scalar(value) for value in ("v0.11", "on", "8", 8, 1e-05, None)]
    ['v0.11', '"on"', '"8"', '8', '1.0e-05', 'null']
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in a manifest")
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa + ("" if "." in mantissa else ".0") + e + exponent
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) and value.lower() not in _WORDS else quoted(value)
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def quoted(text: str) -> str:
    """A string in double quotes, in printable ASCII throughout; PromQL reads it the same as YAML."""

    def escaped(character: str) -> str:
        code = ord(character)
        if character in _SHORT:
            return _SHORT[character]
        if 32 <= code < 127:
            return character
        return f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"

    return '"' + "".join(map(escaped, text)) + '"'


def write(document: Mapping[str, object], head: str = "") -> str:
    """One YAML document, under `head` as its comment, one line of it for each of the text's."""
    lines = [f"# {comment(line)}" if line else "#" for line in head.splitlines()]
    return "\n".join([*lines, *_lines(document)]) + "\n"


def _lines(value: object) -> list[str]:
    """A block: the lines of a mapping or a sequence that is not empty."""
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            lines += _entry(f"{scalar(key)}:", inner, "  ")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            lines += _item(inner)
    return lines


def _entry(key: str, value: object, indent: str) -> list[str]:
    value, why = (value.value, comment(value.why)) if isinstance(value, Noted) else (value, "")
    if _is_block(value):
        above = [f"# {why}"] if why else []
        return [*above, key, *(indent + line for line in _lines(value))]
    return [f"{key} {_flat(value)}" + (f"  # {why}" if why else "")]


def _item(value: object) -> list[str]:
    value, why = (value.value, comment(value.why)) if isinstance(value, Noted) else (value, "")
    if not _is_block(value):
        return [f"- {_flat(value)}" + (f"  # {why}" if why else "")]
    lines = _lines(value)
    told = next(count for count, line in enumerate(lines) if not line.startswith("# "))
    # A comment about the first entry goes above the dash: between dash and entry it would not be read.
    above = [*([f"# {why}"] if why else []), *lines[:told]]
    return [*above, f"- {lines[told]}", *("  " + line for line in lines[told + 1 :])]


def _is_block(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(value)


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, list | tuple) else scalar(value)
